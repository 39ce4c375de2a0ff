// A runbook that dies or is held up: started as an operator would, and stopped hard at a sentence that it prints.
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { expect } from "vitest";
import { REPOSITORY } from "../../scripts/toolchain/paths.ts";
import { lab } from "./lab.ts";

/** A runbook that runs. */
export interface Running {
  /** Resolves as soon as its progress contains `mark`; fails if it ends without. */
  said(mark: string): Promise<void>;
  signal(name: NodeJS.Signals): void;
  readonly pid: number;
  /** How it ended: its exit code (null if it was killed), and all its progress. */
  readonly ended: Promise<{ code: number | null; stderr: string }>;
}

/** Where a runbook is started. */
export interface Place {
  /** Wins over the lab's own environment. */
  env?: Record<string, string | undefined>;
  /** A command that starts another one: the runbook's own command line is added to it. */
  through?: readonly string[];
}

/** Starts `runbook ARGS`. `env` wins over the lab's own. */
export function begin(args: string[], env: Place["env"] = {}, through: Place["through"] = []): Running {
  const [command = "", ...rest] = [...through, join(REPOSITORY, "runbooks", "main.ts"), ...args];
  const child = spawn(command, rest, { env: { ...lab.env, ...env }, stdio: ["ignore", "ignore", "pipe"] });
  return control(child);
}

function control(child: ChildProcess): Running {
  const end = Promise.withResolvers<{ code: number | null; stderr: string }>();
  const waiting: { mark: string; resolve: () => void }[] = [];
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    for (const { mark, resolve } of waiting) if (stderr.includes(mark)) resolve();
  });
  child.once("error", end.reject);
  child.once("close", (code) => end.resolve({ code, stderr }));
  return {
    said(mark) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      if (stderr.includes(mark)) resolve();
      // At once, not in a later turn: whoever waits wants to meet the run right there.
      else waiting.push({ mark, resolve });
      void end.promise.then(() => reject(new Error(`It ended before it said '${mark}':\n${stderr}`)));
      return promise;
    },
    signal: (name) => void child.kill(name),
    pid: child.pid ?? 0,
    ended: end.promise,
  };
}

/** Runs `runbook ARGS` and kills it as soon as its progress contains `mark`; fails if it never does. */
export async function killedAt(args: string[], mark: string, place: Place = {}): Promise<void> {
  const run = begin(args, place.env, place.through);
  await run.said(mark);
  run.signal("SIGKILL");
  expect((await run.ended).code, `it was not killed at '${mark}'`).toBeNull();
}
