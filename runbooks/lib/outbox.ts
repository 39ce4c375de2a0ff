// The outbox: notices that somebody still has to get. They lie beside the audit copies, so that any machine can
// deliver them. Each is delivered at least once: one that comes again, after a crash or from two machines at once,
// has the same Message-ID and idempotency key.
import { messageOf, RunbookError } from "./errors.ts";
import { type NewNotice, Notice } from "./notice.ts";
import { PACE, type Pace } from "./notify-attempt.ts";
import { Channels, missingChannels } from "./notify-channels.ts";
import type { Notify } from "./notify-settings.ts";
import { type Kept, OutboxStore, type Waiting } from "./outbox-store.ts";
import { turnstile } from "./parallel.ts";
import { redactDeep } from "./redact.ts";
import type { Settings } from "./settings.ts";

export class Outbox {
  /** Why nobody is told of anything, to be said once in a run; undefined where somebody is. */
  readonly warning: string | undefined;
  private readonly notify: Notify | undefined;
  private readonly store: OutboxStore;
  /** What this run has kept and not begun to deliver, by tenant. */
  private readonly fresh = new Map<string, Notice[]>();
  private readonly meanwhile: Promise<string[]>[] = [];
  private readonly turn = turnstile(AT_ONCE);
  private readonly channels: Channels | undefined;

  /** Creates nothing and reads no secret yet. */
  constructor(settings: Settings, env: NodeJS.ProcessEnv = process.env, pace: Pace = PACE) {
    this.notify = settings.notify;
    this.warning =
      settings.notify === undefined
        ? `${settings.file} has no notify section: nobody is told of this by mail or webhook`
        : undefined;
    this.store = new OutboxStore(settings.audit, env);
    this.channels = settings.notify && new Channels(settings.notify, env, pace);
  }

  /**
   * Stores a notice, durably when this resolves; one of the same id that waits already stays as it is. Without a
   * `notify` section nothing is kept: see `warning`.
   * @throws RunbookError (exit 5) when neither the bucket nor the disk takes it.
   */
  async keep(notice: NewNotice): Promise<void> {
    if (this.notify === undefined) return;
    const created = notice.created ?? new Date().toISOString();
    try {
      const kept = redactDeep(Notice.parse({ ...notice, created }));
      await this.store.create(kept);
      const tenant = notice.tenant_id ?? "";
      this.fresh.set(tenant, [...(this.fresh.get(tenant) ?? []), kept]);
    } catch (cause) {
      if (!(cause instanceof AggregateError)) throw cause;
      throw new RunbookError(`the notice ${notice.name} can't be stored: ${cause.message}`, {
        exit: "incomplete",
        next: "mend the cause, then run the same command again",
        cause,
      });
    }
  }

  /** The notices that wait, the oldest first. @throws Error when a place can't be read. */
  async waiting(): Promise<Notice[]> {
    const { notices, unreachable } = await this.inventory();
    const [first] = unreachable;
    if (first !== undefined) throw new Error(first.why);
    return notices;
  }

  /** The same with what can't be read. */
  async inventory(): Promise<{ notices: Notice[]; unreadable: Waiting[]; unreachable: Waiting[] }> {
    const { kept, ...rest } = await this.store.look();
    return { notices: kept.map(({ notice }) => notice), ...rest };
  }

  /** The channels that a notice still has to reach; none where the settings name nobody. */
  missing(notice: Notice): string[] {
    return this.notify === undefined ? [] : missingChannels(this.notify, notice);
  }

  /**
   * Brings what waits to its receivers, in bounded time, and removes what all of them have. Doesn't throw for what
   * fails: that waits on.
   * @param notices only these; one that has left the outbox meanwhile isn't sent again.
   * @returns event ids of what was delivered, and what still waits and why.
   */
  async deliver(notices?: Notice[]): Promise<{ delivered: string[]; waiting: Waiting[] }> {
    const before = (await Promise.all(this.meanwhile.splice(0))).flat();
    await this.store.moveToBucket();
    const found = await (notices === undefined ? this.store.look() : this.store.find(notices));
    const { delivered, waiting } = await this.deliverAll(found.kept);
    return {
      delivered: [...before, ...delivered],
      waiting: [...found.unreadable, ...found.unreachable, ...waiting],
    };
  }

  /**
   * Begins to deliver what this run has kept of a tenant's notices and doesn't wait for it: of hundreds of tenants the
   * first are told while the last are still at work. What fails waits for `deliver`, which tries once more unless the
   * receiver was found dead just now.
   */
  deliverMeanwhile(tenant: string): void {
    const notices = this.fresh.get(tenant) ?? [];
    this.fresh.delete(tenant);
    if (this.channels === undefined || notices.length === 0) return;
    const delivering = this.store
      .find(notices)
      .then(({ kept }) => this.deliverAll(kept))
      .then(({ delivered }) => delivered);
    this.meanwhile.push(delivering.catch(() => []));
  }

  private async deliverAll(all: readonly Kept[]): Promise<{ delivered: string[]; waiting: Waiting[] }> {
    const { channels } = this;
    const delivered: string[] = [];
    const waiting: Waiting[] = [];
    const one = async (kept: Kept) => {
      const { event_id, name, incident_id } = kept.notice;
      const why = channels === undefined ? this.warning : await this.deliverOne(kept, channels);
      if (why === undefined) delivered.push(event_id);
      else waiting.push({ event_id, name, why, incident_id });
    };
    await Promise.all(all.map((kept) => this.turn(() => one(kept))));
    return { delivered, waiting };
  }

  /** Returns why it waits on; undefined: everybody has it. */
  private async deliverOne(kept: Kept, channels: Channels): Promise<string | undefined> {
    const notice = withOutcome(kept.notice, await channels.bring(kept.notice));
    const whys = Object.entries(notice.failed).map(([channel, why]) => `${channel}: ${why}`);
    try {
      if (whys.length > 0 && !(await this.store.save(kept, notice))) return undefined;
      if (whys.length === 0) await this.store.remove(kept);
    } catch (error) {
      whys.push(`what was delivered will come again, since that can't be noted: ${messageOf(error)}`);
    }
    if (whys.length > 0 && this.store.isStranded(kept))
      whys.push(`only this machine has it, in ${kept.place.name}`);
    return whys.length > 0 ? whys.join("; ") : undefined;
  }
}

/** Notices on their way at a time. */
const AT_ONCE = 32;

function withOutcome(notice: Notice, outcome: Map<string, string | undefined>): Notice {
  const done = [...outcome].flatMap(([channel, why]) => (why === undefined ? [channel] : []));
  const failed = [...outcome].flatMap(([channel, why]) => (why === undefined ? [] : [[channel, why]]));
  return { ...notice, delivered: [...notice.delivered, ...done], failed: Object.fromEntries(failed) };
}
