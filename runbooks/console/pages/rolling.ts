// Keeps what an open page shows up to date at a pace that Vault doesn't feel: all of it is read once, quickly, then one
// after the other again and again, the oldest first. As soon as nobody looks any more, nothing is read.
import { inParallel } from "../../lib/parallel.ts";

/** What Vault is asked in a second for whatever one person has open, once all of it was read. */
export const READS_PER_SECOND = 3;

/** Keys read at a time while a page fills. */
const AT_ONCE = 8;

/** Milliseconds after which what is known is too old for a page that is being opened: it is read at once then. */
const STALE_MS = 30_000;

export interface Known<Value> {
  readonly value: Value;
  /** When it was read, by `performance.now()`. */
  readonly at: number;
}

export interface RollingOptions<Key, Value> {
  /** Mustn't throw: what can't be read is a value too. `reads` is what it cost. */
  read(key: Key, before: Value | undefined): Promise<{ value: Value; reads: number }>;
  /** Whether it has all that a page shows: if not it is read again before its turn. By default it has. */
  whole?(value: Value): boolean;
}

export class Rolling<Key extends string, Value> {
  readonly #options: RollingOptions<Key, Value>;
  readonly #known = new Map<Key, Known<Value>>();
  readonly #watchers = new Set<{ keys: readonly Key[]; told: (key: Key, known: Known<Value>) => void }>();
  #ending: AbortController | undefined;
  #wake: () => void = () => {};

  constructor(options: RollingOptions<Key, Value>) {
    this.#options = options;
  }

  known(key: Key): Known<Value> | undefined {
    return this.#known.get(key);
  }

  /** Reads these keys from now on and tells what was read. Call what it returns when nobody looks any more. */
  watch(keys: readonly Key[], told: (key: Key, known: Known<Value>) => void): () => void {
    const watcher = { keys, told };
    for (const key of keys) if (this.#age(key) > STALE_MS) this.#known.delete(key);
    this.#watchers.add(watcher);
    if (keys.some((key) => !this.#known.has(key))) this.#wake();
    if (this.#ending === undefined) void this.#roll();
    return () => {
      this.#watchers.delete(watcher);
      if (this.#watchers.size === 0) this.#ending?.abort();
    };
  }

  /** Somebody has just read it by himself. */
  put(key: Key, value: Value): void {
    const known = { value, at: performance.now() };
    this.#known.set(key, known);
    for (const { keys, told } of this.#watchers) if (keys.includes(key)) told(key, known);
  }

  /** Something happened to it: what is known of it is read anew before anything else. */
  forget(key: Key): void {
    this.#known.delete(key);
    this.#wake();
  }

  /** The same for all that was read before a moment, by `performance.now()`. */
  forgetBefore(moment: number): void {
    for (const [key, { at }] of this.#known) if (at < moment) this.#known.delete(key);
    this.#wake();
  }

  async #roll(): Promise<void> {
    const ending = new AbortController();
    this.#ending = ending;
    ending.signal.addEventListener("abort", () => this.#wake());
    while (!ending.signal.aborted) {
      const keys = [...new Set([...this.#watchers].flatMap((one) => one.keys))];
      const unread = keys.filter((key) => !this.#known.has(key));
      await this.#readAll(unread, ending.signal);
      const parts = keys.filter((key) => this.#isPart(key));
      await this.#readAll(parts, ending.signal);
      const oldest = unread.length + parts.length > 0 ? undefined : this.#oldest(keys);
      const reads = oldest === undefined ? READS_PER_SECOND : await this.#read(oldest);
      await this.#pause((reads * 1000) / READS_PER_SECOND, ending.signal);
    }
    if (this.#ending === ending) this.#ending = undefined;
    // Somebody began to look while the last read was still under way.
    if (this.#watchers.size > 0 && this.#ending === undefined) void this.#roll();
  }

  async #readAll(keys: readonly Key[], signal: AbortSignal): Promise<void> {
    await inParallel(keys, AT_ONCE, async (key) => {
      if (!signal.aborted) await this.#read(key);
    });
  }

  /** Until the time is over, nobody looks any more, or there is something to be read at once. */
  async #pause(milliseconds: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, milliseconds);
    this.#wake = resolve;
    await promise;
    clearTimeout(timer);
  }

  #isPart(key: Key): boolean {
    const known = this.#known.get(key);
    return known !== undefined && this.#options.whole?.(known.value) === false;
  }

  #oldest(keys: readonly Key[]): Key | undefined {
    return keys.reduce<Key | undefined>(
      (found, key) => (found === undefined || this.#age(key) > this.#age(found) ? key : found),
      undefined,
    );
  }

  async #read(key: Key): Promise<number> {
    const before = this.#known.get(key);
    const { value, reads } = await this.#options.read(key, before?.value);
    // What came to be known meanwhile is newer, and what was forgotten is to be read anew.
    if (this.#known.get(key) === before) this.put(key, value);
    return reads;
  }

  #age(key: Key): number {
    const known = this.#known.get(key);
    return known === undefined ? Number.POSITIVE_INFINITY : performance.now() - known.at;
  }
}
