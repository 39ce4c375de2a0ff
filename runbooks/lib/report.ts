// How a run ended: its exit code, what the operator reads, and the one JSON document.
import { inspect } from "node:util";
import { EXIT, Interrupted, messageOf, RunbookError } from "./errors.ts";
import { table } from "./flags.ts";
import type { Operator } from "./operator.ts";
import { redactDeep } from "./redact.ts";
import type { Steps } from "./steps.ts";

/** What is printed on stdout: plain JSON. */
export type Result = Record<string, unknown>;

export interface Outcome {
  result: Result | undefined;
  error: unknown;
}

/** What the end of a run depends on besides its outcome. */
export interface Ending {
  runbook: { name: string; render?(result: Result): string };
  operator: Operator;
  env: NodeJS.ProcessEnv;
  signal: AbortSignal;
  runId: string;
  /** Undefined when the command line was wrong already. */
  steps: Steps | undefined;
}

export function exitCode(error: unknown, ending: Ending): number {
  if (error === undefined) return 0;
  if (wasInterrupted(error, ending.signal)) return interruptedCode(ending.steps);
  return error instanceof RunbookError ? error.exitCode : EXIT.failed;
}

/** 5 when there is something to resume; otherwise the shell's code for Ctrl-C. */
export const interruptedCode = (steps: Steps | undefined): number =>
  steps?.changeBegan === true ? EXIT.incomplete : 130;

export async function report(
  ending: Ending,
  outcome: Outcome,
  how: { json: boolean; dryRun: boolean },
): Promise<void> {
  const { operator, runId, steps, runbook } = ending;
  const problem = outcome.error === undefined ? undefined : describe(outcome.error, ending);
  const found = outcome.result ?? (outcome.error instanceof RunbookError ? outcome.error.result : undefined);
  if (how.json) {
    const error = problem === undefined ? {} : { error: problem };
    const document = { ...found, run_id: runId, dry_run: how.dryRun, steps: steps?.all ?? [], ...error };
    await operator.result(JSON.stringify(redactDeep(document), null, 2));
  } else if (found !== undefined) {
    const text = runbook.render?.(found) ?? summary(found);
    if (text !== "") await operator.result(text);
  }
  // A result reads the same whether it has come true: this line alone tells.
  if (how.dryRun)
    await operator.note("dry run: nothing was changed; above is what a real run would do", "yellow");
  if (problem === undefined) return;
  await operator.problem(problem.message, problem.next);
  if (ending.env.DEBUG) await operator.note(inspect(outcome.error));
}

function describe(error: unknown, ending: Ending): { message: string; exit_code: number; next?: string } {
  const exit_code = exitCode(error, ending);
  if (wasInterrupted(error, ending.signal)) {
    return exit_code === EXIT.incomplete
      ? { message: "ended before everything was done", exit_code, next: "the same command again resumes" }
      : { message: "ended before anything was changed", exit_code };
  }
  if (!(error instanceof RunbookError)) {
    const next = "the same command with DEBUG=1 shows where";
    return { message: `unexpected: ${messageOf(error)}`, exit_code, next };
  }
  const help = exit_code === EXIT.usage ? `npx runbook ${ending.runbook.name} --help` : undefined;
  const next = error.next ?? help;
  return { message: error.message, exit_code, ...(next === undefined ? {} : { next }) };
}

/** Also what a step throws because its wait was aborted, however it wrapped that. */
function wasInterrupted(error: unknown, signal: AbortSignal): boolean {
  if (error instanceof Interrupted) return true;
  if (!signal.aborted || !(error instanceof Error)) return false;
  return error.name === "AbortError" || wasInterrupted(error.cause, signal);
}

function summary(result: Result): string {
  const rows = Object.entries(result).map(([key, value]): [string, string] => [
    key.replaceAll("_", " "),
    typeof value === "string" ? value : JSON.stringify(value),
  ]);
  return table(rows).join("\n");
}
