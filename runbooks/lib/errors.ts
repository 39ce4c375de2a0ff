// The one kind of error that a runbook means to show to its operator. Anything else that is thrown is a bug.

/** What a process's exit code says; 0 is done. */
export const EXIT = { failed: 1, usage: 2, permission: 3, refused: 4, incomplete: 5, drift: 7 } as const;
export type Exit = keyof typeof EXIT;

/** What the codes mean, for every runbook's help. */
export const EXIT_MEANINGS: readonly [code: number, meaning: string][] = [
  [0, "done"],
  [EXIT.failed, "failed"],
  [EXIT.usage, "bad usage or input"],
  [EXIT.permission, "insufficient permissions"],
  [EXIT.refused, "refused: going on would be dangerous"],
  [EXIT.incomplete, "incomplete: run the same command again to resume"],
  [EXIT.drift, "drift found"],
  [130, "ended by Ctrl-C before anything was changed"],
];

export interface RunbookErrorOptions {
  /** Decides the exit code. */
  exit: Exit;
  /** The next command to type, or the next act. */
  next?: string | undefined;
  /** The error underneath; shown under DEBUG only. */
  cause?: unknown;
  /** What was found out all the same: printed as the result beside the error. */
  result?: Record<string, unknown>;
}

export class RunbookError extends Error {
  readonly exitCode: number;
  readonly next: string | undefined;
  readonly result: Record<string, unknown> | undefined;

  /** `message` says what happened and why, as a sentence without a full stop at its end. */
  constructor(message: string, options: RunbookErrorOptions) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.name = "RunbookError";
    this.exitCode = EXIT[options.exit];
    this.next = options.next;
    this.result = options.result;
  }
}

/** The operator or the system asked the run to end, between two steps or while it was waiting. */
export class Interrupted extends Error {
  constructor(message: string) {
    super(message);
    this.name = "Interrupted";
  }
}

/** The text of anything that can be thrown. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
