// The frame of every runbook: flags, prompts, dry run, JSON, timing, interruption, exit codes. A runbook itself
// says only what it checks and what it changes.
import { randomUUID } from "node:crypto";
import { hostname, userInfo } from "node:os";
import type { z } from "zod";
import { AuditLog } from "./audit.ts";
import { Interrupted, messageOf, RunbookError } from "./errors.ts";
import {
  COMMON_FLAGS,
  checkFlags,
  type Flag,
  flagProblem,
  flagsOf,
  helpText,
  readArguments,
  usage,
} from "./flags.ts";
import type { HiddenQuestion } from "./hidden-input.ts";
import { runBegins } from "./holder.ts";
import type { Operator, Secret } from "./operator.ts";
import { type Ending, exitCode, interruptedCode, type Outcome, type Result, report } from "./report.ts";
import { loadSettings, type Settings } from "./settings.ts";
import { Steps } from "./steps.ts";

export interface Runbook<Schema extends z.ZodObject = z.ZodObject> {
  /** The word after `npx runbook`. */
  name: string;
  /** One line, without a full stop. */
  summary: string;
  /** A whole command that can be typed as it stands. */
  example: string;
  /** camelCase keys become --kebab-case; `.describe()` is the help text; z.boolean() is a switch. */
  flags: Schema;
  /** The key that is typed as a word and not as a flag: its schema is a z.enum. */
  positional?: keyof z.input<Schema> & string;
  /** Takes the steps, top to bottom. */
  run(ctx: Run<z.output<Schema>>): Promise<Result>;
  /** The human's version of the result; by default each field on a line. */
  render?(result: Result): string;
}

export interface Run<Flags> {
  flags: Flags;
  /** A UUID, also in every audit event of this run. */
  runId: string;
  dryRun: boolean;
  json: boolean;
  yes: boolean;
  env: NodeJS.ProcessEnv;
  /** Aborted by the first Ctrl-C: for what waits. A change that has begun is finished. */
  signal: AbortSignal;
  audit: AuditLog;
  /** Read at first use. @throws RunbookError (exit 2) when missing or malformed. */
  settings(): Promise<Settings>;
  /** Reads and compares; runs in a dry run too. */
  check<T>(title: string, fn: () => T | Promise<T>): Promise<T>;
  /** Writes; in a dry run only its title is printed, and the value is undefined. */
  change<T>(title: string, fn: () => T | Promise<T>): Promise<T | undefined>;
  /**
   * Asks for a yes, on a terminal. Passes with --yes and in a dry run.
   * @param word what is to be typed instead of a yes, for what can't be undone.
   * @throws RunbookError: exit 2 without a terminal, exit 1 after a no.
   */
  confirm(sentence: string, word?: Word): Promise<void>;
  /** A line of progress that is no step. */
  note(text: string): Promise<void>;
  /** Steps of one part among many, such as one tenant's: only a dry run tells of them, with `name` before each. */
  quietly(name: string): Pick<Run<Flags>, "check" | "change" | "note">;
  /** How far a long piece of work is; see Terminal. */
  progress(text: string): void;
  /** Somebody is there, to be asked and to be shown what must stand nowhere else. */
  interactive: boolean;
  /**
   * Shows a secret on the terminal or the console's page alone, once and at most for `seconds`; then it is wiped.
   * `shown` is called once it stands there. Must not be called where nobody is there.
   */
  reveal(secret: Secret, seconds: number, shown: () => Promise<void>): Promise<void>;
  /** Asks for a secret, which isn't shown; where nobody is at a terminal it is read from standard input. */
  hidden(question: HiddenQuestion): Promise<string>;
  /** Called once the result is printed: for what may count as handed out only then. */
  afterResult(act: () => Promise<void>): void;
  /** Says who acts, for the audit log; asked once, at the first event. */
  actAs(user: () => Promise<string>): void;
  /** Called when the run ends, however it ends; the last one first. */
  onExit(cleanup: () => void | Promise<void>): void;
}

export interface Word {
  /** What the operator must type. */
  word: string;
  /** The flag with which it is typed where nobody can be asked: --yes alone is refused then. Without it, --yes is enough. */
  flag?: { name: string; given: string | undefined };
}

/** Checks the definition and keeps the flags' types. */
export function defineRunbook<Schema extends z.ZodObject>(runbook: Runbook<Schema>): Runbook<Schema> {
  const taken = Object.keys(runbook.flags.shape).find((key) => key in COMMON_FLAGS.shape);
  if (taken !== undefined) throw new Error(`${runbook.name}: every runbook has the flag ${taken} already`);
  return runbook;
}

export interface Execution {
  /** The run's id, also in every audit event and in the rotation records that it holds. */
  runId: string;
  /** The exit code. Never rejects. */
  finished: Promise<number>;
  /** The first call asks the run to end after its running step; the next gives the code to exit with at once. */
  interrupt(): number | undefined;
}

/**
 * Starts a runbook on a command line (without the runbook's name). Exits nothing: that is main's part.
 * @param env the run's environment: with it, it logs in to Vault.
 */
export function startRunbook(
  runbook: Runbook,
  argv: string[],
  env: NodeJS.ProcessEnv,
  operator: Operator,
): Execution {
  const controller = new AbortController();
  const state: State = {
    runbook,
    operator,
    env,
    signal: controller.signal,
    runId: randomUUID(),
    steps: undefined,
    afterResult: [],
  };
  const ends = runBegins(state.runId);
  return {
    runId: state.runId,
    finished: execute(state, argv).finally(ends),
    interrupt() {
      if (controller.signal.aborted) return interruptedCode(state.steps);
      controller.abort(new Interrupted("ended by the operator"));
      void operator.note("Ending after this step; once more ends at once.", "yellow");
      return undefined;
    },
  };
}

interface State extends Ending {
  runbook: Runbook;
  afterResult: (() => Promise<void>)[];
}

async function execute(state: State, argv: string[]): Promise<number> {
  const { runbook, operator } = state;
  const own = flagsOf(runbook.flags, runbook.positional);
  const cleanups: (() => void | Promise<void>)[] = [];
  let json = argv.includes("--json");
  let dryRun = argv.includes("--dry-run");
  let audit: AuditLog | undefined;
  const outcome: Outcome = { result: undefined, error: undefined };
  try {
    const typed = readArguments(argv, [...own, ...flagsOf(COMMON_FLAGS)], runbook.positional);
    if (typed.help === true) {
      await operator.result(helpText(runbook, own));
      return 0;
    }
    json = typed.json === true;
    dryRun = typed.dryRun === true;
    const flags = checkFlags(runbook.flags, own, await askForMissing(state, own, typed));
    const ctx = openRun(state, { flags, json, dryRun, yes: typed.yes === true }, cleanups);
    audit = ctx.audit;
    outcome.result = await runbook.run(ctx);
  } catch (error) {
    outcome.error = error;
  }
  for (const cleanup of cleanups.reverse()) await keepFirstError(outcome, async () => cleanup());
  await keepFirstError(outcome, async () => audit?.finish({ exit_code: exitCode(outcome.error, state) }));
  await report(state, outcome, { json, dryRun });
  for (const act of state.afterResult)
    await act().catch((error) => operator.note(messageOf(error), "yellow"));
  return exitCode(outcome.error, state);
}

/** What fails while a run ends must not hide why it ended. */
async function keepFirstError(outcome: Outcome, act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (outcome.error === undefined) outcome.error = error;
    else outcome.error = withLater(outcome.error, error);
  }
}

function withLater(first: unknown, later: unknown): unknown {
  if (!(first instanceof Error)) return first;
  first.message += `; then, while ending: ${messageOf(later)}`;
  return first;
}

async function askForMissing(state: State, own: Flag[], typed: Record<string, string | true>) {
  const missing = own.filter((flag) => flag.required && typed[flag.key] === undefined);
  if (missing.length === 0) return typed;
  const { operator, signal } = state;
  if (!operator.interactive) {
    const names = missing.map((flag) => flag.shown).join(", ");
    throw usage(`${names} ${missing.length === 1 ? "is" : "are"} missing`);
  }
  const answers = { ...typed };
  for (const flag of missing) {
    const question = `${flag.shown}: ${flag.description}`;
    answers[flag.key] = flag.choices
      ? await operator.askChoice(question, flag.choices, signal)
      : await operator.askText(question, (text) => flagProblem(flag, text), signal);
  }
  return answers;
}

function openRun(
  state: State,
  given: { flags: Record<string, unknown>; json: boolean; dryRun: boolean; yes: boolean },
  cleanups: (() => void | Promise<void>)[],
): Run<Record<string, unknown>> {
  const { operator, signal, runId, env } = state;
  const { dryRun, yes } = given;
  const steps = new Steps({ operator, signal, dryRun });
  state.steps = steps;
  let loaded: Settings | undefined;
  const settings = async () => {
    loaded ??= loadSettings(env);
    return loaded;
  };
  let user = async () => `unauthenticated:${userInfo().username}@${hostname()}`;
  let known: Promise<string> | undefined;
  const userId = () => {
    known ??= user();
    return known;
  };
  return {
    ...given,
    runId,
    env,
    signal,
    settings,
    audit: new AuditLog({ settings, runId, userId, dryRun, env }),
    check: (title, fn) => steps.check(title, fn),
    change: (title, fn) => steps.change(title, fn),
    confirm: (sentence, word) => confirm(operator, sentence, { dryRun, yes, signal, word }),
    note: (text) => operator.note(text),
    quietly: (name) => quietSteps(name, { operator, signal, dryRun, parent: steps }),
    progress: (text) => operator.progress(text),
    interactive: operator.interactive,
    reveal: (secret, seconds, shown) => operator.reveal(secret, seconds, shown, signal),
    hidden: (question) => operator.hidden(question),
    afterResult: (act) => state.afterResult.push(act),
    actAs: (fn) => {
      user = fn;
      known = undefined;
    },
    onExit: (cleanup) => cleanups.push(cleanup),
  };
}

function quietSteps(
  name: string,
  { operator, ...how }: { operator: Operator; signal: AbortSignal; dryRun: boolean; parent: Steps },
): Pick<Run<unknown>, "check" | "change" | "note"> {
  const note = async (text: string) => {
    if (how.dryRun && text.startsWith("would")) await operator.note(`${name}: ${text}`, "yellow");
  };
  // What is inside another step is that one's business.
  const ended: Operator["ended"] = async ({ title, outcome }, depth) => {
    if (outcome === "planned" && depth === 0) await note(`would: ${title}`);
  };
  const steps = new Steps({ ...how, operator: { began: async () => {}, ended } });
  return {
    check: (title, fn) => steps.check(title, fn),
    change: (title, fn) => steps.change(title, fn),
    note,
  };
}

async function confirm(
  operator: Operator,
  sentence: string,
  how: { dryRun: boolean; yes: boolean; signal: AbortSignal; word: Word | undefined },
): Promise<void> {
  const { word, flag } = how.word ?? {};
  if (flag?.given !== undefined && flag.given !== word) {
    throw usage(`${flag.name} is ${flag.given}, and not ${word}`);
  }
  if (how.dryRun) return operator.note(`would ask: ${sentence}`, "yellow");
  if (how.yes && flag !== undefined && flag.given === undefined) {
    throw usage(`${sentence} --yes alone doesn't say yes to that`, `add ${flag.name} ${word}`);
  }
  if (how.yes) return operator.note(`${sentence} (--yes)`);
  if (!operator.interactive) {
    throw usage(
      `${sentence} Nobody is here to say yes to that`,
      `run the same command on a terminal, or add --yes${flag === undefined ? "" : ` ${flag.name} ${word}`}`,
    );
  }
  if (word !== undefined) {
    const problem = (text: string) => (text === word ? undefined : `takes ${word}, or Ctrl-C`);
    await operator.askText(`${sentence} Type ${word}`, problem, how.signal);
  } else if (!(await operator.askYesNo(sentence, how.signal))) {
    throw new RunbookError("not confirmed", { exit: "failed", next: "nothing: the answer was no" });
  }
}
