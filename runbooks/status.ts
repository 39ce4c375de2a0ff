// How things stand, on one screen: tenants, backups, the last drill, and what somebody still has to do, each with the
// command that does it. Reads only. Whether everything is as declared is another question: check-drift.
import { z } from "zod";
import { CANARY } from "../stacks/names.ts";
import { type CatalogEntry, readCatalog } from "./lib/backup-catalog.ts";
import { backupBucket } from "./lib/backup-settings.ts";
import { BackupStore } from "./lib/backup-store.ts";
import { Canary } from "./lib/canary.ts";
import { checkCredentials } from "./lib/drift-credentials.ts";
import { tenantsOf } from "./lib/drift-tenant.ts";
import { messageOf, RunbookError } from "./lib/errors.ts";
import { DriftReport } from "./lib/findings.ts";
import { columns } from "./lib/flags.ts";
import { holderState } from "./lib/holder.ts";
import { type Drill, drillFile, readDrill } from "./lib/last-drill.ts";
import { Outbox } from "./lib/outbox.ts";
import { oneLine } from "./lib/printable.ts";
import { hasEnded, progressOf } from "./lib/restore-progress.ts";
import { openedUntil } from "./lib/retention.ts";
import { defineRunbook, type Run } from "./lib/runbook.ts";
import type { Settings } from "./lib/settings.ts";
import { type TenantStatus, tenantStatuses, tenantTasks } from "./lib/status-tenants.ts";
import { Vault } from "./lib/vault.ts";

const flags = z.object({
  logins: z
    .boolean()
    .default(false)
    .describe("try each tenant's password at its server, too; takes the role credential-prober"),
  drill: z
    .string()
    .optional()
    .describe("the last drill's report; the default is where `npm run drill` leaves it on this machine"),
});
type StatusRun = Run<z.output<typeof flags>>;

interface Task {
  what: string;
  next: string;
}
interface Backups {
  bucket: string;
  count: number;
  /** As of when; null where none was opened. */
  newest_opened: string | null;
  age_seconds: number | null;
  promised_seconds: number;
  last_restored: string | null;
}
interface Status extends Record<string, unknown> {
  tenants: TenantStatus[];
  backups: Backups | null;
  drill: Drill | null;
  /** What somebody still has to do. */
  outstanding: Task[];
  /** What nobody knows, since it could not be looked at. */
  unknown: (Task & { why: string })[];
}

/** Seconds: the design's promise for a lost Vault. */
const RPO_S = 24 * 3600;

export default defineRunbook({
  name: "status",
  summary: "show tenants, backups, the last drill and what is outstanding, with the command for each",
  example: "npx runbook status",
  flags,
  run: async (run) => {
    const settings = await run.settings();
    const status: Status = { tenants: [], backups: null, drill: null, outstanding: [], unknown: [] };
    const look = async (what: string, act: () => Promise<void>) => {
      try {
        await run.check(`look at ${what}`, act);
      } catch (error) {
        if (run.signal.aborted) throw error;
        const next = error instanceof RunbookError ? error.next : undefined;
        status.unknown.push({ what, why: messageOf(error), next: next ?? "DEBUG=1 npx runbook status" });
      }
    };
    await look("tenants", () => tenants(run, settings, status));
    await look("backups", () => backups(run, settings, status));
    await look("notices", () => notices(run, settings, status));
    await look("the last drill", async () => {
      status.drill = readDrill(run.flags.drill ?? drillFile(run.env)) ?? null;
    });
    const [first] = status.unknown;
    if (first === undefined) return status;
    throw new RunbookError(`${status.unknown.map(({ what }) => what).join(", ")} could not be looked at`, {
      exit: "failed",
      next: first.next,
      result: status,
    });
  },
  render: (result) => render(result as Status),
});

async function tenants(run: StatusRun, settings: Settings, status: Status): Promise<void> {
  const vault = await Vault.connect(settings);
  const known = await tenantsOf(vault);
  status.tenants = await tenantStatuses(vault, [...known]);
  status.outstanding.push(...status.tenants.flatMap(tenantTasks), ...(await runsOnVault(vault)));
  if (!run.flags.logins) return;
  const report = new DriftReport();
  const { env, signal, progress } = run;
  const none = { stacks: undefined, platform: false, inVault: known, tenants: [...known] };
  await checkCredentials({ env, signal, progress, settings, report, vault: async () => vault, ...none });
  for (const one of status.tenants) {
    const refused = report.findings.find(
      ({ kind, about }) => kind === "login-refused" && about === one.tenant,
    );
    const not = report.unchecked.find(({ about }) => about === one.tenant || about === "vault");
    one.login = refused ? "REFUSED" : not ? `not known: ${not.why}` : "works";
    if (refused !== undefined) status.outstanding.push({ what: refused.what, next: refused.mend });
  }
}

/** Backups and restores that died on their way stand in the canary. */
async function runsOnVault(vault: Vault): Promise<Task[]> {
  const canary = await vault.record(CANARY, "admin", Canary);
  const holder = canary?.data.holder ?? null;
  const restore = progressOf(canary?.customMetadata);
  return [
    ...(holder !== null && holderState(holder) === "gone"
      ? [{ what: `the backup of ${canary?.data.written} died on its way`, next: "npx runbook backup-vault" }]
      : []),
    ...(restore !== undefined && !hasEnded(restore)
      ? [{ what: `the restore of ${restore.began} has not ended`, next: "npx runbook restore-vault" }]
      : []),
  ];
}

async function backups(run: StatusRun, settings: Settings, status: Status): Promise<void> {
  const store = new BackupStore(backupBucket(settings), "drift", run.env);
  const { backups: all } = await readCatalog(store);
  const [opened] = openedUntil(all, new Date());
  const written = opened?.manifest.canary.written ?? null;
  const age = written === null ? null : Math.floor((Date.now() - Date.parse(written)) / 1000);
  status.backups = {
    bucket: store.bucket,
    count: all.length,
    newest_opened: written,
    age_seconds: age,
    promised_seconds: RPO_S,
    last_restored: lastRestored(all),
  };
  if (age === null || age > RPO_S)
    status.outstanding.push({
      what: age === null ? "no backup was opened" : `the newest opened backup is ${hours(age)} old`,
      next: "npx runbook backup-vault && npx runbook verify-backup",
    });
}

const lastRestored = (all: readonly CatalogEntry[]): string | null =>
  all
    .flatMap(({ restored }) => restored.map(({ at }) => at))
    .sort()
    .at(-1) ?? null;

async function notices(run: StatusRun, settings: Settings, status: Status): Promise<void> {
  const { notices: waiting, unreadable, unreachable } = await new Outbox(settings, run.env).inventory();
  const [away] = unreachable;
  if (away !== undefined)
    throw new RunbookError(`the outbox ${away.name}: ${away.why}`, {
      exit: "failed",
      next: "npx runbook notify list",
    });
  const count = waiting.length + unreadable.length;
  if (count === 0) return;
  const names = [...new Set([...waiting, ...unreadable].map(({ name }) => name))].join(", ");
  const since = waiting[0]?.created;
  const what = `${count} notices wait${since === undefined ? "" : ` since ${since}`}: ${names}`;
  status.outstanding.push({ what, next: "npx runbook notify flush" });
}

function render({ tenants, backups, drill, outstanding, unknown }: Status): string {
  return [
    ...tenantLines(tenants),
    "",
    backups === null ? "Backups: not known" : backupLine(backups),
    drill === null
      ? "Last drill: none on this machine: npm run drill"
      : `Last drill: ${minute(drill.at)}, on a lab`,
    ...(drill?.scenarios ?? []).map(
      (one) =>
        `  ${one.passed ? "passed" : "FAILED"}  ${one.name}: RTO ${seconds(one.measured_rto_s)} of ${one.target_rto_s} s, RPO ${seconds(one.measured_rpo_s)} of ${one.target_rpo_s} s`,
    ),
    "",
    ...(outstanding.length === 0 ? ["Nothing is outstanding"] : ["Outstanding:"]),
    ...outstanding.flatMap(({ what, next }) => [`  ${what}`, `      ${next}`]),
    ...unknown.flatMap(({ what, why, next }) => [`NOT KNOWN: ${what}: ${oneLine(why)}`, `      ${next}`]),
  ].join("\n");
}

function tenantLines(tenants: readonly TenantStatus[]): string[] {
  if (tenants.length === 0) return ["Tenants: none known"];
  const rows = tenants.map((one) => [
    one.tenant,
    `${minute(one.last_rotated)} (version ${one.version})`,
    one.compromised_by === null ? "-" : `COMPROMISED ${one.compromised_by}`,
    one.rotation === null ? "-" : `${one.rotation.state}${one.rotation.at_work ? ", at work" : ""}`,
    oneLine(one.login ?? "not tried"),
  ]);
  return columns([["tenant", "last rotated", "marks", "rotation", "login"], ...rows]);
}

function backupLine({ bucket, count, newest_opened, age_seconds, last_restored }: Backups): string {
  const newest =
    age_seconds === null
      ? "none was opened"
      : `the newest opened is as of ${minute(newest_opened)}, ${hours(age_seconds)} old (promised: ${hours(RPO_S)})`;
  const restored =
    last_restored === null ? "none was restored yet" : `restored last ${minute(last_restored)}`;
  return `Backups: ${count} in s3://${bucket}; ${newest}; ${restored}`;
}

const hours = (age: number): string => `${(age / 3600).toFixed(1)} hours`;
const seconds = (measured: number | null): string => (measured === null ? "?" : `${measured.toFixed(1)} s`);
const minute = (time: string | null): string => (time ? `${time.slice(0, 16).replace("T", " ")}Z` : "");
