// Daily, once the newest backup was opened: deletes what the retention lets go. Its role deletes and opens nothing, so
// that nobody who makes backups can destroy them. A backup's manifest goes first: wherever this dies, what it leaves is no
// backup any more, and the next run knows it for a leftover.
import { z } from "zod";
import { ping, recordMetrics } from "./lib/backup-metrics.ts";
import { backupBucket } from "./lib/backup-settings.ts";
import { BackupStore, type Refused } from "./lib/backup-store.ts";
import { messageOf, RunbookError } from "./lib/errors.ts";
import { table } from "./lib/flags.ts";
import { type Going, heldBy, type Pruning, planPruning, type Row, stillGoing } from "./lib/prune-plan.ts";
import type { Result } from "./lib/report.ts";
import { DAILY, MONTHLY } from "./lib/retention.ts";
import { defineRunbook, type Run } from "./lib/runbook.ts";

type PruneRun = Run<unknown>;

export default defineRunbook({
  name: "prune-backups",
  summary: "delete backups of Vault that the retention lets go, and what dead runs left",
  example: "npx runbook prune-backups --dry-run",
  flags: z.object({}),
  run: async (run) => {
    const store = await telling(
      run,
      async () => new BackupStore(backupBucket(await run.settings()), "pruner", run.env),
    );
    const planned = await telling(run, () =>
      run.check(`read which backups lie in s3://${store.bucket}, and which may go`, () => planPruning(store)),
    );
    const { rows, newestOpened } = planned;
    const result = { bucket: store.bucket, newest_opened: newestOpened, backups: rows };
    if (planned.going.length > 0)
      await run.confirm(`Delete ${howMany(planned.going)} in s3://${store.bucket} for good?`);
    return telling(run, async () => ({ ...result, ...(await prune(run, store, planned)) }));
  },
  render,
});

async function prune(run: PruneRun, store: BackupStore, planned: Pruning): Promise<Result> {
  let going: readonly Going[] = planned.going;
  let deleted = 0;
  const refused: Refused[] = [];
  const remove = async (part: "manifests" | "marks" | "snapshots", what: (count: number) => string) => {
    const objects = going.flatMap((one) => one[part]);
    if (objects.length === 0) return;
    await run.change(what(objects.length), async () => {
      const bad = await store.remove(objects);
      deleted += objects.length - bad.length;
      refused.push(...bad);
    });
  };

  if (going.length > 0) {
    // Somebody may have taken days to answer, and the newest opened one may be gone since.
    const now = await run.check("look again, just before anything goes", () => planPruning(store));
    going = stillGoing(planned, now);
    await remove("manifests", (count) => `delete ${count} manifests: from here on those are no backups`);
    // What its manifest still speaks of stays whole.
    going = going.filter(({ manifests }) => !refused.some(({ object }) => manifests.includes(object)));
    await audit(run, going, now.newestOpened);
    await remove("marks", (count) => `delete ${count} marks`);
    await remove("snapshots", (count) => `delete ${count} snapshots`);
  }
  const done = { deleted_versions: deleted, refused: refused.map(refusedRow) };
  await judge(run, store, refused, done);
  if (!run.dryRun) await tell(run, { prune_run_success: 1 });
  return done;
}

/** Before the data goes and after the manifest: a run that dies in between is followed by one that says the same again. */
async function audit(run: PruneRun, going: readonly Going[], newestOpened: string | null): Promise<void> {
  const all = going.flatMap(({ day, why, snapshots }) => snapshots.map((object) => ({ day, why, object })));
  if (all.length === 0) return;
  await run.change(`write ${all.length} audit events`, async () => {
    for (const { day, why, object } of all)
      await run.audit.append({
        event: "vault_backup_pruned",
        details: { backup_date: day, version_id: object.versionId, why, newest_opened: newestOpened },
        // Once for each, whichever run brings it to its end.
        originalRun: `${object.key} ${object.versionId}`,
      });
  });
}

/** What somebody has locked meanwhile is told; anything else that is refused is a failure, once the rest is done. */
async function judge(
  run: PruneRun,
  store: BackupStore,
  refused: readonly Refused[],
  done: Result,
): Promise<void> {
  const failed: Refused[] = [];
  for (const one of refused) {
    const { object, why } = one;
    const held = await heldBy(store, [object]);
    if (held === undefined) failed.push(one);
    else await run.note(`${object.key} ${object.versionId} stays: ${held} (${why})`);
  }
  const [first] = failed;
  if (first === undefined) return;
  const denied = failed.some((one) => one.denied);
  throw new RunbookError(
    `s3://${store.bucket} refused to delete ${failed.length} versions, the first of them ${first.object.key} ${first.object.versionId}: ${first.why}`,
    {
      exit: denied ? "permission" : "failed",
      next: denied
        ? "see that AWS_* are those of the IAM role penguinmails-pruner"
        : "npx runbook prune-backups   # the rest is done",
      result: done,
    },
  );
}

const refusedRow = ({ object, why }: Refused) => ({ object: object.key, version_id: object.versionId, why });

function howMany(going: readonly Going[]): string {
  const backups = going.filter(({ backup }) => backup).length;
  const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? "" : "s"}`;
  return `${count(backups, "backup")} and ${count(going.length - backups, "leftover")}`;
}

async function telling<T>(run: PruneRun, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (!run.dryRun) {
      await tell(run, { prune_run_success: 0 }, true);
      await run.audit.append({ event: "vault_prune_failed", details: { why: messageOf(error) } });
    }
    throw error;
  }
}

async function tell(run: PruneRun, metrics: { prune_run_success: 0 | 1 }, failed = false): Promise<void> {
  // Without settings nobody knows whom to tell.
  const settings = await run.settings().catch(() => undefined);
  if (settings === undefined) return;
  const problems = await recordMetrics(settings, metrics, failed ? ["prune_failures_total"] : []);
  const unpinged = failed ? await ping(settings, "failure", run.env) : undefined;
  for (const problem of [...problems, ...(unpinged === undefined ? [] : [unpinged])]) await run.note(problem);
}

function render(result: Result): string {
  const { bucket, backups, newest_opened, deleted_versions } = result as {
    bucket: string;
    backups: Row[];
    newest_opened: string | null;
    deleted_versions: number;
  };
  if (backups === undefined) return `${deleted_versions} versions are deleted`;
  if (backups.length === 0) return `there is nothing in s3://${bucket}`;
  const rows = backups.map((row): [string, string] => [
    `${row.keep ? "stays" : "GOES "}  ${asOf(row)}  ${row.version_id}`,
    row.why,
  ]);
  const rules = `the newest opened one of ${DAILY} days, the first of ${MONTHLY} months`;
  return [
    ...table(rows),
    `newest opened: ${newest_opened ?? "none, so nothing may go"}; kept are ${rules}`,
  ].join("\n");
}

/** A backup by its canary's time, anything else by its name. */
const asOf = ({ canary_written: at, date, object }: Row): string =>
  at === null ? `${date} ${object.split("/").at(-1)}` : `${at.slice(0, 16).replace("T", " ")}Z`;
