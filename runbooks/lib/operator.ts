// Whom a run talks to: somebody at a terminal, or somebody who looks at the console's page. A run tells what it does as
// data; how that reads is the operator's part, and so is keeping secrets out of it.
import type { styleText } from "node:util";
import type { HiddenQuestion } from "./hidden-input.ts";
import type { Step } from "./steps.ts";

export interface Operator {
  /** Someone is there to answer a question, and to be shown what must stand nowhere else. */
  readonly interactive: boolean;
  /** A line of progress that is no step. Resolves once it is handed on, so that it is seen before what it announces. */
  note(text: string, style?: Style): Promise<void>;
  /** A step begins, inside as many others as `depth` says. */
  began(step: Readonly<Step>, depth: number): Promise<void>;
  /** It has ended, or, as `planned`, it won't begin. */
  ended(step: Readonly<Step>, depth: number): Promise<void>;
  /** How far a long piece of work is; the next one takes its place. */
  progress(text: string): void;
  /** The result as people read it. */
  result(text: string): Promise<void>;
  /** Why the run didn't end well, and what to do next. */
  problem(message: string, next: string | undefined): Promise<void>;
  /**
   * Shows a secret text once, at most for `seconds`; `signal` ends it too. `shown` is called once it stands there.
   * Throws incomplete (5) if nobody has seen it.
   */
  reveal(secret: Secret, seconds: number, shown: () => Promise<void>, signal: AbortSignal): Promise<void>;
  /** Yes or no. */
  askYesNo(question: string, signal: AbortSignal): Promise<boolean>;
  /** A line of text, asked for again until `problemWith` has nothing to say. */
  askText(
    question: string,
    problemWith: (text: string) => string | undefined,
    signal: AbortSignal,
  ): Promise<string>;
  /** One of `choices`. */
  askChoice(question: string, choices: string[], signal: AbortSignal): Promise<string>;
  /** A secret that isn't shown while it is typed. */
  hidden(question: HiddenQuestion): Promise<string>;
}

export type Style = Parameters<typeof styleText>[0];

/** What is shown once: as a terminal shows it, and by its fields where there are any. */
export interface Secret {
  readonly text: string;
  readonly fields?: Readonly<Record<string, string>>;
}
