// Daily: Vault's snapshot, sealed and stored. It counts only once it was read back byte for byte and its manifest stands
// beside it. Whether it opens is verify-backup's to say: this role can store backups and open none.
import { z } from "zod";
import { backupKey, CANARY, KV_MOUNT, MANIFEST, recordPath } from "../stacks/names.ts";
import { readCatalog } from "./lib/backup-catalog.ts";
import { ping, recordMetrics } from "./lib/backup-metrics.ts";
import { Manifest } from "./lib/backup-records.ts";
import { automationKey, backupBucket, recoveryKeys } from "./lib/backup-settings.ts";
import { BackupStore } from "./lib/backup-store.ts";
import {
  BackupIsHeld,
  type Canary,
  freeCanary,
  releaseCanary,
  stillOurs,
  writeCanary,
} from "./lib/canary.ts";
import { messageOf, RunbookError } from "./lib/errors.ts";
import { breakGlassFlag } from "./lib/flag-types.ts";
import { sealContext } from "./lib/open-backup.ts";
import type { Result } from "./lib/report.ts";
import { defineRunbook, type Run } from "./lib/runbook.ts";
import { openSession } from "./lib/session.ts";
import { type Taken, takeSnapshot } from "./lib/take-snapshot.ts";
import type { Stored, Vault } from "./lib/vault.ts";
import { leader, vaultFacts } from "./lib/vault-facts.ts";

const flags = z.object({
  takeOver: z
    .boolean()
    .default(false)
    .describe(
      "take the canary from a run on another machine that you know is dead, without waiting for an hour",
    ),
  breakGlass: breakGlassFlag,
});
type BackupRun = Run<z.infer<typeof flags>>;

export default defineRunbook({
  name: "backup-vault",
  summary: "store a sealed snapshot of Vault and read it back",
  example: "npx runbook backup-vault",
  flags,
  run: async (run) => {
    try {
      return await backup(run);
    } catch (error) {
      if (!run.dryRun && !(error instanceof BackupIsHeld)) await tellFailure(run, error);
      throw error;
    }
  },
});

async function backup(run: BackupRun): Promise<Result> {
  const settings = await run.settings();
  const store = new BackupStore(backupBucket(settings), "backup", run.env);
  const keys = [automationKey(settings), ...recoveryKeys(settings)];
  const { vault } = await openSession(run, "backup-operator", {
    "sys/storage/raft/snapshot": ["read"],
    [recordPath(CANARY, "admin")]: ["create", "read", "update"],
    [`${KV_MOUNT}/metadata`]: ["list"],
    "sys/audit": ["read", "sudo"],
  });
  const facts = await run.check("look what the manifest has to say of this Vault", async () => ({
    ...(await vaultFacts(vault)),
    tenants: await vault.tenants(),
  }));
  const before = await run.check("see that nobody else is making a backup", () =>
    freeCanary(vault, run.flags.takeOver),
  );
  const unfinished = await run.check(`see that s3://${store.bucket} answers`, () => store.unfinished());

  const start = performance.now();
  const canary = await run.change("write the canary, by which a restored Vault shows its date", async () => {
    const written = await writeCanary(vault, run.runId, before);
    run.onExit(() => release(run, vault, written));
    return { ...written, leader: await leader(vault) };
  });
  if (unfinished.length > 0)
    await run.change(`abort ${unfinished.length} uploads that dead runs left`, () => store.abort(unfinished));
  if (before?.data.holder)
    await run.change("look whether the run that died had made its backup", () =>
      lateEvent(run, store, before),
    );
  const names = keys.map(({ name }) => name).join(" and ");
  const taken = await run.change(`stream the snapshot, check it, seal it to ${names} and store it`, () =>
    takeSnapshot(vault, store, {
      day: sure(canary).data.date,
      keys,
      context: sealContext(sure(canary).data),
      atLeast: sure(canary).leader.index,
      onProgress: (bytes) => run.progress(`  ${Math.floor(bytes / 1_048_576)} MiB of the snapshot`),
    }),
  );
  await run.change("read it back and compare every byte", () => readBack(store, sure(taken)));
  const manifest = await run.change("write its manifest: from here on it is a backup", async () => {
    await mustBeUnchanged(vault, sure(canary));
    const made = manifestOf(run.runId, sure(canary), sure(taken), facts, (performance.now() - start) / 1000);
    await store.putJson(backupKey(made.date, MANIFEST), made);
    return made;
  });
  if (manifest === undefined) return { bucket: store.bucket, sealed_to: keys.map(({ name }) => name) };
  await run.audit.append({ event: STORED, details: storedDetails(manifest) });
  await tellSuccess(run, manifest);
  const { date, version_id, sealed_bytes, plain_bytes, seconds, sealed_to } = manifest;
  return {
    date,
    bucket: store.bucket,
    object: manifest.object,
    version_id,
    sealed_bytes,
    plain_bytes,
    seconds,
    sealed_to,
  };
}

type WrittenCanary = Stored<Canary> & { leader: { address: string; index: number } };

/** A change's value, within a later change: in a dry run neither is made. */
function sure<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("a step's value is missing");
  return value;
}

/** This role can't open it; but what lies there is what was sent, or it's no backup. */
async function readBack(store: BackupStore, { object }: Taken): Promise<void> {
  const found = await store.measure(object);
  if (found.bytes === object.bytes && found.sha256 === object.sha256) return;
  throw new RunbookError(
    `s3://${store.bucket}/${object.key} reads back as ${found.bytes} bytes of SHA-256 ${found.sha256}, and not as the ${object.bytes} of ${object.sha256} that were sent`,
    { exit: "failed", next: "npx runbook backup-vault   # nothing counts as a backup without its manifest" },
  );
}

/** A new leader may not have had everything; a run that took over makes the backup. */
async function mustBeUnchanged(vault: Vault, canary: WrittenCanary): Promise<void> {
  if (!(await stillOurs(vault, canary)))
    throw new BackupIsHeld("Another backup has taken over", "wait for it to end");
  const now = await leader(vault);
  if (now.address === canary.leader.address) return;
  throw new RunbookError(`Vault's leader changed from ${canary.leader.address} to ${now.address} meanwhile`, {
    exit: "failed",
    next: "npx runbook backup-vault",
  });
}

function manifestOf(
  run: string,
  canary: WrittenCanary,
  { object, plain, meta, sealedTo }: Taken,
  facts: Awaited<ReturnType<typeof vaultFacts>> & { tenants: string[] },
  seconds: number,
): Manifest {
  const { date, nonce, written } = canary.data;
  return Manifest.parse({
    format: 1,
    date,
    run,
    created: new Date().toISOString(),
    seconds: Math.round(seconds * 1000) / 1000,
    object: object.key,
    version_id: object.versionId,
    plain_bytes: plain.bytes,
    plain_sha256: plain.sha256,
    sealed_bytes: object.bytes,
    sealed_sha256: object.sha256,
    sealed_to: sealedTo,
    canary: { date, nonce, written, version: canary.version, raft_index: canary.leader.index },
    raft_index: meta.index,
    raft_term: meta.term,
    ...facts,
  });
}

const STORED = "vault_backup_stored";
const storedDetails = ({ date, version_id, sealed_sha256, sealed_bytes, canary, seconds }: Manifest) => ({
  backup_date: date,
  version_id,
  sealed_sha256,
  sealed_bytes,
  canary_version: canary.version,
  seconds,
});

/** A run that was killed behind its manifest has left a backup of which the audit log doesn't know. */
async function lateEvent(
  run: BackupRun,
  store: BackupStore,
  before: Stored<Canary> | undefined,
): Promise<void> {
  const dead = before?.data.holder?.run;
  if (dead === undefined) return;
  const { backups } = await readCatalog(store, before?.data.date);
  const left = backups.find(({ manifest }) => manifest.run === dead);
  if (left === undefined) return;
  await run.audit.append({ event: STORED, details: storedDetails(left.manifest), originalRun: dead });
}

async function release(run: BackupRun, vault: Vault, canary: Stored<Canary>): Promise<void> {
  const problem = await releaseCanary(vault, canary);
  if (problem !== undefined) await run.note(problem);
}

async function tellSuccess(run: BackupRun, { sealed_bytes, seconds }: Manifest): Promise<void> {
  const now = Math.floor(Date.now() / 1000);
  const problems = await recordMetrics(await run.settings(), {
    backup_run_success: 1,
    backup_last_attempt_timestamp_seconds: now,
    backup_last_success_timestamp_seconds: now,
    backup_size_bytes: sealed_bytes,
    backup_duration_seconds: seconds,
  });
  for (const problem of problems) await run.note(problem);
}

async function tellFailure(run: BackupRun, error: unknown): Promise<void> {
  // Without settings nobody knows whom to tell; the alarm on an old backup still rings.
  const settings = await run.settings().catch(() => undefined);
  if (settings === undefined) return;
  const now = Math.floor(Date.now() / 1000);
  const red = { backup_run_success: 0, backup_last_attempt_timestamp_seconds: now };
  const problems = await recordMetrics(settings, red, ["backup_failures_total"]);
  const unpinged = await ping(settings, "failure", run.env);
  for (const problem of [...problems, ...(unpinged === undefined ? [] : [unpinged])]) await run.note(problem);
  await run.audit.append({ event: "vault_backup_failed", details: { why: messageOf(error) } });
}
