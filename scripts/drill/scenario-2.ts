// Scenario 2: Vault's process and its data are destroyed. A new, empty Vault gets the newest backup from the bucket, by
// two of the three key shares. One tenant's password was changed after that backup, as after a leak: the one that comes
// back with it is another one than the mail server's, and belongs to somebody else by now.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ListObjectVersionsCommand, S3Client } from "@aws-sdk/client-s3";
import { z } from "zod";
import { BACKUP_BUCKET, BACKUPS, MANIFEST, metadataPath, PLATFORM_STACK } from "../../stacks/names.ts";
import { awsClient } from "../lab/cloud.ts";
import { order } from "../lab/control.ts";
import type { Lab } from "../lab/lab.ts";
import { renewLogins } from "../lab/logins.ts";
import { openLab } from "../lab/place.ts";
import { pulumi } from "../lab/project.ts";
import { ACME, GLOBEX, type LabTenant } from "../lab/tenants.ts";
import { vaultCall } from "../lab/vault.ts";
import { acceptedBy, askMailu, decrypt, decrypts, prove, readRecord } from "./doors.ts";
import { asBackup, runbook } from "./runbook.ts";
import type { Measured, Scenario, Stage } from "./scenario.ts";
import { requireUntouched, type Snapshot, snapshot } from "./snapshot.ts";
import { restoresOf } from "./told.ts";

export const scenario2: Scenario = {
  name: "2 Vault loss",
  targetRto: 1800,
  targetRpo: 86_400,
  play: async ({ lab, step }) => {
    await step("runbook backup-vault, by automation's AppRole", () =>
      runbook(lab, ["backup-vault"], asBackup(lab)),
    );
    await step("runbook verify-backup: it opens", () => runbook(lab, ["verify-backup"], asBackup(lab)));
    const backedUp = await Promise.all([snapshot(lab, ACME), snapshot(lab, GLOBEX)]);
    await step(`${GLOBEX.id}: its password is changed after the backup`, () =>
      runbook(lab, [
        "emergency-reset",
        ...["--tenant", GLOBEX.id, "--incident", "DRILL-2", "--reason", "A drill", "--again"],
      ]),
    );
    const lost = await step("what is there before", () =>
      Promise.all([snapshot(lab, ACME), snapshot(lab, GLOBEX)]),
    );
    return restore({ lab, step }, { acme: lost[0], backedUp: backedUp[1], globex: lost[1] });
  },
};

interface Situation {
  acme: Snapshot;
  /** Globex at the time of the backup, and as the loss found it. */
  backedUp: Snapshot;
  globex: Snapshot;
}

async function restore(
  { lab: before, step }: Stage,
  { acme, backedUp, globex }: Situation,
): Promise<Measured> {
  const known = await manifests(before);
  const restored = (await restoresOf(before.dir)).length;
  const lostAt = Date.now();
  await step("Vault lost: process and data; an empty one is started in its place", async () => {
    await order(before.dir, { order: "vault", how: "lost" });
    const { status } = await fetch(`${before.place.vaultAddr}/v1/sys/health`);
    prove(status === 501, `The new Vault isn't empty: its health page answers ${status}`);
  });

  const begin = performance.now();
  await step(
    "runbook restore-vault --date latest --reconcile, with two of the three key shares",
    async () => {
      const shares = (await readFile(join(before.dir, "unseal-keys"), "utf8")).trim().split("\n").slice(0, 2);
      const nobody = { VAULT_TOKEN: undefined };
      await runbook(before, ["restore-vault", "--date", "latest", "--reconcile"], nobody, shares.join("\n"));
    },
  );
  const lab = await step("people make themselves new tokens, by the key shares", async () => {
    await renewLogins(before.dir);
    return { ...before, ...(await openLab(before.dir)) };
  });
  for (const [tenant, was] of [
    [ACME, acme],
    [GLOBEX, globex],
  ] as const)
    await step(`${tenant.id}: login with Vault's password (SMTP AUTH, IMAP), same API token`, () =>
      requireUsable(lab, tenant, was),
    );
  const rto = (performance.now() - begin) / 1000;

  await step(`${ACME.id}: as it was, to the version`, () => requireUntouched(lab, ACME, acme));
  await step(`${GLOBEX.id}: neither the backup's password logs in nor that of before the loss`, () =>
    requireReconciled(lab, backedUp, globex),
  );
  const asOf = await step("the audit log tells of it", async () => {
    const told = (await restoresOf(lab.dir)).slice(restored);
    prove(told.length === 1, `The audit log has vault_restored_from_backup ${told.length} times`);
    return told[0]?.as_of ?? Number.NaN;
  });
  await step("a new backup lies in the bucket", async () => {
    const made = (await manifests(lab)).filter((one) => !known.includes(one));
    prove(made.length === 1, `The restored Vault was backed up ${made.length} times`);
  });
  await step(`pulumi up --stack ${PLATFORM_STACK} changes nothing`, () =>
    pulumi(lab.dir, lab.env, [
      ...["up", "--yes", "--skip-preview", "--stack", PLATFORM_STACK],
      "--expect-no-changes",
    ]),
  );
  return { rto, rpo: (lostAt - asOf) / 1000 };
}

async function requireUsable(lab: Lab, tenant: LabTenant, was: Snapshot): Promise<void> {
  const password = await decrypt(lab, tenant, (await readRecord(lab, tenant, "admin")).fields.password);
  const where = (await acceptedBy(was.address, tenant, password)).join(" and ");
  prove(where === "SMTP and IMAP", `${where || "Nothing"} takes ${tenant.id}'s password`);
  const token = await decrypt(lab, tenant, (await readRecord(lab, tenant, "mailu")).fields.api_token);
  const { status } = await askMailu(was.address, tenant, token, "GET", `domain/${tenant.domain}`);
  prove(status === 200, `Mailu's API answers ${status} to the token of ${tenant.id} that Vault holds`);
}

const Marks = z.object({
  data: z.object({ custom_metadata: z.object({ compromised_versions: z.string() }) }),
});

/** The password that came back with the backup was replaced after an incident: somebody else may have it. */
async function requireReconciled(lab: Lab, backedUp: Snapshot, globex: Snapshot): Promise<void> {
  for (const { password } of [backedUp, globex]) {
    const where = (await acceptedBy(globex.address, GLOBEX, password)).join(" and ");
    prove(where === "", `${where} still takes a password of ${GLOBEX.id} from before the loss`);
  }
  const { version } = backedUp.admin;
  const came = await readRecord(lab, GLOBEX, "admin", version);
  prove(!(await decrypts(lab, GLOBEX, came.fields.password)), "Vault still decrypts the backup's password");
  const path = metadataPath(GLOBEX.id, "admin");
  const marks = Marks.parse(await vaultCall(lab.place.vaultAddr, lab.rootToken, "GET", path));
  const marked = marks.data.custom_metadata.compromised_versions.split(",");
  prove(marked.includes(String(version)), `Version ${version} of ${path} came back and isn't marked`);
}

/** Every manifest in the bucket, by object version. */
async function manifests(lab: Lab): Promise<string[]> {
  const s3 = new S3Client({ ...awsClient(lab.place.awsEndpoint), forcePathStyle: true });
  try {
    const found = await s3.send(
      new ListObjectVersionsCommand({ Bucket: BACKUP_BUCKET, Prefix: BACKUPS, MaxKeys: 1000 }),
    );
    return (found.Versions ?? [])
      .filter(({ Key }) => Key?.endsWith(`/${MANIFEST}`))
      .map(({ Key, VersionId }) => `${Key} ${VersionId}`);
  } finally {
    s3.destroy();
  }
}
