// The status for people: as much as fits on one screen. Of many tenants only those that need somebody stand there.
import type { BackupStatus, Status, Unended } from "../status.ts";
import type { DrillReport } from "./drill-reports.ts";
import { columns } from "./flags.ts";
import { oneLine } from "./printable.ts";
import type { TenantStatus } from "./status-tenants.ts";

/** Tenants up to which all are shown. */
const FEW = 12;
/** Lines of a list before the rest is only counted. */
const MOST = 12;

/** What the design promises of backups: data that may be lost, with the time a backup takes, and how often one is restored. */
export const PROMISED_BACKUP = { youngMs: (24 * 60 + 15) * 60_000, restoredMs: 35 * 86_400_000 };

/** Whether something that is due every so many milliseconds is overdue. */
export const isLate = (time: string, mostMs: number, now = new Date()): boolean =>
  now.getTime() - Date.parse(time) > mostMs;

export function statusText(status: Status, now = new Date()): string {
  const { tenants, backups, drill, notices, unfinished, unknown } = status;
  return [
    ...section("Unfinished", unfinished.map(unendedText)),
    ...section(
      "Not known",
      unknown.map(({ what, why, next }) => `${what}: ${oneLine(why)}\n    next: ${next}`),
    ),
    ...(tenants === null ? [] : tenantLines(tenants, now)),
    ...(backups === null ? [] : ["", "Backups", ...backupLines(backups, now)]),
    ...drillLines(drill, now),
    ...section(
      `Notices that wait${notices.length === 0 ? "" : ": npx runbook notify flush"}`,
      notices.map(
        ({ name, tenant_id, since }) =>
          `${name}${tenant_id === null ? "" : ` of ${tenant_id}`}, ${ago(since, now)}`,
      ),
    ),
  ]
    .join("\n")
    .trim();
}

function section(title: string, lines: string[]): string[] {
  if (lines.length === 0) return title === "Not known" ? [] : ["", `${title}: nothing`];
  const more = lines.length - MOST;
  return [
    "",
    title,
    ...lines.slice(0, MOST).map((line) => `  ${line}`),
    ...(more > 0 ? [`  and ${more} more`] : []),
  ];
}

function unendedText({ what, since, by, held, next }: Unended): string {
  const facts = [what, ...(since === null ? [] : [`since ${since}`]), ...(by === null ? [] : [`by ${by}`])];
  return `${facts.join(", ")}\n    ${held ? "a living run is at it; if it isn't:" : "next:"} ${next}`;
}

function tenantLines(tenants: readonly TenantStatus[], now: Date): string[] {
  const needy = tenants.filter(
    ({ login, marked }) => marked !== null || !["accepted", "untried"].includes(login),
  );
  const shown = tenants.length <= FEW ? tenants : needy.slice(0, MOST);
  const rows = shown.map((one) => [
    one.tenant,
    `v${one.version}`,
    ago(one.last_rotated, now),
    loginText(one),
    markText(one),
  ]);
  const head = ["tenant", "version", "rotated", "login", "mark"];
  const rest = tenants.length - shown.length;
  const well = tenants.length - needy.length;
  return [
    "",
    `Tenants: ${tenants.length}, ${needy.length === 0 ? "all well" : `${needy.length} in need of somebody`}`,
    ...(rows.length === 0 ? [] : indented(columns([head, ...rows]))),
    ...(rest === 0
      ? []
      : [`  ${well} are well${rest > well ? `, ${rest - well} more are not: --json has all` : ""}`]),
    ...shown.flatMap(({ tenant, login, said }) =>
      login === "accepted" || said === null ? [] : [`  ${tenant}: ${oneLine(said)}`],
    ),
    ...shown.flatMap(({ tenant, marked }) =>
      marked === null
        ? []
        : [
            `  next: npx runbook emergency-reset --tenant ${tenant} --incident ${marked} --reason "The current version is marked"`,
          ],
    ),
  ];
}

const LOGIN: Record<TenantStatus["login"], string> = {
  accepted: "logs in",
  refused: "REFUSED",
  limited: "LIMITED",
  inconclusive: "NO ANSWER",
  unknown: "NOT KNOWN",
  untried: "-",
};
const loginText = ({ login }: TenantStatus): string => LOGIN[login];
const markText = ({ marked }: TenantStatus): string => (marked === null ? "-" : `COMPROMISED (${marked})`);

function backupLines({ as_of, restored_at, proof, opened, all }: BackupStatus, now: Date): string[] {
  const late = (time: string, most: number) => (isLate(time, most, now) ? "  TOO OLD" : "");
  return [
    `  ${all} stored, ${opened} opened${opened < all ? ": npx runbook verify-backup --date all" : ""}`,
    as_of === null
      ? "  NONE WAS OPENED: npx runbook backup-vault && npx runbook verify-backup"
      : `  the newest opened is as of ${as_of}, ${ago(as_of, now)}${late(as_of, PROMISED_BACKUP.youngMs)}`,
    restored_at === null
      ? `  NONE WAS PROVEN BY RESTORING IT: ${proof}`
      : `  last proven by restoring it ${ago(restored_at, now)}${late(restored_at, PROMISED_BACKUP.restoredMs)}`,
  ];
}

function drillLines(drill: DrillReport | null, now: Date): string[] {
  if (drill === null) return ["", "Drill: none is on record: npm run drill"];
  const of = (measured: number | null, promised: number | null) =>
    `${measured === null ? "not measured" : `${measured.toFixed(1)} s`} of ${promised} s`;
  const rows = drill.scenarios.map((one) => [
    one.name,
    `RTO ${of(one.measured_rto_s, one.target_rto_s)}`,
    `RPO ${of(one.measured_rpo_s, one.target_rpo_s)}`,
    one.passed ? "kept" : "MISSED",
  ]);
  return ["", `Drill, ${ago(drill.at, now)}`, ...indented(columns(rows))];
}

/** How long ago, in the two largest units. */
export function ago(time: string, now: Date): string {
  const minutes = Math.floor((now.getTime() - Date.parse(time)) / 60_000);
  if (Number.isNaN(minutes)) return `at ${time}`;
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min ago`;
  return `${Math.floor(minutes / 1440)} days ago`;
}

const indented = (lines: string[]): string[] => lines.map((line) => `  ${line}`);
