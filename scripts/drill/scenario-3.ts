// Scenario 3: a tenant's password is in a stranger's hands, who has made himself at home with it. The response runs as
// automation does, while a program of the tenant's goes on submitting mail.

import { randomUUID } from "node:crypto";
import { z } from "zod";
import { adminAddress, KV_MOUNT, MAILU_DATA, metadataPath, tenantPolicy } from "../../stacks/names.ts";
import type { Lab } from "../lab/lab.ts";
import { ACME, GLOBEX } from "../lab/tenants.ts";
import { vaultCall } from "../lab/vault.ts";
import { acceptedBy, decrypt, decrypts, onHost, prove, readRecord } from "./doors.ts";
import { asSystem, runbook } from "./runbook.ts";
import type { Measured, Scenario, Stage } from "./scenario.ts";
import { Sender } from "./sender.ts";
import { requireUntouched, type Snapshot, snapshot } from "./snapshot.ts";
import { type Tally, tally } from "./tally.ts";
import { Thief } from "./thief.ts";
import { requireAudited, requireTold } from "./told.ts";

/** Another one each time: an incident that had its rotation on a lab would get no second. */
const INCIDENT = `DRILL-3-${randomUUID().slice(0, 8)}`;

/** Messages that each client must bring through before the response and after it. */
const ENOUGH = 10;

export const scenario3: Scenario = {
  name: "3 credential compromise",
  targetRto: 300,
  targetRpo: 0,
  play: async ({ lab, step }) => {
    const t = ACME.id;
    const [before, other] = await step(`${t}: what is there before`, () =>
      Promise.all([snapshot(lab, ACME), snapshot(lab, GLOBEX)]),
    );
    const leaked = (await readRecord(lab, ACME, "admin")).fields.password;
    const thief = await step(`${t}: a thief logs in, stays connected, makes himself an app token`, () =>
      Thief.breakIn(ACME, before),
    );
    const sender = await step(`${t}: a program begins to submit mail without pause`, () =>
      startSender(lab, before),
    );
    try {
      return await respond({ lab, step }, { before, other, leaked, thief, sender });
    } finally {
      thief.leave();
      await sender.stop();
    }
  },
};

interface Situation {
  before: Snapshot;
  other: Snapshot;
  /** The leaked password as it lies in Vault. */
  leaked: unknown;
  thief: Thief;
  sender: Sender;
}

async function respond({ lab, step }: Stage, now: Situation): Promise<Measured> {
  const { before, other, leaked, thief, sender } = now;
  const t = ACME.id;
  const begin = performance.now();
  await step(`${t}: runbook respond-to-compromise, by automation's AppRole`, () =>
    runbook(
      lab,
      ["respond-to-compromise", "--incident", INCIDENT, "--details", "A drill", "--tenant", t],
      asSystem(lab),
    ),
  );
  await step(`${t}: the program goes on with the new password`, () => sender.accepts(ENOUGH));
  const password = await step(`${t}: the password in Vault is new and logs in (SMTP AUTH, IMAP)`, () =>
    requireNew(lab, before),
  );
  await step(`${t}: leaked password and app token are refused (535), the thief's connection was ended`, () =>
    thief.requireShutOut(),
  );
  await step(`${t}: the leaked password can't be decrypted any more and is marked`, () =>
    requireBuried(lab, before, leaked),
  );
  await step(`${t}: the audit log has both events, once each`, () => requireAudited(lab.dir, ACME, INCIDENT));
  await step(`${t}: tenant and security team were told`, async () =>
    requireTold(lab.dir, ACME, INCIDENT, {
      tokenName: Thief.TOKEN_NAME,
      secrets: [before.password, password],
    }),
  );
  const mail = await step(`${t}: the mailbox is counted`, () => countMail(lab, before.address, sender));
  const rto = (performance.now() - begin) / 1000;
  await step(`${GLOBEX.id}: untouched`, () => requireUntouched(lab, GLOBEX, other));
  return { rto, rpo: mail.lostSeconds, mail };
}

async function startSender(lab: Lab, { address }: Snapshot): Promise<Sender> {
  const asked = { policies: [tenantPolicy(ACME.id)], no_default_policy: true, no_parent: true, ttl: "1h" };
  const made = await vaultCall(lab.place.vaultAddr, lab.rootToken, "POST", "auth/token/create", asked);
  const { auth } = z.object({ auth: z.object({ client_token: z.string() }) }).parse(made);
  const { vaultAddr } = lab.place;
  const sender = await Sender.start({ address, tenant: ACME, vaultAddr, token: auth.client_token });
  await sender.accepts(ENOUGH);
  return sender;
}

async function requireNew(lab: Lab, before: Snapshot): Promise<string> {
  const { version, fields } = await readRecord(lab, ACME, "admin");
  const password = await decrypt(lab, ACME, fields.password);
  prove(version === before.admin.version + 1, `The response made version ${version} of the credential`);
  prove(password !== before.password, "The password is still the leaked one");
  const where = (await acceptedBy(before.address, ACME, password)).join(" and ");
  prove(where === "SMTP and IMAP", `Only ${where || "nothing"} takes the new password`);
  return password;
}

const Marks = z.object({
  data: z.object({
    custom_metadata: z.object({
      compromised: z.literal("true"),
      incident_id: z.string(),
      compromised_versions: z.string(),
    }),
  }),
});

/** Asked as root, so that no missing right is taken for a key that is gone. */
async function requireBuried(lab: Lab, before: Snapshot, leaked: unknown): Promise<void> {
  prove(!(await decrypts(lab, ACME, leaked)), "Vault still decrypts the leaked password");
  const { version } = before.admin;
  const answer = await vaultCall(lab.place.vaultAddr, lab.rootToken, "GET", metadataPath(ACME.id, "admin"));
  const marks = Marks.parse(answer).data.custom_metadata;
  const marked = marks.compromised_versions.split(",").includes(String(version));
  prove(
    marked && marks.incident_id === INCIDENT,
    `Version ${version} of ${KV_MOUNT}/${ACME.id}/admin is not marked`,
  );
}

/** Whatever was submitted must lie in the mailbox, as files on the host's disk. */
async function countMail(lab: Lab, address: string, sender: Sender): Promise<Tally> {
  const { submitted, retries } = await sender.stop();
  const stopped = performance.now();
  prove(retries > 0, "No client was refused or cut off: none of them lived through a rotation");
  const box = `${MAILU_DATA}/mail/${adminAddress(ACME.domain)}`;
  const headers = await onHost(lab, address, ACME, `grep -rh '^${Sender.HEADER}: ' ${box} || true`);
  return tally(submitted, sender.numbersIn(headers), stopped);
}
