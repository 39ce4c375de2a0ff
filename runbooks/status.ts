// One screen for whoever takes over: tenants, backups, the last drill, what waits and what isn't finished, each with the
// command that goes on with it. Only looks. What can't be looked at is said, and hides nothing else.
import { z } from "zod";
import { CANARY } from "../stacks/names.ts";
import { openAudit } from "./lib/audit.ts";
import { type CatalogEntry, newest, proofCommand, readCatalog } from "./lib/backup-catalog.ts";
import { backupBucket } from "./lib/backup-settings.ts";
import { BackupStore } from "./lib/backup-store.ts";
import { Canary } from "./lib/canary.ts";
import { type DrillReport, readDrillReports } from "./lib/drill-reports.ts";
import { messageOf, RunbookError } from "./lib/errors.ts";
import { holderState } from "./lib/holder.ts";
import { Outbox } from "./lib/outbox.ts";
import { hasEnded, progressOf } from "./lib/restore-progress.ts";
import { defineRunbook, type Run } from "./lib/runbook.ts";
import type { Settings } from "./lib/settings.ts";
import { type TenantStatus, tenantStatuses } from "./lib/status-tenants.ts";
import { statusText } from "./lib/status-text.ts";
import { isAtWork, isSilent, resumeCommand, unfinishedRotations } from "./lib/unfinished.ts";
import { Vault } from "./lib/vault.ts";

const flags = z.object({
  noLogins: z.boolean().default(false).describe("don't try the tenants' passwords at their mail servers"),
});
type StatusRun = Run<z.infer<typeof flags>>;

/** Something that was begun. `held`: a living run is at it, so there is nothing to do yet. */
export interface Unended {
  what: string;
  since: string | null;
  by: string | null;
  held: boolean;
  next: string;
}

export interface BackupStatus {
  /** Time of the canary in the newest backup that was opened: what is younger would be lost. ISO 8601. */
  as_of: string | null;
  restored_at: string | null;
  /** The command that proves the newest by restoring it. */
  proof: string;
  /** Backups that were opened, of all that there are. */
  opened: number;
  all: number;
}

export interface Status {
  tenants: TenantStatus[] | null;
  backups: BackupStatus | null;
  drill: DrillReport | null;
  notices: { name: string; tenant_id: string | null; since: string; next: string }[];
  unfinished: Unended[];
  /** What could not be looked at. */
  unknown: { what: string; why: string; next: string }[];
}

export default defineRunbook({
  name: "status",
  summary: "show on one screen how tenants, backups and drills stand, and what isn't finished",
  example: "npx runbook status",
  flags,
  run: async (run) => {
    const settings = await run.settings();
    const status: Status = {
      ...{ tenants: null, backups: null, drill: null },
      ...{ notices: [], unfinished: [], unknown: [] },
    };
    const looks: [what: string, next: string, look: () => Promise<void>][] = [
      ["Vault", "vault status", () => lookAtVault(run, settings, status)],
      ["backups", "npx runbook list-backups", () => lookAtBackups(run, settings, status)],
      ["notices", "npx runbook notify list", () => lookAtNotices(run, settings, status)],
      ["audit events", "npx runbook audit verify", async () => lookAtSpool(run, settings, status)],
      ["drills", `ls ${settings.drills}`, async () => lookAtDrills(settings, status)],
    ];
    await run.check("look at tenants, backups, drills and what waits", () =>
      Promise.all(
        looks.map(([what, next, look]) =>
          look().catch((error: unknown) => {
            const own = error instanceof RunbookError ? error.next : undefined;
            status.unknown.push({ what, why: messageOf(error), next: own ?? next });
          }),
        ),
      ),
    );
    const [first] = status.unknown;
    const result = { at: new Date().toISOString(), ...status };
    if (first === undefined) return result;
    const what = status.unknown.map((one) => `${one.what}: ${one.why}`).join("; ");
    throw new RunbookError(`not all could be looked at: ${what}`, {
      exit: "failed",
      next: first.next,
      result,
    });
  },
  render: (result) => statusText(result as unknown as Status),
});

async function lookAtVault(run: StatusRun, settings: Settings, status: Status): Promise<void> {
  const vault = await Vault.connect(settings, run);
  const tenants = await vault.tenants();
  const onDone = (done: number) => run.progress(`${done} of ${tenants.length} tenants`);
  const [{ read, unread }, left, canary] = await Promise.all([
    tenantStatuses(vault, tenants, { logins: !run.flags.noLogins, onDone }),
    unfinishedRotations(vault, tenants),
    vault.record(CANARY, "admin", Canary),
  ]);
  status.tenants = read;
  for (const { tenant, why } of unread)
    status.unknown.push({ what: tenant, why, next: `npx runbook check-drift --stack tenant-${tenant}` });
  for (const one of left) {
    const { kind, incident_id, state, started, actor, holder } = one.rotation;
    status.unfinished.push({
      what: `${one.tenant}: ${kind}${incident_id === null ? "" : ` for ${incident_id}`}, left in state ${state}`,
      since: started,
      by: holder?.user ?? actor,
      held: isAtWork(one.rotation) || !isSilent(one.rotation),
      next: resumeCommand(one),
    });
  }
  const holder = canary?.data.holder;
  if (holder)
    status.unfinished.push({
      what: "a backup is being made",
      ...{ since: holder.since, by: holder.user, held: holderState(holder) !== "gone" },
      next: "npx runbook backup-vault",
    });
  const restore = progressOf(canary?.customMetadata);
  if (restore !== undefined && !hasEnded(restore))
    status.unfinished.push({
      what: `this Vault is half restored (${restore.step})`,
      ...{ since: restore.began, by: null, held: false, next: "npx runbook restore-vault" },
    });
}

async function lookAtBackups(run: StatusRun, settings: Settings, status: Status): Promise<void> {
  const catalog = await readCatalog(new BackupStore(backupBucket(settings), "verifier", run.env));
  const opened = catalog.backups.filter((one) => one.opened.length > 0);
  const restored = catalog.backups.flatMap((one: CatalogEntry) => one.restored.map(({ at }) => at));
  status.backups = {
    as_of: newest({ backups: opened, broken: [] })?.manifest.canary.written ?? null,
    restored_at: restored.sort().at(-1) ?? null,
    proof: proofCommand(catalog),
    opened: opened.length,
    all: catalog.backups.length,
  };
}

async function lookAtNotices(run: StatusRun, settings: Settings, status: Status): Promise<void> {
  const waiting = await new Outbox(settings, run.env).waiting();
  status.notices = waiting.map(({ name, tenant_id, created }) => ({
    name,
    tenant_id: tenant_id ?? null,
    since: created,
    next: "npx runbook notify flush",
  }));
}

function lookAtSpool(run: StatusRun, settings: Settings, status: Status): void {
  const waiting = openAudit(settings.audit, run.env).spool.waiting();
  if (waiting.length === 0) return;
  status.unfinished.push({
    what: `${waiting.length} audit events wait for the log`,
    since: waiting[0]?.event?.timestamp ?? null,
    ...{ by: null, held: false, next: "npx runbook audit flush" },
  });
}

function lookAtDrills(settings: Settings, status: Status): void {
  status.drill = readDrillReports(settings.drills, 1)[0] ?? null;
}
