// After every backup: it is opened, by a role that can't write one. Only then it counts. Needs no right in Vault: the
// backup carries what it has to be compared with. Monthly, with people and their key shares: it is restored, too. That of
// a Vault that opens itself, into one that they started where its KMS is.
import type { Readable } from "node:stream";
import { z } from "zod";
import { backupKey, markName } from "../stacks/names.ts";
import { type CatalogEntry, chosen, newest, readCatalog } from "./lib/backup-catalog.ts";
import { type Metrics, ping, recordMetrics } from "./lib/backup-metrics.ts";
import type { Manifest, Opened, Restored } from "./lib/backup-records.ts";
import { automationKey, backupBucket } from "./lib/backup-settings.ts";
import { BackupStore } from "./lib/backup-store.ts";
import { RunbookError } from "./lib/errors.ts";
import { backupDateFlag } from "./lib/flag-types.ts";
import { usage } from "./lib/flags.ts";
import { lookInto, requireOtherVault } from "./lib/into-gate.ts";
import { opensItself, readKeyShares } from "./lib/key-shares.ts";
import { checkBackup, opener } from "./lib/open-backup.ts";
import { confirmInto, type Into, proveInto } from "./lib/prove-into.ts";
import { keepProof, type Proof, proveRestore } from "./lib/prove-restore.ts";
import type { Result } from "./lib/report.ts";
import { firstOfMonths, openedUntil } from "./lib/retention.ts";
import { defineRunbook, type Run } from "./lib/runbook.ts";
import type { SealKey } from "./lib/seal-keys.ts";
import { type Settings, serviceUrl } from "./lib/settings.ts";
import { type Restorable, requireThrowawayVault } from "./lib/throwaway-vault.ts";

const flags = z.object({
  date: backupDateFlag,
  restore: z
    .boolean()
    .default(false)
    .describe(
      "restore it, too, into a Vault that is thrown away afterwards: takes key shares, typed or one a line on standard input",
    ),
  into: serviceUrl
    .optional()
    .describe(
      "URL of an empty Vault of yours to restore it into, for a backup whose Vault a KMS opens: takes its recovery keys; with --restore",
    ),
});
type VerifyRun = Run<z.infer<typeof flags>>;

export default defineRunbook({
  name: "verify-backup",
  summary:
    "open a backup of Vault, or restore it into a throwaway one, and see that all of it is as it was written",
  example: "npx runbook verify-backup --date latest",
  flags,
  run: async (run) => {
    try {
      return await verify(run);
    } catch (error) {
      if (!run.dryRun) await tell(run, { verify_run_success: 0 }, "failure");
      throw error;
    }
  },
  render: ({ opened, restored }) =>
    [
      ...(opened as ReturnType<typeof row>[]).map(
        ({ date, canary_written, seconds, unproven }) =>
          `${date} opens: as of ${canary_written}, in ${seconds} s${unproven === null ? "" : `; not proven: ${unproven}`}`,
      ),
      ...(restored === null ? [] : [renderRestored(restored as Restored)]),
    ].join("\n"),
});

const renderRestored = ({ date, tenants, seconds }: Restored): string =>
  `${date} restores: ${tenants.length} tenants are whole, in ${seconds} s`;

async function verify(run: VerifyRun): Promise<Result> {
  if (run.flags.restore && run.flags.date === "all")
    throw usage("--restore takes one backup, and not all", "add --date latest, or --date and a day");
  if (run.flags.into !== undefined && !run.flags.restore)
    throw usage("--into says where a backup is restored into", "add --restore, or leave --into away");
  const settings = await run.settings();
  const store = new BackupStore(backupBucket(settings), "verifier", run.env);
  const key = automationKey(settings);
  const catalog = await run.check(`read which backups lie in s3://${store.bucket}`, () => readCatalog(store));
  const backups = chosen(catalog, run.flags.date, store.bucket).map((backup) => ({
    backup,
    archive: opener(store, key, backup),
  }));
  // The newest of its day.
  const toRestore = run.flags.restore ? backups[0] : undefined;
  const prepared = toRestore && (await prepare(run, settings, toRestore));

  const opened: { backup: CatalogEntry; mark: Opened }[] = [];
  const failed: { backup: CatalogEntry; error: RunbookError }[] = [];
  for (const one of backups) {
    const { backup } = one;
    try {
      opened.push({ backup, mark: await openOne(run, store, key, one) });
    } catch (error) {
      // Of many, one that doesn't open is no reason not to look at the others.
      if (!(error instanceof RunbookError) || backups.length === 1) throw error;
      failed.push({ backup, error });
    }
  }
  const marked = catalog.backups.map((one) => {
    const now = opened.filter(({ backup }) => backup === one).map(({ mark }) => mark);
    return { ...one, opened: [...one.opened, ...now] };
  });
  const good = openedUntil(marked, new Date());
  const first = firstOfMonths(good);
  for (const { backup } of opened)
    if (first.get(backup.day.slice(0, 7))?.object === backup.object) await keepForAYear(run, store, backup);

  const result = { bucket: store.bucket, opened: opened.map(row), restored: null };
  if (failed.length > 0) {
    const whys = failed.map(({ error }) => error.message).join("; ");
    throw new RunbookError(`${failed.length} of ${backups.length} backups don't open: ${whys}`, {
      exit: "failed",
      next: "npx runbook list-backups   # what is left; then: npx runbook backup-vault",
      result: {
        ...result,
        failed: failed.map(({ backup, error }) => ({ date: backup.day, why: error.message })),
      },
    });
  }
  const restored = prepared === undefined ? null : await restoreOne(run, store, prepared);
  if (!run.dryRun) await tellSuccess(run, good);
  const copy = run.flags.into === undefined || run.dryRun ? {} : { copy: run.flags.into };
  const rows = result.opened.map((one) =>
    one.version_id === restored?.version_id ? { ...one, unproven: null } : one,
  );
  return { ...result, opened: rows, restored, ...copy };
}

/** A backup, and what opens it, however often that is asked. */
interface ToOpen {
  readonly backup: CatalogEntry;
  readonly archive: () => Promise<Readable>;
}

type Prepared = Restorable & { readonly into: Into | undefined };

/** Whatever would keep the backup from being restored is told before people type, or while they are still there. */
async function prepare(run: VerifyRun, settings: Settings, one: ToOpen): Promise<Prepared> {
  const { archive } = one;
  const { manifest } = one.backup;
  if (run.flags.into === undefined) {
    await requireThrowawayVault(run, manifest);
    return { manifest, archive, shares: await readKeyShares(run, manifest), into: undefined };
  }
  const sealed = await requireOtherVault(run, settings, run.flags.into, manifest);
  const shares = await readKeyShares(run, manifest);
  const into = { sealed, target: await lookInto(run, sealed, manifest, shares) };
  await confirmInto(run, into, manifest);
  return { manifest, archive, shares, into };
}

async function openOne(
  run: VerifyRun,
  store: BackupStore,
  key: SealKey,
  { backup, archive }: ToOpen,
): Promise<Opened> {
  const { day, manifest } = backup;
  const start = performance.now();
  await run.check(`open the backup of ${day} with ${key.name} and compare all of it`, () =>
    checkBackup(backup, archive),
  );
  const at = new Date();
  const mark: Opened = {
    format: 1,
    date: day,
    version_id: manifest.version_id,
    plain_sha256: manifest.plain_sha256,
    canary: manifest.canary,
    key: key.id,
    run: run.runId,
    at: at.toISOString(),
    seconds: Math.round(performance.now() - start) / 1000,
  };
  const name = markName("opened", at);
  await run.change(`write ${name} beside it`, () => store.putJson(backupKey(day, name), mark));
  await run.audit.append({
    event: "vault_backup_opened",
    details: { backup_date: day, version_id: mark.version_id, canary_version: mark.canary.version },
    // One event for each backup of the run.
    originalRun: `${run.runId} ${mark.version_id}`,
  });
  return mark;
}

async function restoreOne(
  run: VerifyRun,
  store: BackupStore,
  { into, ...backup }: Prepared,
): Promise<Restored | null> {
  const { manifest } = backup;
  const keep = (proof: Proof) => {
    mustBeWhole(manifest, proof);
    return keepProof(run, store, manifest, proof);
  };
  if (into === undefined) return keep(await proveRestore(run, backup));
  return (await proveInto(run, into, backup, keep)) ?? null;
}

function mustBeWhole({ date, version_id }: Manifest, { tenants }: Proof): void {
  const bad = tenants.filter(({ problems }) => problems.length > 0);
  if (bad.length === 0) return;
  const whys = bad.map(({ tenant, problems }) => `${tenant}: ${problems.join(", ")}`).join("; ");
  throw new RunbookError(`The backup of ${date} restores, but not every tenant is whole in it: ${whys}`, {
    exit: "failed",
    next: "look whether it is so in Vault itself (vault kv get smtp/TENANT/RECORD), mend it there; then: npx runbook backup-vault",
    result: { date, version_id, tenants },
  });
}

/** What is kept for a year must not be deletable before; the lock of every day's is shorter. */
const MONTHLY_LOCK_DAYS = 366;

async function keepForAYear(run: VerifyRun, store: BackupStore, backup: CatalogEntry): Promise<void> {
  const until = new Date(Date.parse(backup.day) + MONTHLY_LOCK_DAYS * 86_400_000);
  const objects = [backup.object, backup.manifestObject];
  const locks = await run.check(`look how long the first backup of ${backup.day.slice(0, 7)} is locked`, () =>
    Promise.all(objects.map((object) => store.lockedUntil(object))),
  );
  if (locks.every((lock) => lock !== undefined && lock >= until)) return;
  const day = until.toISOString().slice(0, 10);
  const locked = await run.change(`lock it until ${day}: it is its month's`, () =>
    Promise.all(objects.map((object) => store.lockUntil(object, until))),
  );
  if (locked?.includes(false))
    await run.note(`s3://${store.bucket} has no Object Lock: its backups can be deleted at any time`);
}

const row = ({
  backup: { manifest },
  mark: { date, version_id, canary, at, seconds },
}: {
  backup: CatalogEntry;
  mark: Opened;
}) => ({
  date,
  version_id,
  canary_written: canary.written,
  canary_version: canary.version,
  opened_at: at,
  seconds,
  /** Key shares are proven by --restore; of a Vault that opens itself opening proves no more than its archive. */
  unproven: opensItself(manifest)
    ? `that the key of its seal (${manifest.seal_type}) still opens what is in it, and who has the recovery keys`
    : null,
});

/** Seconds after which the newest opened backup is too old: a day, and the time that one takes. */
const TOO_OLD = 24 * 3600 + 15 * 60;

async function tellSuccess(run: VerifyRun, good: readonly CatalogEntry[]): Promise<void> {
  const best = newest({ backups: good, broken: [] });
  const written = Date.parse(best?.manifest.canary.written ?? "") / 1000;
  const seconds = Date.now() / 1000;
  await tell(
    run,
    {
      verify_run_success: 1,
      last_opened_timestamp_seconds: Math.floor(seconds),
      newest_opened_canary_timestamp_seconds: Math.floor(written),
    },
    // A switch that old backups keep from ringing would be none.
    seconds - written < TOO_OLD ? "success" : undefined,
  );
}

async function tell(
  run: VerifyRun,
  metrics: Metrics,
  outcome: "success" | "failure" | undefined,
): Promise<void> {
  const settings = await run.settings().catch(() => undefined);
  if (settings === undefined) return;
  const count = outcome === "failure" ? (["verify_failures_total"] as const) : [];
  const problems = await recordMetrics(settings, metrics, count);
  const unpinged = outcome === undefined ? undefined : await ping(settings, outcome, run.env);
  for (const problem of [...problems, ...(unpinged === undefined ? [] : [unpinged])]) await run.note(problem);
}
