// The step engine: everything that a runbook does is a check or a change. A dry run runs the checks and prints
// the changes, so it can't say anything else than what a real run would do.
import { AsyncLocalStorage } from "node:async_hooks";
import { Interrupted } from "./errors.ts";
import type { Operator } from "./operator.ts";

export interface Step {
  title: string;
  kind: "check" | "change";
  /** `planned`: a change in a dry run, which wasn't made. */
  outcome: "done" | "failed" | "planned";
  /** How long it took. */
  seconds: number;
}

export class Steps {
  readonly all: Step[] = [];
  /** True from the first change's start: from here on an interruption leaves something to resume. */
  changeBegan = false;
  private readonly operator: Pick<Operator, "began" | "ended">;
  private readonly signal: AbortSignal;
  private readonly dryRun: boolean;
  private readonly parent: Steps | undefined;
  /** How many steps this one is in. Two that run side by side are in none of each other. */
  private readonly depth = new AsyncLocalStorage<number>();

  /** @param options.parent the run's own steps, where these are a part of them that is told of by itself. */
  constructor(options: {
    operator: Pick<Operator, "began" | "ended">;
    signal: AbortSignal;
    dryRun: boolean;
    parent?: Steps;
  }) {
    this.operator = options.operator;
    this.signal = options.signal;
    this.dryRun = options.dryRun;
    this.parent = options.parent;
  }

  /** Reads and compares; runs in a dry run too. @throws Interrupted when the run was asked to end before it. */
  async check<T>(title: string, fn: () => T | Promise<T>): Promise<T> {
    this.endIfAsked();
    return this.timed({ title, kind: "check", outcome: "done", seconds: 0 }, fn);
  }

  /** Writes. In a dry run the title is printed, `fn` isn't called and the value is undefined. */
  async change<T>(title: string, fn: () => T | Promise<T>): Promise<T | undefined> {
    this.endIfAsked();
    if (this.dryRun) {
      const planned: Step = { title, kind: "change", outcome: "planned", seconds: 0 };
      this.all.push(planned);
      await this.operator.ended(planned, this.inside());
      return undefined;
    }
    this.changeBegan = true;
    if (this.parent !== undefined) this.parent.changeBegan = true;
    return this.timed({ title, kind: "change", outcome: "done", seconds: 0 }, fn);
  }

  private async timed<T>(step: Step, fn: () => T | Promise<T>): Promise<T> {
    this.all.push(step);
    const depth = this.inside();
    await this.operator.began(step, depth);
    const start = performance.now();
    let failed = true;
    try {
      const value = await this.depth.run(depth + 1, async () => fn());
      failed = false;
      return value;
    } finally {
      step.seconds = Math.round(performance.now() - start) / 1000;
      step.outcome = failed ? "failed" : "done";
      await this.operator.ended(step, depth);
    }
  }

  private inside(): number {
    return this.depth.getStore() ?? 0;
  }

  private endIfAsked(): void {
    if (this.signal.aborted) throw new Interrupted("ended between two steps");
  }
}
