// Whether backups are kept, let go and restored as promised: over a month, not tonight.
import { dayOf } from "../../stacks/names.ts";
import { type Catalog, type CatalogEntry, proofCommand } from "./backup-catalog.ts";
import type { BackupStore } from "./backup-store.ts";
import { DAY, damagedDays, finding } from "./drift-backup-damage.ts";
import type { Finding } from "./findings.ts";
import { planPruning } from "./prune-plan.ts";
import { DAILY, openedUntil } from "./retention.ts";

/** Once a month, with a few days in which people find the time. */
const RESTORED = 35 * DAY;
/** What may go is deleted the day after; a week later nobody prunes. */
const PRUNED = 7 * DAY;

export async function retention(store: BackupStore, catalog: Catalog): Promise<Finding[]> {
  return [...missingDays(store.bucket, catalog), ...(await pruningDue(store, catalog))];
}

/** Days between the oldest and the newest opened one, as far back as each day's is kept. */
function missingDays(bucket: string, catalog: Catalog): Finding[] {
  const now = Date.now();
  const days = [...new Set(openedUntil(catalog.backups, new Date(now)).map(({ day }) => day))].sort();
  const [first, last] = [days[0], days.at(-1)];
  if (first === undefined || last === undefined) return [];
  const expected = Array.from({ length: DAILY }, (_, ago) => dayOf(new Date(now - ago * DAY)));
  const damaged = damagedDays(catalog);
  const missing = expected.filter(
    (day) => day > first && day < last && !days.includes(day) && !damaged.includes(day),
  );
  if (missing.length === 0) return [];
  return [
    {
      ...finding(
        bucket,
        "days-missing",
        "",
        `Of ${missing.length} of the last ${DAILY} days no backup can be restored: ${missing.sort().join(", ")}`,
        "npx runbook list-backups   # one that was not opened: npx runbook verify-backup --date DAY",
      ),
      declared: `the newest opened backup of each of the last ${DAILY} days`,
    },
  ];
}

async function pruningDue(store: BackupStore, catalog: Catalog): Promise<Finding[]> {
  const { going } = await planPruning(store, catalog);
  const due = going.filter(({ day }) => Date.now() - Date.parse(`${day}T00:00:00Z`) > DAILY * DAY + PRUNED);
  if (due.length === 0) return [];
  const what = `${due.length} backups and leftovers could have gone a week ago: nobody prunes`;
  return [finding(store.bucket, "pruning-due", "", what, "npx runbook prune-backups")];
}

/** Nothing is due as long as no backup is that old. */
export function restoreDue(bucket: string, catalog: Catalog): Finding[] {
  const { backups } = catalog;
  const times = (of: (one: CatalogEntry) => string[]) => backups.flatMap(of).map((time) => Date.parse(time));
  const last = Math.max(...times(({ restored }) => restored.map(({ at }) => at)));
  const oldest = Math.min(...times(({ manifest }) => [manifest.canary.written]));
  const since = Date.now() - (Number.isFinite(last) ? last : oldest);
  if (!Number.isFinite(since) || since <= RESTORED) return [];
  const what = Number.isFinite(last)
    ? `No backup was restored since ${new Date(last).toISOString()}`
    : "No backup was ever restored";
  return [
    {
      ...finding(
        bucket,
        "restore-due",
        "",
        `${what}: nobody knows whether the key shares, or the recovery keys and the KMS, and the procedure still work`,
        withAddress(proofCommand(catalog)),
      ),
      declared: `a restore every ${RESTORED / DAY} days`,
    },
  ];
}

const withAddress = (command: string): string =>
  command.endsWith(" ADDR")
    ? `${command}   # ADDR: an empty Vault that you start where the KMS is reached and no mail server: docs/scenario-2-vault-loss.md`
    : command;
