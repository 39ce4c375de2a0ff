// Scenario 1: a VPS is gone with its processes and disks, `pulumi up` brings it back. Played twice: for a tenant on
// EC2, whose address survives, and for one on a host of its own, which moves to another address.

import { DKIM_SELECTOR, mailHost, tenantStack } from "../../stacks/names.ts";
import type { Lab } from "../lab/lab.ts";
import { pulumi, upTenant } from "../lab/project.ts";
import { ACME, GLOBEX, type LabTenant } from "../lab/tenants.ts";
import { askMailu, canLogIn, decrypt, dkimOnHost, dns, prove, readRecord } from "./doors.ts";
import { runbook } from "./runbook.ts";
import type { Measured, Scenario, Stage } from "./scenario.ts";
import { requireUntouched, snapshot } from "./snapshot.ts";
import { auditOf } from "./told.ts";

export const scenario1: Scenario = {
  name: "1 VPS failure",
  targetRto: 3600,
  targetRpo: 0,
  play: async (stage) => {
    const onEc2 = await loseAndRebuild(stage, { lost: ACME, untouched: GLOBEX });
    const moved = await loseAndRebuild(stage, { lost: GLOBEX, untouched: ACME, moves: true });
    return { rto: Math.max(onEc2.rto, moved.rto), rpo: Math.max(onEc2.rpo, moved.rpo) };
  },
};

interface Loss {
  lost: LabTenant;
  untouched: LabTenant;
  /** The rebuilt host has another address. */
  moves?: boolean;
}

async function loseAndRebuild({ lab, step }: Stage, { lost, untouched, moves }: Loss): Promise<Measured> {
  const t = lost.id;
  const stack = tenantStack(t);
  // The newest change to a credential is the first that a loss would take along.
  await step(`${t}: its password is changed a moment before`, () =>
    runbook(lab, ["emergency-reset", "--tenant", t, "--incident", `DRILL-1-${t}`, "--reason", "A drill"]),
  );
  const [before, other] = await step(`${t}: what is there before`, () =>
    Promise.all([snapshot(lab, lost), snapshot(lab, untouched)]),
  );
  await step(`${t}: VPS at ${before.address} lost: processes and disks`, () =>
    lab.hosts.kill(before.address, "terminated", false),
  );
  await step(`${t}: nothing answers there`, () => silence(before.address, lost, before.password));
  let address = before.address;
  if (moves === true) {
    address = (await step(`${t}: another host is brought`, () => lab.hosts.bootExisting(t))).address;
  }

  const begin = performance.now();
  if (moves === true) {
    await step(`${t}: pulumi config set existing.address ${address}`, () =>
      pulumi(lab.dir, lab.env, ["config", "set", "--path", "existing.address", address, "--stack", stack]),
    );
  }
  await step(`${t}: pulumi up --stack ${stack}`, () => pulumi(lab.dir, lab.env, upTenant(lost)));
  const recovered = await step(`${t}: login with Vault's password (SMTP AUTH, IMAP)`, () =>
    newestThatLogsIn(lab, lost, address),
  );
  const rto = (performance.now() - begin) / 1000;
  const rpo = Math.max(0, (before.admin.created.getTime() - recovered.created.getTime()) / 1000);

  await step(`${t}: same DKIM key, and the one that DNS shows`, async () => {
    const dkim = await dkimOnHost(lab, address, lost);
    prove(dkim.sha256 === before.dkim.sha256, `${t}'s DKIM key is another one than before`);
    const [shown = ""] = await dns(lab, lost, `${DKIM_SELECTOR}._domainkey.${lost.domain}`, "TXT");
    prove(
      shown.includes(`p=${dkim.publicKey}`),
      `DNS shows another DKIM key than ${t}'s host signs with: ${shown}`,
    );
  });
  await step(`${t}: same API token works`, async () => {
    const { status } = await askMailu(address, lost, before.apiToken, "GET", `domain/${lost.domain}`);
    prove(status === 200, `Mailu's API answers ${status} to the token that Vault holds`);
  });
  await step(
    `${t}: DNS names ${address}${moves === true ? ` and no longer ${before.address}` : ""}`,
    async () => {
      prove((moves === true) === (address !== before.address), `${t}'s address is ${address}`);
      const found = await dns(lab, lost, mailHost(lost.domain), "A");
      prove(found.join() === address, `DNS names ${found.join(", ") || "nothing"} instead of ${address}`);
    },
  );
  await step(`${t}: the audit log tells of it`, () => auditTells(lab, lost, address));
  await step(`${untouched.id}: untouched`, () => requireUntouched(lab, untouched, other));
  await step(`${t}: pulumi up again changes nothing`, () =>
    pulumi(lab.dir, lab.env, [...upTenant(lost), "--expect-no-changes"]),
  );
  return { rto, rpo };
}

/** Proves that the dead host is dead: a login that still worked would make the rebuild's proof worth nothing. */
async function silence(address: string, tenant: LabTenant, password: string): Promise<void> {
  const answer = await canLogIn(address, tenant, password).catch(() => undefined);
  prove(answer === undefined, `The lost host at ${address} still answers`);
}

/** The newest version of the credential in Vault that the rebuilt server accepts. Throws if it accepts none. */
async function newestThatLogsIn(lab: Lab, tenant: LabTenant, address: string): Promise<{ created: Date }> {
  const newest = await readRecord(lab, tenant, "admin");
  for (let version = newest.version; version > 0; version--) {
    const one = await readRecord(lab, tenant, "admin", version);
    if (await canLogIn(address, tenant, await decrypt(lab, tenant, one.fields.password))) return one;
  }
  throw new Error(`${tenant.id}'s rebuilt server at ${address} accepts no password that Vault holds`);
}

async function auditTells(lab: Lab, tenant: LabTenant, address: string): Promise<void> {
  const recoveries = (await auditOf(lab.dir, tenant)).filter(
    ({ event }) => event === "smtp_credentials_recovered",
  );
  prove(
    recoveries.at(-1)?.details.new_vps_ip === address,
    `The audit log has no smtp_credentials_recovered for ${tenant.id} at ${address}`,
  );
}
