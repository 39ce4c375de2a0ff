// What a scenario of the drill is, and how one is played: every step is timed, the first failure ends it, and a
// promise counts as kept only if it was measured.

import type { Lab } from "../lab/lab.ts";
import type { Tally } from "./tally.ts";

/** One file `scenario-N.ts` exports one of these. */
export interface Scenario {
  name: string;
  /** Promised seconds from the operator's command to the last verified login. */
  targetRto: number;
  /** Promised seconds of what may be lost: changes to credentials, or mail submitted meanwhile. */
  targetRpo: number;
  /** Throws where a proof fails. */
  play(stage: Stage): Promise<Measured>;
}

export interface Measured {
  /** Seconds. */
  rto: number;
  /** Seconds. */
  rpo: number;
  /** What became of mail that was submitted meanwhile, where a scenario submits some. */
  mail?: Tally;
}

/** What a scenario is played on. */
export interface Stage {
  lab: Lab;
  /** Times a step and tells of it; resolves to what `work` does. */
  step<T>(title: string, work: () => Promise<T>): Promise<T>;
}

export interface Step {
  title: string;
  seconds: number;
}

/** How a scenario went. `measured` is missing where it ended before anything could be measured. */
export interface Result {
  scenario: Scenario;
  passed: boolean;
  measured: Measured | undefined;
  steps: Step[];
  /** Why it didn't pass. */
  failure: string | undefined;
}

/** Plays a scenario. Never throws: what went wrong is in the result. */
export async function play(scenario: Scenario, lab: Lab, tell: (line: string) => void): Promise<Result> {
  const steps: Step[] = [];
  const step: Stage["step"] = async (title, work) => {
    const begin = performance.now();
    let mark = "✗";
    try {
      const result = await work();
      mark = "✓";
      return result;
    } finally {
      const seconds = (performance.now() - begin) / 1000;
      steps.push({ title, seconds });
      tell(`  ${mark} ${title} (${seconds.toFixed(1)} s)`);
    }
  };
  try {
    const measured = await scenario.play({ lab, step });
    const failure = broken(scenario, measured);
    return { scenario, passed: failure === undefined, measured, steps, failure };
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error);
    return { scenario, passed: false, measured: undefined, steps, failure };
  }
}

/** Which promise was broken; a time that isn't a number counts as broken. */
function broken(scenario: Scenario, { rto, rpo }: Measured): string | undefined {
  if (!(rto <= scenario.targetRto)) return `RTO missed: ${rto.toFixed(1)} s of ${scenario.targetRto} s`;
  if (!(rpo <= scenario.targetRpo)) return `RPO missed: ${rpo.toFixed(1)} s of ${scenario.targetRpo} s`;
  return undefined;
}
