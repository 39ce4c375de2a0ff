// Bringing a notice to one receiver in bounded time: attempts with pauses between them, and none at all to a relay
// or a webhook that has just been found dead, so that hundreds of notices don't wait for it one after the other.
import { setTimeout as sleep } from "node:timers/promises";
import { messageOf } from "./errors.ts";
import { turnstile } from "./parallel.ts";
import { oneLine } from "./printable.ts";
import { redact } from "./redact.ts";

/** Milliseconds. The defaults come to 18 s at most. */
export interface Pace {
  /** What one attempt may take. */
  attempt: number;
  /** How long to wait before each further attempt. */
  pauses: readonly number[];
  /** How long a receiver that was found dead isn't tried again. */
  dead: number;
}
export const PACE: Pace = { attempt: 5_000, pauses: [500, 2_000], dead: 30_000 };

/**
 * Why a receiver doesn't have it. `later`: this notice may be tried again; `never`: not in this run, the others may
 * go; `down`: nothing else can be brought to this receiver either. Other errors count as `later`.
 */
export class Undelivered extends Error {
  readonly try: "later" | "never" | "down";

  constructor(message: string, when: "later" | "never" | "down", options?: ErrorOptions) {
    super(message, options);
    this.name = "Undelivered";
    this.try = when;
  }
}

/** Notices on their way to a receiver at a time. Some relays refuse more than 20 connections. */
const AT_ONCE = 16;
/** The same as long as it has taken none: it may be dead, and each is tried several times. */
const AT_FIRST = 8;

/** One for each relay or webhook and run. */
export class Receiver {
  private readonly pace: Pace;
  private readonly atFirst = turnstile(AT_FIRST);
  private readonly atOnce = turnstile(AT_ONCE);
  private lastSuccess = Number.NEGATIVE_INFINITY;
  private down: { why: string; since: number } | undefined;

  constructor(pace: Pace) {
    this.pace = pace;
  }

  /** Tries until it is done. Returns why it isn't, without any secret; undefined: it is. */
  bring(send: (signal: AbortSignal) => Promise<void>): Promise<string | undefined> {
    const turn = this.lastSuccess === Number.NEGATIVE_INFINITY ? this.atFirst : this.atOnce;
    return turn(() => this.tryAgain(send));
  }

  private async tryAgain(send: (signal: AbortSignal) => Promise<void>): Promise<string | undefined> {
    const start = performance.now();
    for (const pause of [...this.pace.pauses, undefined]) {
      if (this.down !== undefined && performance.now() - this.down.since < this.pace.dead)
        return this.down.why;
      const failure = await this.attempt(send);
      if (failure === undefined) return undefined;
      const why = oneLine(redact(messageOf(failure))).slice(0, 300);
      const when = failure instanceof Undelivered ? failure.try : "later";
      // A notice that fails while others get through is no reason to keep those back.
      const dead = when === "down" || (pause === undefined && when === "later" && this.lastSuccess < start);
      if (dead) this.down = { why, since: performance.now() };
      if (dead || when === "never" || pause === undefined) return why;
      await sleep(pause);
    }
    return undefined;
  }

  private async attempt(send: (signal: AbortSignal) => Promise<void>): Promise<unknown> {
    const signal = AbortSignal.timeout(this.pace.attempt);
    try {
      await abortable(send(signal), signal);
      this.lastSuccess = performance.now();
      return undefined;
    } catch (error) {
      if (signal.aborted)
        return new Error(`no answer within ${this.pace.attempt / 1000} s`, { cause: error });
      return withCause(error);
    }
  }
}

/** What is wrong with the settings or their secrets is wrong for every notice, and at every attempt. */
export function orDown<T>(prepare: () => T): T {
  try {
    return prepare();
  } catch (error) {
    throw new Undelivered(messageOf(error), "down", { cause: error });
  }
}

/** The promise's result unless the signal comes first. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** `fetch` says only "fetch failed"; the reason is one below. */
function withCause(error: unknown): unknown {
  if (error instanceof Undelivered || !(error instanceof Error) || !(error.cause instanceof Error))
    return error;
  const reason = error.cause instanceof AggregateError ? error.cause.errors[0] : error.cause;
  return new Error(messageOf(reason) || error.message, { cause: error });
}
