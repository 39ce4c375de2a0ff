// The person at the page, as a run sees him: what it tells is kept as data for whoever looks, and a new credential is
// handed over once, to the session that started the run.
import { Interrupted, RunbookError } from "../lib/errors.ts";
import { usage } from "../lib/flags.ts";
import type { Operator, Secret } from "../lib/operator.ts";
import { redact } from "../lib/redact.ts";
import type { Step } from "../lib/steps.ts";

/** A step as the page shows it. */
export interface ToldStep {
  readonly title: string;
  readonly depth: number;
  state: "running" | "done" | "failed";
  seconds: number | undefined;
}

/** `none`: there is nothing to show. `waiting`: it can be fetched. `shown`: it was. `gone`: nobody came for it. */
export type DisplayState = "none" | "waiting" | "shown" | "gone";

/** A credential on its way to the page. `handed` is to be called once it is known whether it left this process. */
export interface Handing {
  readonly fields: Readonly<Record<string, string>>;
  handed(left: boolean): void;
}

/** Notes kept: a run for hundreds of tenants has many, and the page shows the last ones. */
const NOTES = 200;

export class PageOperator implements Operator {
  readonly interactive = true;
  readonly steps: ToldStep[] = [];
  readonly notes: string[] = [];
  progressText = "";
  resultText = "";
  said: { message: string; next: string | undefined } | undefined;
  display: DisplayState = "none";
  /** When it is wiped, ISO 8601. */
  expires = "";
  readonly #running = new Map<Readonly<Step>, ToldStep>();
  readonly #displaySeconds: number;
  readonly #sessionEnded: AbortSignal;
  readonly #changed: () => void;
  #waiting: { fields: Readonly<Record<string, string>>; taken: () => void } | undefined;

  constructor(options: { displaySeconds: number; sessionEnded: AbortSignal; changed: () => void }) {
    this.#displaySeconds = options.displaySeconds;
    this.#sessionEnded = options.sessionEnded;
    this.#changed = options.changed;
  }

  async began(step: Readonly<Step>, depth: number): Promise<void> {
    const told: ToldStep = { title: redact(step.title), depth, state: "running", seconds: undefined };
    this.#running.set(step, told);
    this.steps.push(told);
    this.#changed();
  }

  async ended(step: Readonly<Step>, _depth: number): Promise<void> {
    const told = this.#running.get(step);
    if (told === undefined || step.outcome === "planned") return;
    this.#running.delete(step);
    told.state = step.outcome;
    told.seconds = step.seconds;
    this.#changed();
  }

  async note(text: string): Promise<void> {
    this.notes.push(redact(text));
    if (this.notes.length > NOTES) this.notes.shift();
    this.#changed();
  }

  progress(text: string): void {
    this.progressText = redact(text);
    this.#changed();
  }

  async result(text: string): Promise<void> {
    this.resultText = redact(text);
  }

  async problem(message: string, next: string | undefined): Promise<void> {
    this.said = { message: redact(message), next: next === undefined ? undefined : redact(next) };
  }

  /** Waits until the page has come for it. What nobody fetched was not seen: the next run with this incident shows it. */
  async reveal(
    secret: Secret,
    seconds: number,
    shown: () => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const lasting = Math.min(seconds, this.#displaySeconds);
    this.expires = new Date(Date.now() + lasting * 1000).toISOString();
    const fields = { ...(secret.fields ?? { text: secret.text }), expires_at: this.expires };
    const { promise, resolve } = Promise.withResolvers<"taken" | "expired" | "signed out" | "ended">();
    const timer = setTimeout(() => resolve("expired"), lasting * 1000);
    const end = () => resolve("ended");
    const signOut = () => resolve("signed out");
    signal.addEventListener("abort", end, { once: true });
    this.#sessionEnded.addEventListener("abort", signOut, { once: true });
    if (this.#sessionEnded.aborted) signOut();
    if (signal.aborted) end();
    this.#waiting = { fields, taken: () => resolve("taken") };
    this.display = "waiting";
    this.#changed();
    const how = await promise;
    this.#waiting = undefined;
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
    this.#sessionEnded.removeEventListener("abort", signOut);
    this.display = how === "taken" ? "shown" : "gone";
    this.#changed();
    if (how !== "taken") throw unseen(how, lasting);
    await shown();
  }

  /** The credential, for the one who may see it; undefined when it isn't there, or is on its way already. */
  take(): Handing | undefined {
    const waiting = this.#waiting;
    if (waiting === undefined) return undefined;
    this.#waiting = undefined;
    return {
      fields: waiting.fields,
      handed: (left) => {
        if (left) waiting.taken();
        else if (this.display === "waiting") this.#waiting = waiting;
      },
    };
  }

  /** The dialog asked everything before the run began. */
  async askYesNo(question: string): Promise<boolean> {
    throw notHere(question);
  }

  async askText(question: string): Promise<string> {
    throw notHere(question);
  }

  async askChoice(question: string): Promise<string> {
    throw notHere(question);
  }

  async hidden({ question }: { question: string }): Promise<string> {
    throw notHere(question);
  }
}

function unseen(how: "expired" | "signed out" | "ended", seconds: number): Error {
  if (how === "ended") return new Interrupted("ended before the new credential was looked at");
  const why =
    how === "expired"
      ? `nobody looked at it within ${Math.round(seconds / 60)} minutes`
      : "the session that started this run has ended";
  return new RunbookError(`The new password is in use, but was not shown: ${why}`, {
    exit: "incomplete",
    next: "run it again with the same incident: nothing is rotated, and it is shown",
  });
}

const notHere = (question: string): RunbookError =>
  usage(`${question}: the console can't ask that`, "run the same command on a terminal");
