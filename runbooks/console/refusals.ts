// Guessing is slow: so many refused sign-ins within five minutes for one name, from one address, and all together.
import { setTimeout as sleep } from "node:timers/promises";
import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";
import type { Limits } from "./context.ts";

const WINDOW_S = 300;

export class Refusals {
  readonly #byName: RateLimiterMemory;
  readonly #byAddress: RateLimiterMemory;
  readonly #all: RateLimiterMemory;
  readonly #refusalMs: number;

  constructor({ refusals, refusalMs }: Pick<Limits, "refusals" | "refusalMs">) {
    const atMost = (points: number) => new RateLimiterMemory({ points, duration: WINDOW_S });
    this.#byName = atMost(refusals.name);
    this.#byAddress = atMost(refusals.address);
    this.#all = atMost(refusals.all);
    this.#refusalMs = refusalMs;
  }

  /** Counts an attempt before it is made, for many may come at once. Returns the seconds to wait if there were too many. */
  async count(name: string | undefined, address: string): Promise<number | undefined> {
    try {
      for (const [limiter, key] of this.#of(name, address)) await limiter.consume(key);
      return undefined;
    } catch (error) {
      if (error instanceof RateLimiterRes) return Math.ceil(error.msBeforeNext / 1000);
      throw error;
    }
  }

  /** The attempt was no refusal. */
  async forgive(name: string | undefined, address: string): Promise<void> {
    for (const [limiter, key] of this.#of(name, address)) await limiter.reward(key);
  }

  /** Resolves when a refusal may be told: Vault takes longer for some of what can be wrong than for the rest. */
  notBefore(): Promise<void> {
    return sleep(this.#refusalMs);
  }

  #of(name: string | undefined, address: string): [RateLimiterMemory, string][] {
    const named: [RateLimiterMemory, string][] =
      name === undefined ? [] : [[this.#byName, name.toLowerCase().slice(0, 128)]];
    return [[this.#byAddress, address], ...named, [this.#all, ""]];
  }
}
