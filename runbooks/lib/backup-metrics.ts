// How backups go, for machines that watch: a Prometheus text file, a push of the same text, and a URL that is asked for.
// What can't be told is a warning, never the reason for which a backup fails; but a failed run is never a success.
import { chmodSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { readIfThere, replaceFile } from "./durable-file.ts";
import { messageOf } from "./errors.ts";
import { withFileLock } from "./file-lock.ts";
import { readSecret } from "./notify-settings.ts";
import { registerSecret } from "./redact.ts";
import type { Settings } from "./settings.ts";

/** Times are Unix seconds, so that whoever looks works out the age himself: a file doesn't get older by itself. */
const METRICS = {
  backup_run_success: "1 if the last run of backup-vault succeeded, else 0",
  backup_last_attempt_timestamp_seconds: "when backup-vault ended last, well or not",
  backup_last_success_timestamp_seconds:
    "when backup-vault last stored a backup, read back and with its manifest",
  backup_failures_total: "failed runs of backup-vault",
  backup_size_bytes: "size of the last stored backup, sealed",
  backup_duration_seconds: "how long the last stored backup took",
  verify_run_success: "1 if the last run of verify-backup succeeded, else 0",
  verify_failures_total: "failed runs of verify-backup",
  newest_opened_canary_timestamp_seconds:
    "time of the canary in the newest backup that was opened: data younger than this would be lost",
  last_opened_timestamp_seconds: "when verify-backup last opened a backup",
  last_restored_timestamp_seconds: "when verify-backup last proved a backup by restoring it",
  restore_duration_seconds: "how long that took",
  prune_run_success: "1 if the last run of prune-backups succeeded, else 0",
  prune_failures_total: "failed runs of prune-backups",
} as const;
export type Metric = keyof typeof METRICS;
const PREFIX = "penguinmails_vault_";

export type Metrics = Partial<Record<Metric, number>>;

/** Milliseconds for which a push or a ping may take. */
const TIMEOUT_MS = 10_000;

/**
 * Sets metrics, and adds one to those of `count`; the others keep their values.
 * @returns what couldn't be told, a sentence each.
 */
export async function recordMetrics(
  { backup }: Pick<Settings, "backup">,
  set: Metrics,
  count: readonly Metric[] = [],
): Promise<string[]> {
  const problems: string[] = [];
  let text = metricsText({ ...set, ...Object.fromEntries(count.map((name) => [name, 1])) });
  if (backup.metricsFile !== undefined) {
    try {
      text = await updateFile(backup.metricsFile, set, count);
    } catch (error) {
      problems.push(`${backup.metricsFile} is not up to date: ${messageOf(error)}`);
    }
  }
  if (backup.pushUrl !== undefined) {
    const problem = await send(backup.pushUrl, { method: "POST", body: text });
    if (problem !== undefined) problems.push(`metrics are not pushed: ${problem}`);
  }
  return problems;
}

/** Tells the dead-man's switch, if there is one. @returns what went wrong, in a sentence. */
export async function ping(
  { backup }: Pick<Settings, "backup">,
  outcome: "success" | "failure",
  env: NodeJS.ProcessEnv,
): Promise<string | undefined> {
  if (backup.pingUrl === undefined) return undefined;
  try {
    const url = typeof backup.pingUrl === "string" ? backup.pingUrl : readSecret(backup.pingUrl, env);
    // Whoever has it can keep the alarm from ringing.
    registerSecret(url);
    const problem = await send(outcome === "success" ? url : `${url.replace(/\/$/, "")}/fail`, {
      method: "GET",
    });
    return problem === undefined ? undefined : `the dead-man's switch was not reached: ${problem}`;
  } catch (error) {
    return `the dead-man's switch was not reached: ${messageOf(error)}`;
  }
}

/** As Prometheus reads it. */
export function metricsText(metrics: Metrics): string {
  const names = Object.keys(METRICS) as Metric[];
  return names
    .filter((name) => metrics[name] !== undefined)
    .map((name) => {
      const full = `${PREFIX}${name}`;
      const type = name.endsWith("_total") ? "counter" : "gauge";
      return `# HELP ${full} ${METRICS[name]}\n# TYPE ${full} ${type}\n${full} ${metrics[name]}\n`;
    })
    .join("");
}

/** The inverse; foreign lines are left out. */
export function readMetrics(text: string): Metrics {
  const found = text.split("\n").flatMap((line) => {
    const [, name = "", value = ""] = /^penguinmails_vault_(\w+) (\S+)$/.exec(line) ?? [];
    return name in METRICS && Number.isFinite(Number(value)) ? [[name, Number(value)]] : [];
  });
  return Object.fromEntries(found) as Metrics;
}

/** Several runbooks keep their metrics in one file. */
async function updateFile(file: string, set: Metrics, count: readonly Metric[]): Promise<string> {
  mkdirSync(dirname(file), { recursive: true });
  return withFileLock(`${file}.lock`, () => {
    const before = readMetrics(readIfThere(file)?.toString() ?? "");
    const counted = Object.fromEntries(count.map((name) => [name, (before[name] ?? 0) + 1]));
    const text = metricsText({ ...before, ...set, ...counted });
    replaceFile(file, text);
    // The collector is another user; nothing in it is secret.
    chmodSync(file, 0o644);
    return text;
  });
}

async function send(url: string, request: RequestInit): Promise<string | undefined> {
  try {
    const headers = { "content-type": "text/plain; version=0.0.4" };
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const answer = await fetch(url, { ...request, signal, ...(request.body ? { headers } : {}) });
    await answer.body?.cancel();
    return answer.ok ? undefined : `HTTP ${answer.status}`;
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : "";
    return `${messageOf(error)}${cause}`;
  }
}
