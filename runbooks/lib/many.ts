// The same work on many tenants at once, by one machine or by several that share it through the rotation records:
// whoever finds a tenant in another's hands goes on with the next and comes back to it later.
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import type { TenantId } from "../../stacks/names.ts";
import { Interrupted, messageOf, RunbookError } from "./errors.ts";
import { holderState } from "./holder.ts";
import { inParallel } from "./parallel.ts";
import { readRotation } from "./rotation-begin.ts";
import type { Run } from "./runbook.ts";
import { Held, SILENCE_MS, type TakeOver } from "./take-over.ts";
import type { Vault } from "./vault.ts";

/** What becomes of one tenant. */
export interface TenantOutcome {
  readonly tenant: TenantId;
  readonly outcome: "done" | "unchanged" | "incomplete" | "failed";
  /** The credential's version, where it is known. */
  readonly version?: number;
  readonly seconds: number;
  /** What is outstanding, or why it failed. */
  readonly problems: readonly string[];
  readonly next?: string;
}

/** Steps of one tenant, and what is to be done when it is finished. */
export type TenantTools = Pick<Run<unknown>, "check" | "change" | "note" | "onExit">;
export type TenantWork = (
  tools: TenantTools,
  tenant: TenantId,
  takeOver: TakeOver,
) => Promise<Omit<TenantOutcome, "tenant" | "seconds">>;

export interface ManyOptions {
  readonly vault: Vault;
  /** How many at a time. */
  readonly atOnce: number;
  /** What to do about holders that can't be seen from here; `watch` means: come back to them. */
  readonly takeOver: TakeOver;
}

/** Milliseconds between two looks at tenants that others hold. */
const LOOK_AGAIN_MS = 2_000;

/**
 * Works on every tenant; one that fails holds up no other, but a single one's error is thrown as it is.
 * Throws Interrupted when the run was asked to end.
 */
export async function forEachTenant(
  run: Pick<Run<unknown>, "check" | "change" | "note" | "quietly" | "signal" | "progress">,
  tenants: readonly TenantId[],
  work: TenantWork,
  options: ManyOptions,
): Promise<TenantOutcome[]> {
  // V8 lets garbage lie as long as the machine has memory: hundreds of tenants took over 300 MB, of which 50 were in
  // use. Here and not at the start, since whoever waits for one reset would pay for it.
  setFlagsFromString("--heap-growing-percent=30");
  const outcomes = new Map<TenantId, TenantOutcome>();
  const held = new Map<TenantId, Watched>();
  const progress = new Progress(run, tenants.length, outcomes, held);
  const one = async (tenant: TenantId, takeOver: TakeOver) => {
    if (run.signal.aborted) return;
    progress.begin();
    const outcome = await attempt(run, tenants.length, tenant, work, takeOver);
    progress.end();
    if (outcome === undefined) return;
    if (outcome instanceof Held)
      held.set(tenant, { error: outcome, version: outcome.version, since: performance.now() });
    else {
      held.delete(tenant);
      outcomes.set(tenant, outcome);
    }
    progress.show();
  };
  const patient = tenants.length === 1 && options.takeOver === "watch";
  const takeOver = options.takeOver === "watch" && !patient ? "leave" : options.takeOver;
  // In another order on each machine, so that several don't stand in each other's way.
  await inParallel(shuffled(tenants), options.atOnce, (tenant) => one(tenant, takeOver));
  endIfAsked(run.signal);
  while (held.size > 0 && options.takeOver === "watch" && !patient) {
    await sleep(LOOK_AGAIN_MS, undefined, { signal: run.signal });
    await inParallel([...held], options.atOnce, async ([tenant, watched]) => {
      const again = await lookAgain(options.vault, tenant, watched);
      if (again !== undefined) await one(tenant, again);
    });
    endIfAsked(run.signal);
    progress.show();
  }
  for (const [tenant, { error }] of held) outcomes.set(tenant, failed(tenant, error, 0));
  return tenants.flatMap((tenant) => outcomes.get(tenant) ?? []);
}

/** Only once every tenant's running step has ended. */
function endIfAsked(signal: AbortSignal): void {
  if (signal.aborted) throw new Interrupted("ended between two steps");
}

/** A tenant in somebody else's hands. */
interface Watched {
  readonly error: Held;
  version: number;
  /** By this process's own clock, since when the record is as it is. */
  since: number;
}

/** How to try again a tenant that somebody held: undefined while he lives, or may live. One small read. */
async function lookAgain(vault: Vault, tenant: TenantId, watched: Watched): Promise<TakeOver | undefined> {
  const { stored, version } = await readRotation(vault, tenant);
  const holder = stored?.data.holder;
  if (!holder || holderState(holder) === "gone") return "leave";
  if (version !== watched.version) Object.assign(watched, { version, since: performance.now() });
  return performance.now() - watched.since >= SILENCE_MS ? { version } : undefined;
}

async function attempt(
  run: Pick<Run<unknown>, "check" | "change" | "note" | "quietly" | "signal">,
  count: number,
  tenant: TenantId,
  work: TenantWork,
  takeOver: TakeOver,
): Promise<TenantOutcome | Held | undefined> {
  const cleanups: (() => void | Promise<void>)[] = [];
  const onExit = (cleanup: () => void | Promise<void>) => void cleanups.push(cleanup);
  const begin = performance.now();
  const took = () => Math.round(performance.now() - begin) / 1000;
  try {
    // One tenant's steps are the run's own.
    const { check, change, note } = count === 1 ? run : run.quietly(tenant);
    const done = await work({ check, change, note, onExit }, tenant, takeOver);
    return { tenant, ...done, seconds: took() };
  } catch (error) {
    if (count === 1) throw error;
    if (error instanceof Held) return error;
    return error instanceof Interrupted ? undefined : failed(tenant, error, took());
  } finally {
    for (const cleanup of cleanups.reverse()) await cleanup();
  }
}

function failed(tenant: TenantId, error: unknown, seconds: number): TenantOutcome {
  const known = error instanceof RunbookError;
  return {
    tenant,
    outcome: known && error.exitCode === 5 ? "incomplete" : "failed",
    seconds,
    problems: [messageOf(error)],
    ...(known && error.next !== undefined ? { next: error.next } : {}),
  };
}

/** Done, failed, running, and how long the rest will take at this pace. */
class Progress {
  readonly #run: Pick<Run<unknown>, "progress">;
  readonly #count: number;
  readonly #outcomes: ReadonlyMap<TenantId, TenantOutcome>;
  readonly #held: ReadonlyMap<TenantId, Watched>;
  readonly #begin = performance.now();
  #running = 0;

  constructor(
    run: Pick<Run<unknown>, "progress">,
    count: number,
    outcomes: ReadonlyMap<TenantId, TenantOutcome>,
    held: ReadonlyMap<TenantId, Watched>,
  ) {
    this.#run = run;
    this.#count = count;
    this.#outcomes = outcomes;
    this.#held = held;
  }

  begin(): void {
    this.#running += 1;
  }

  end(): void {
    this.#running -= 1;
  }

  show(): void {
    if (this.#count === 1) return;
    const all = [...this.#outcomes.values()];
    const bad = all.filter(({ outcome }) => outcome === "failed" || outcome === "incomplete").length;
    const left = this.#count - all.length;
    const seconds = ((performance.now() - this.#begin) / 1000 / Math.max(1, all.length)) * left;
    const others = this.#held.size > 0 ? `, ${this.#held.size} in others' hands` : "";
    this.#run.progress(
      `${all.length - bad} done, ${bad} failed, ${this.#running} running${others}, ${left} to go` +
        (left > 0 && all.length > 0 ? `, about ${Math.ceil(seconds)} s` : ""),
    );
  }
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}
