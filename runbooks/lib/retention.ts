// Which backups stay and which may go, by the day in their names alone: when an object was uploaded says nothing of what
// is in it. Pure, so that leap days, missing days and wrong clocks are tried without a bucket. Whoever deletes also
// respects locks, which nothing here knows of.
import { type BackupDay, dayOf } from "../../stacks/names.ts";
import type { Catalog, CatalogEntry } from "./backup-catalog.ts";
import type { ObjectVersion } from "./backup-store.ts";

/** The newest opened one of each of the newest days that have one. */
export const DAILY = 30;
/** The first opened one of each of the newest months that have one. */
export const MONTHLY = 12;
/**
 * Milliseconds, by the bucket's own clock, by which a leftover is older than the newest opened backup. What a run has
 * stored that hasn't written its manifest yet looks like a leftover; no run takes so long.
 */
const GRACE = 86_400_000;

export interface Verdict {
  readonly keep: boolean;
  /** Half a sentence, for the table. */
  readonly why: string;
}

export interface Plan {
  /** The one that everything which goes has to be older than. */
  readonly newestOpened: CatalogEntry | undefined;
  /** In the catalog's order. */
  readonly backups: readonly (Verdict & { readonly backup: CatalogEntry })[];
  /** What is no backup. */
  readonly leftovers: readonly (Verdict & { readonly object: ObjectVersion })[];
}

export function planRetention(catalog: Catalog, now: Date): Plan {
  const good = openedUntil(catalog.backups, now);
  const rules = new Rules(good, now);
  const verdicts = new Map<ObjectVersion, Verdict>();
  // Two manifests may speak of one snapshot, since a request whose answer was lost is sent again: one verdict for both.
  for (const backup of catalog.backups)
    if (!verdicts.has(backup.object)) verdicts.set(backup.object, rules.on(backup));
  const unclear = new Set(
    catalog.broken
      .filter(({ unclear, object }) => unclear && object.kind === "manifest")
      .map(({ object }) => object.day),
  );
  return {
    newestOpened: good[0],
    backups: catalog.backups.map((backup) => ({
      backup,
      ...(verdicts.get(backup.object) ?? rules.on(backup)),
    })),
    leftovers: catalog.broken.map((one) => ({ object: one.object, ...onLeftover(one, good[0], unclear) })),
  };
}

/** Those that count: opened, and not dated in the future, where a clock was wrong. The newest first. */
export const openedUntil = (backups: readonly CatalogEntry[], now: Date): CatalogEntry[] =>
  backups.filter(({ day, opened }) => opened.length > 0 && day <= dayOf(now));

/**
 * The first of each month: what verify-backup locks for a year and what is kept for a year are the same one.
 * @param good as `openedUntil` gives them.
 */
export const firstOfMonths = (good: readonly CatalogEntry[]): Map<string, CatalogEntry> =>
  // Of several with one key the last one stays: the oldest.
  new Map(good.map((one) => [monthOf(one.day), one]));

const monthOf = (day: BackupDay): string => day.slice(0, 7);

class Rules {
  readonly #good: readonly CatalogEntry[];
  readonly #today: BackupDay;
  readonly #days: Kept;
  readonly #months: Kept;

  constructor(good: readonly CatalogEntry[], now: Date) {
    this.#good = good;
    this.#today = dayOf(now);
    this.#days = new Kept(new Map(good.toReversed().map((one) => [one.day, one])), DAILY);
    this.#months = new Kept(firstOfMonths(good), MONTHLY);
  }

  on(backup: CatalogEntry): Verdict {
    const { day, object } = backup;
    const month = monthOf(day);
    const newest = this.#good[0];
    if (day > this.#today) return keep("dated in the future: it counts for nothing, and is not touched");
    if (newest === undefined) return keep("no backup was opened yet");
    if (!isOlder(backup, newest)) {
      return keep(backup.opened.length > 0 ? "the newest that was opened" : "not opened yet");
    }
    const places = [
      ...(this.#days.has(day, object) ? ["daily"] : []),
      ...(this.#months.has(month, object) ? [`the first of ${month}`] : []),
    ];
    if (places.length > 0) return keep(places.join(", "));
    if (backup.opened.length > 0) {
      const why = this.#days.covers(day)
        ? `another one of ${day} stays`
        : `older than ${DAILY} days with one`;
      return drop(why);
    }
    // It may be the only one of its day that opens: as long as nobody has tried, it keeps the day's place.
    if (this.#days.misses(day)) return keep(`not opened, nor any other of ${day}: try it`);
    if (this.#months.misses(month)) return keep(`not opened, nor any other of ${month}: try it`);
    return drop("never opened, and newer ones were");
  }
}

/** The newest `count` places (days or months) of those that have a good backup. */
class Kept {
  readonly #all: Map<string, CatalogEntry>;
  /** The oldest place that is kept; undefined while there are fewer than promised. */
  readonly #oldest: string | undefined;

  constructor(all: Map<string, CatalogEntry>, count: number) {
    this.#all = all;
    this.#oldest = [...all.keys()].sort().at(-count);
  }

  has(place: string, object: ObjectVersion): boolean {
    return this.covers(place) && this.#all.get(place)?.object === object;
  }

  /** There is a good one, and it stays. */
  covers(place: string): boolean {
    return this.#all.has(place) && this.#within(place);
  }

  /** There is no good one, and the promise reaches back that far. */
  misses(place: string): boolean {
    return !this.#all.has(place) && this.#within(place);
  }

  #within = (place: string): boolean => this.#oldest === undefined || place >= this.#oldest;
}

/** By the day in the name, then by the canary's time: the catalog's order. */
const isOlder = (a: CatalogEntry, b: CatalogEntry): boolean =>
  a.day === b.day
    ? Date.parse(a.manifest.canary.written) < Date.parse(b.manifest.canary.written)
    : a.day < b.day;

function onLeftover(
  { object, unclear, why }: Catalog["broken"][number],
  newest: CatalogEntry | undefined,
  unclearDays: ReadonlySet<BackupDay>,
): Verdict {
  if (unclear) return keep(`${why}: look at it`);
  // A newer release may write manifests that this one can't read: what lies beside such a one may be its backup.
  if (unclearDays.has(object.day)) return keep(`${why}; but a manifest of its day can't be read here`);
  if (newest === undefined || object.day >= newest.day) return keep(`${why}; no newer backup was opened yet`);
  if (object.uploaded.getTime() + GRACE > newest.object.uploaded.getTime())
    return keep(`${why}; its run may not have ended`);
  return drop(why);
}

const keep = (why: string): Verdict => ({ keep: true, why });
const drop = (why: string): Verdict => ({ keep: false, why });
