// What waits in the outbox, wherever it lies: in the bucket, or on this machine's own disk where there is no bucket
// or it couldn't be reached when the notice was stored.
import { canonicalJson } from "./audit-chain.ts";
import { messageOf } from "./errors.ts";
import { type Notice, parseNotice } from "./notice.ts";
import { OutboxBucket } from "./outbox-bucket.ts";
import { OutboxFolder, type OutboxPlace } from "./outbox-folder.ts";
import { inParallel } from "./parallel.ts";
import type { Settings } from "./settings.ts";

/** A notice as it was read. */
export interface Kept {
  notice: Notice;
  place: OutboxPlace;
  tag: string;
}

/** A notice that still waits and why, an object that is no notice, or a place that can't be read (no `event_id`). */
export interface Waiting {
  event_id: string;
  name: string;
  why: string;
  incident_id?: string | undefined;
}

export interface Found {
  /** The oldest first. */
  kept: Kept[];
  unreadable: Waiting[];
  unreachable: Waiting[];
}

export class OutboxStore {
  private readonly folder: OutboxFolder;
  private readonly bucket: OutboxBucket | undefined;
  private readonly places: OutboxPlace[];

  /** Creates nothing yet. */
  constructor(audit: Settings["audit"], env: NodeJS.ProcessEnv) {
    this.folder = new OutboxFolder(`${audit.log}.outbox`);
    this.bucket = audit.bucket === undefined ? undefined : new OutboxBucket(audit.bucket, env);
    this.places = this.bucket === undefined ? [this.folder] : [this.bucket, this.folder];
  }

  /** Stores a notice durably unless it is there. @throws AggregateError when no place takes it. */
  async create(notice: Notice): Promise<void> {
    const failures: unknown[] = [];
    for (const place of this.places) {
      try {
        await place.create(notice.event_id, canonicalJson(notice));
        return;
      } catch (error) {
        failures.push(error);
      }
    }
    throw new AggregateError(failures, failures.map(messageOf).join("; "));
  }

  /** Everything that waits. */
  async look(): Promise<Found> {
    const kept = new Map<string, Kept>();
    const unreadable: Waiting[] = [];
    const unreachable: Waiting[] = [];
    for (const place of this.places) {
      try {
        await inParallel(await place.ids(), AT_ONCE, async (id) => {
          const one = await load(place, id);
          const twin = kept.get(id);
          if (one === "unreadable") unreadable.push(unreadableAt(place, id));
          else if (twin !== undefined && one !== undefined) twin.notice = merged(twin.notice, one.notice);
          else if (one !== undefined) kept.set(id, one);
        });
      } catch (error) {
        unreachable.push({ event_id: "", name: place.name, why: messageOf(error) });
      }
    }
    const inOrder = [...kept.values()].sort((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1));
    return { kept: inOrder, unreadable, unreachable };
  }

  /**
   * These notices as they are stored now, without those that are gone. Where the bucket doesn't answer, the caller's
   * copy is better than nothing.
   */
  async find(notices: Notice[]): Promise<Found> {
    const found: Found = { kept: [], unreadable: [], unreachable: [] };
    await inParallel(notices, AT_ONCE, async (notice) => {
      let silent: OutboxPlace | undefined;
      for (const place of this.places) {
        try {
          const one = await load(place, notice.event_id);
          if (one === undefined) continue;
          if (one === "unreadable") found.unreadable.push(unreadableAt(place, notice.event_id));
          else found.kept.push(one);
          return;
        } catch {
          silent = place;
        }
      }
      if (silent !== undefined) found.kept.push({ notice, place: silent, tag: "" });
    });
    return found;
  }

  /** What this machine kept while the bucket was down. Whatever fails stays for whoever looks next. */
  async moveToBucket(): Promise<void> {
    const { bucket, folder } = this;
    if (bucket === undefined) return;
    try {
      for (const id of await folder.ids()) {
        const local = await load(folder, id);
        if (local === undefined || local === "unreadable") continue;
        if (!(await bucket.create(id, canonicalJson(local.notice)))) {
          const there = await load(bucket, id);
          if (there === "unreadable") continue;
          if (there !== undefined) await this.save(there, merged(there.notice, local.notice));
        }
        await folder.remove(id);
      }
    } catch {}
  }

  /**
   * Stores what is known now; false when the notice is gone, since somebody else delivered it. Of two machines at
   * one notice, each may have reached another receiver.
   */
  async save({ notice: known, place, tag }: Kept, notice: Notice): Promise<boolean> {
    if (canonicalJson(notice) === canonicalJson(known)) return true;
    let wanted = notice;
    let latest = tag;
    for (let attempt = 0; attempt < 3; attempt += 1) {
      if (await place.replace(notice.event_id, canonicalJson(wanted), latest)) return true;
      const now = await load(place, notice.event_id);
      if (now === undefined) return false;
      if (now === "unreadable") break;
      wanted = merged(now.notice, wanted);
      latest = now.tag;
    }
    throw new Error(
      `${place.name}: ${notice.event_id} changes all the time, so what was delivered may come again`,
    );
  }

  async remove({ notice, place }: Kept): Promise<void> {
    await place.remove(notice.event_id);
  }

  /** Whether no other machine can see it, though there is a bucket. */
  isStranded({ place }: Kept): boolean {
    return this.bucket !== undefined && place === this.folder;
  }
}

const AT_ONCE = 16;

async function load(place: OutboxPlace, id: string): Promise<Kept | "unreadable" | undefined> {
  const stored = await place.read(id);
  if (stored === undefined) return undefined;
  const notice = parseNotice(stored.body);
  return notice?.event_id === id ? { notice, place, tag: stored.tag } : "unreadable";
}

const unreadableAt = (place: OutboxPlace, id: string): Waiting => ({
  event_id: id,
  name: "unreadable",
  why: `isn't a notice: look at it, then remove it from ${place.name}`,
});

function merged(one: Notice, other: Notice): Notice {
  const delivered = [...new Set([...one.delivered, ...other.delivered])];
  const failed = Object.entries({ ...one.failed, ...other.failed });
  return {
    ...one,
    delivered,
    failed: Object.fromEntries(failed.filter(([channel]) => !delivered.includes(channel))),
  };
}

const orderOf = ({ notice }: Kept): string => `${notice.created} ${notice.event_id}`;
