// What a pruning would do to the bucket as it is now: the retention's verdicts, and the locks that overrule them.
import { type BackupDay, dayOf } from "../../stacks/names.ts";
import { type Catalog, type CatalogEntry, readCatalog } from "./backup-catalog.ts";
import type { BackupStore, ObjectVersion } from "./backup-store.ts";
import { inParallel } from "./parallel.ts";
import { planRetention } from "./retention.ts";

/** What goes together: all parts of a backup, or a single leftover. */
export interface Going {
  readonly day: BackupDay;
  readonly why: string;
  readonly manifests: readonly ObjectVersion[];
  readonly marks: readonly ObjectVersion[];
  readonly snapshots: readonly ObjectVersion[];
  /** Of a backup, and not of what is none. */
  readonly backup: boolean;
}

/** A line of the table. */
export interface Row {
  date: BackupDay;
  object: string;
  version_id: string;
  /** As of when it is; null for what is no backup. */
  canary_written: string | null;
  opened: boolean;
  keep: boolean;
  why: string;
}

export interface Pruning {
  readonly newestOpened: BackupDay | null;
  readonly rows: readonly Row[];
  readonly going: readonly Going[];
}

/** Requests to the bucket at a time. */
const AT_ONCE = 16;

/**
 * @param catalog where it was read just now.
 * @throws RunbookError (exit 1 or 3) when the bucket can't be read.
 */
export async function planPruning(store: BackupStore, catalog?: Catalog): Promise<Pruning> {
  const plan = planRetention(catalog ?? (await readCatalog(store)), new Date());
  const backups = plan.backups.filter(
    // Of two manifests of one snapshot the first has the row, and all parts.
    ({ backup }, at, all) => all.findIndex((other) => other.backup.object === backup.object) === at,
  );
  const all = [
    ...backups.map((one) => ({
      ...one,
      going: wholeBackup(one.backup, one.why, plan.backups),
      row: rowOf(one.backup.object, one.backup),
    })),
    ...plan.leftovers.map((one) => ({ ...one, going: single(one.object, one.why), row: rowOf(one.object) })),
  ];
  const judged = await inParallel(all, AT_ONCE, async ({ keep, why, going, row }) => {
    const held = keep ? undefined : await heldBy(store, lockable(going));
    return {
      going,
      row: held === undefined ? { ...row, keep, why } : { ...row, keep: true, why: `${held}; ${why}` },
    };
  });
  return {
    newestOpened: plan.newestOpened?.day ?? null,
    rows: judged.map(({ row }) => row),
    going: judged.filter(({ row }) => !row.keep).map(({ going }) => going),
  };
}

/** What is still to go of what was to go before. */
export function stillGoing(before: Pruning, now: Pruning): Going[] {
  const known = new Set(before.going.map(nameOf));
  return now.going.filter((one) => known.has(nameOf(one)));
}

/** Why one of these can't be deleted; undefined when all can. */
export async function heldBy(
  store: BackupStore,
  objects: readonly ObjectVersion[],
): Promise<string | undefined> {
  for (const object of objects) {
    const until = await store.lockedUntil(object);
    if (until !== undefined && until.getTime() > Date.now()) return `locked until ${dayOf(until)}`;
    if (await store.onLegalHold(object)) return "under a legal hold";
  }
  return undefined;
}

/**
 * A backup goes as a whole or not at all, but its marks don't count: each new one is locked anew, and would hold it for
 * as long as somebody goes on opening it. What is left of them goes later, as leftovers.
 */
function lockable({ backup, manifests, snapshots, marks }: Going): ObjectVersion[] {
  return [...manifests, ...snapshots, ...(backup ? [] : marks)];
}

/** By its snapshot, which stays the same when another run has taken the manifest away; else by itself. */
function nameOf({ snapshots, manifests, marks }: Going): string {
  const [main] = [...snapshots, ...manifests, ...marks];
  return `${main?.key} ${main?.versionId}`;
}

function wholeBackup(
  { day, object, marks }: CatalogEntry,
  why: string,
  all: readonly { backup: CatalogEntry }[],
): Going {
  const manifests = all.filter((one) => one.backup.object === object).map((one) => one.backup.manifestObject);
  return { day, why, manifests, marks, snapshots: [object], backup: true };
}

function single(object: ObjectVersion, why: string): Going {
  const parts = { manifests: [object], marks: [object], snapshots: [object] };
  const part = object.kind === "manifest" ? "manifests" : object.kind === "snapshot" ? "snapshots" : "marks";
  return {
    day: object.day,
    why,
    manifests: [],
    marks: [],
    snapshots: [],
    [part]: parts[part],
    backup: false,
  };
}

const rowOf = (object: ObjectVersion, backup?: CatalogEntry) => ({
  date: object.day,
  object: object.key,
  version_id: object.versionId,
  canary_written: backup?.manifest.canary.written ?? null,
  opened: (backup?.opened.length ?? 0) > 0,
});
