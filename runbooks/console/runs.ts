// Runs that people started here, under way and ended. They belong to this process and not to a page: whoever closes it
// finds them again. After the process they are found by what they left in Vault, as every run is.
import { COMMON_FLAGS, checkFlags, flagsOf, readArguments } from "../lib/flags.ts";
import { type Execution, type Runbook, startRunbook } from "../lib/runbook.ts";
import type { Limits } from "./context.ts";
import { PageOperator } from "./page-operator.ts";
import type { Session } from "./sessions.ts";

/** What can be started here. Restoring a Vault and replacing a VPS are for a terminal, where people type key shares. */
const RUNBOOKS = {
  "emergency-reset": async () => (await import("../emergency-reset.ts")).default,
  "respond-to-compromise": async () => (await import("../respond-to-compromise.ts")).default,
  resume: async () => (await import("../resume.ts")).default,
  "verify-backup": async () => (await import("../verify-backup.ts")).default,
  "check-drift": async () => (await import("../check-drift.ts")).default,
} satisfies Record<string, () => Promise<unknown>>;

/** Ended runs that are remembered. */
const KEPT = 200;

export interface Wanted {
  readonly runbook: keyof typeof RUNBOOKS;
  /** Its flags, each as one word: --tenant=acme. */
  readonly args: readonly string[];
  /** What it is, to people. */
  readonly title: string;
  readonly tenant?: string;
  readonly incident?: string;
  /** While one with the same key is under way, that is the one. */
  readonly key: string;
  /** The form's own mark: sent twice it starts one run, also when that has ended in between. */
  readonly once: string;
}

export interface ConsoleRun {
  readonly id: string;
  readonly wanted: Wanted;
  readonly user: string;
  /** Of the session that started it; the run alone keeps its token, until it has ended. */
  readonly sessionId: string;
  readonly started: Date;
  readonly operator: PageOperator;
  /** Set when it has ended. */
  ended: { readonly code: number; readonly at: Date } | undefined;
  readonly finished: Promise<void>;
  readonly watchers: Set<() => void>;
  interrupt(): void;
}

export class Runs {
  readonly #all = new Map<string, ConsoleRun>();
  readonly #limits: Pick<Limits, "displaySeconds">;

  constructor(limits: Pick<Limits, "displaySeconds">) {
    this.#limits = limits;
  }

  /**
   * Starts a run with the rights of `session`, or finds the one that this is: a double click, or another window.
   * @throws RunbookError (exit 2) for what the runbook's own flags refuse.
   */
  async start(session: Session, wanted: Wanted): Promise<ConsoleRun> {
    const runbook = (await RUNBOOKS[wanted.runbook]()) as unknown as Runbook;
    const args = [...wanted.args, "--yes"];
    const own = flagsOf(runbook.flags, runbook.positional);
    checkFlags(
      runbook.flags,
      own,
      readArguments(args, [...own, ...flagsOf(COMMON_FLAGS)], runbook.positional),
    );
    // From here to the end nothing is awaited: two requests can't both find none.
    const same = this.list().find((run) => isSame(run, wanted, session));
    if (same !== undefined) return same;
    session.ended.throwIfAborted();
    const watchers = new Set<() => void>();
    const changed = () => {
      for (const watcher of watchers) watcher();
    };
    const operator = new PageOperator({
      displaySeconds: this.#limits.displaySeconds,
      sessionEnded: session.ended,
      changed,
    });
    const execution: Execution = startRunbook(runbook, args, session.env, operator);
    const run: ConsoleRun = {
      id: execution.runId,
      wanted,
      user: session.user,
      sessionId: session.id,
      started: new Date(),
      operator,
      ended: undefined,
      watchers,
      finished: execution.finished.then((code) => {
        run.ended = { code, at: new Date() };
        this.#forgetOldest();
        changed();
      }),
      interrupt: () => void execution.interrupt(),
    };
    this.#all.set(run.id, run);
    return run;
  }

  find(id: string): ConsoleRun | undefined {
    return this.#all.get(id);
  }

  /** The newest first. */
  list(): ConsoleRun[] {
    return [...this.#all.values()].reverse();
  }

  /** Resolves once no run of this session is under way. */
  async endedOf(session: Session): Promise<void> {
    await Promise.all(this.list().flatMap((run) => (run.sessionId === session.id ? [run.finished] : [])));
  }

  /** Asks each to end after its step, waits, and tells what became of it. */
  async endAll(note: (text: string) => Promise<void>): Promise<Record<string, unknown>[]> {
    const living = this.list().filter((run) => run.ended === undefined);
    for (const run of living) {
      run.interrupt();
      await note(`${run.wanted.title} ends after its step`);
    }
    await Promise.all(living.map((run) => run.finished));
    for (const { wanted, ended, operator } of living) {
      await note(`${wanted.title}: exit ${ended?.code}${operator.said ? `: ${operator.said.message}` : ""}`);
    }
    return living.map((run) => ({ run_id: run.id, title: run.wanted.title, exit_code: run.ended?.code }));
  }

  #forgetOldest(): void {
    const ended = [...this.#all.values()].filter((run) => run.ended !== undefined);
    for (const run of ended.slice(0, Math.max(0, ended.length - KEPT))) this.#all.delete(run.id);
  }
}

function isSame(run: ConsoleRun, wanted: Wanted, session: Session): boolean {
  if (run.ended === undefined && run.wanted.key === wanted.key) return true;
  return wanted.once !== "" && run.sessionId === session.id && run.wanted.once === wanted.once;
}

/** The command that does the same on a terminal. */
export const commandOf = ({ runbook, args }: Wanted): string =>
  ["npx runbook", runbook, ...args.map(shellWord)].join(" ");

const shellWord = (word: string): string => {
  const [, flag = "", value = word] = /^(--[a-z-]+=)(.*)$/s.exec(word) ?? [];
  return `${flag}${/^[A-Za-z0-9._:,/-]+$/.test(value) ? value : `'${value.replaceAll("'", `'\\''`)}'`}`;
};
