// What the operator sees. Progress goes to stderr, the result alone to stdout; both without any secret.
import type { Readable, Writable } from "node:stream";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { styleText } from "node:util";
import { Interrupted, RunbookError } from "./errors.ts";
import { type HiddenQuestion, readHidden } from "./hidden-input.ts";
import type { Operator, Secret, Style } from "./operator.ts";
import { redact } from "./redact.ts";
import type { Step } from "./steps.ts";

/** A process's streams and environment; tests bring their own. */
export interface Io {
  stdin: Readable & { isTTY?: boolean; setRawMode?: (raw: boolean) => unknown };
  stdout: Writable & { isTTY?: boolean };
  stderr: Writable & { isTTY?: boolean };
  env: NodeJS.ProcessEnv;
}

/** Milliseconds between two lines of progress in a log. */
const QUIET_MS = 10_000;

export class Terminal implements Operator {
  readonly interactive: boolean;
  private readonly io: Io;
  private ticking: NodeJS.Timeout | undefined;
  private hasProgress = false;
  private progressAt = Number.NEGATIVE_INFINITY;

  constructor(io: Io) {
    this.io = io;
    this.interactive = io.stdin.isTTY === true && io.stderr.isTTY === true;
  }

  /** One line of progress. Resolves once it is handed to the system, so that it is seen before what it announces. */
  async note(text: string, style?: Style): Promise<void> {
    this.stopTicking();
    await write(this.io.stderr, `${this.paint(redact(text), style)}\n`);
  }

  async began({ title }: Step, depth: number): Promise<void> {
    await this.note(`${"  ".repeat(depth)}→ ${title}`);
    this.startTicking(title);
  }

  async ended({ title, outcome, seconds: took }: Step, depth: number): Promise<void> {
    const indent = "  ".repeat(depth);
    if (outcome === "planned") return this.note(`${indent}would: ${title}`, "yellow");
    const failed = outcome === "failed";
    await this.note(
      `${indent}${failed ? "✗" : "✓"} ${title} ${seconds(took * 1000)}`,
      failed ? "red" : "green",
    );
  }

  async problem(message: string, next: string | undefined): Promise<void> {
    await this.note(`error: ${message}`, "red");
    if (next !== undefined) await this.note(`next:  ${next}`);
  }

  /** The result. */
  async result(text: string): Promise<void> {
    this.stopTicking();
    await write(this.io.stdout, `${redact(text)}\n`);
  }

  /** How far it is: on a terminal one line that is written over, elsewhere a line every ten seconds at most. */
  progress(text: string): void {
    const { stderr } = this.io;
    if (stderr.isTTY === true) {
      this.stopTicking();
      stderr.write(`\r\x1b[K${redact(text)}`);
      this.hasProgress = true;
    } else if (performance.now() - this.progressAt > QUIET_MS) {
      this.progressAt = performance.now();
      stderr.write(`${redact(text)}\n`);
    }
  }

  /** Shows, on a terminal only, how long the step that runs now has been running. */
  private startTicking(title: string): void {
    if (this.io.stderr.isTTY !== true) return;
    this.stopTicking();
    const start = performance.now();
    const tick = () =>
      this.io.stderr.write(`\r\x1b[K${redact(`  ${title} ${seconds(performance.now() - start)}`)}`);
    this.ticking = setInterval(tick, 1000).unref();
  }

  /**
   * Shows a text as it is, secrets too, until a key is pressed or `seconds` are over. It stands on the terminal's second
   * screen, which has no scrollback, and is wiped before that is left. `shown` is called once it stands there;
   * `signal` ends it too. Throws incomplete (5) where the terminal is gone: nobody has seen it then.
   */
  async reveal(
    { text }: Secret,
    seconds: number,
    shown: () => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    this.stopTicking();
    const { stdin, stderr } = this.io;
    let stands = false;
    const wipe = () => {
      if (stands) stderr.write("\x1b[2J\x1b[3J\x1b[H\x1b[?1049l");
      stands = false;
    };
    process.once("exit", wipe);
    await forgetTypedAhead(stdin);
    const key = awaitKey(stdin, seconds, signal);
    try {
      stands = true;
      if (!(await write(stderr, `\x1b[?1049h\x1b[2J\x1b[H${text.replaceAll("\n", "\r\n")}\r\n`))) {
        throw new RunbookError("the terminal is gone: what was to be shown once was not seen", {
          exit: "incomplete",
          next: "the same command on another terminal",
        });
      }
      // Already while `shown` takes its time: whoever is being watched wants it gone at once.
      void key.pressed.then(wipe);
      await shown();
      await key.pressed;
    } finally {
      key.ignore();
      wipe();
      process.off("exit", wipe);
    }
  }

  /** Yes or no; Enter alone means no. */
  async askYesNo(question: string, signal: AbortSignal): Promise<boolean> {
    const { confirm } = await import("@clack/prompts");
    return this.answered(
      await confirm({ message: redact(question), initialValue: false, ...this.on(signal) }),
    );
  }

  /** A line of text, asked for again until `problemWith` has nothing to say. */
  async askText(
    question: string,
    problemWith: (text: string) => string | undefined,
    signal: AbortSignal,
  ): Promise<string> {
    const { text } = await import("@clack/prompts");
    const validate = (given: string | undefined) => problemWith(given ?? "");
    return this.answered(await text({ message: question, validate, ...this.on(signal) }));
  }

  /** One of `choices`. */
  async askChoice(question: string, choices: string[], signal: AbortSignal): Promise<string> {
    const { select } = await import("@clack/prompts");
    const options = choices.map((value) => ({ value, label: value }));
    return this.answered(await select<string>({ message: question, options, ...this.on(signal) }));
  }

  hidden(question: HiddenQuestion): Promise<string> {
    return readHidden(this.io, question);
  }

  private on(signal: AbortSignal) {
    return { input: this.io.stdin, output: this.io.stderr, signal };
  }

  /** Ctrl-C at a question is an answer too. */
  private answered<T>(answer: T): Exclude<T, symbol> {
    if (typeof answer === "symbol") throw new Interrupted("ended at a question");
    return answer as Exclude<T, symbol>;
  }

  private paint(text: string, style: Style | undefined): string {
    const { stderr, env } = this.io;
    if (style === undefined || stderr.isTTY !== true || (env.NO_COLOR ?? "") !== "") return text;
    return styleText(style, text, { validateStream: false });
  }

  private stopTicking(): void {
    if (this.ticking === undefined && !this.hasProgress) return;
    clearInterval(this.ticking);
    this.ticking = undefined;
    this.hasProgress = false;
    this.io.stderr.write("\r\x1b[K");
  }
}

/** Milliseconds as the operator reads them: 0.4s, 75.0s. */
export const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(1)}s`;

/** Milliseconds in which a key that was typed for something else, before there was anything to read, comes in. */
const TYPED_AHEAD_MS = 100;

async function forgetTypedAhead(stdin: Io["stdin"]): Promise<void> {
  const forget = () => {};
  stdin.setRawMode?.(true);
  stdin.on("data", forget);
  await sleep(TYPED_AHEAD_MS);
  // The input was asked for once at least, also where the machine is so busy that this time was over before.
  await turn();
  stdin.off("data", forget);
}

/** Any key counts, Ctrl-C too; so does the end of the input, and a signal. `ignore` ends the wait. */
function awaitKey(
  stdin: Io["stdin"],
  seconds: number,
  signal: AbortSignal,
): { pressed: Promise<void>; ignore: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  const end = () => resolve();
  const timer = setTimeout(end, seconds * 1000);
  stdin.setRawMode?.(true);
  stdin.on("data", end);
  stdin.once("end", end);
  signal.addEventListener("abort", end, { once: true });
  if (signal.aborted) resolve();
  stdin.resume();
  const pressed = promise.finally(() => {
    clearTimeout(timer);
    stdin.off("data", end);
    stdin.off("end", end);
    signal.removeEventListener("abort", end);
    stdin.setRawMode?.(false);
    stdin.pause();
  });
  return { pressed, ignore: end };
}

/** False if nobody takes it any more: that must not end a run that is halfway through a change. */
function write(stream: Writable, text: string): Promise<boolean> {
  return new Promise((resolve) => {
    if (stream.destroyed || stream.writableEnded) resolve(false);
    else stream.write(text, (error) => resolve(!error));
  });
}
