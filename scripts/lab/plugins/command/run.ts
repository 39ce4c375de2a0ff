// Runs one program for a Command resource: feeds it, collects what it says, ends it when the engine does.
import { spawn } from "node:child_process";
import type { Context } from "../protocol/resource.ts";

export interface Run {
  program: string;
  args: readonly string[];
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  stdin?: string;
  /** Whether lines of these are shown while it runs. */
  show: { stdout: boolean; stderr: boolean };
}

export interface Outcome {
  /** Exit code; null if a signal ended it. */
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
  /** Both, in the order in which they arrived. */
  both: string;
}

/** Resolves when it has ended and its pipes are closed. Throws if it can't be started or was cancelled. */
export function run(what: Run, context: Context): Promise<Outcome> {
  context.signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    // A process group of its own, so that what it starts ends with it.
    const child = spawn(what.program, what.args, { cwd: what.cwd, env: what.env, detached: true });
    const kill = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      } catch {
        // It has ended meanwhile.
      }
    };
    context.signal.addEventListener("abort", kill);
    const collected = { stdout: "", stderr: "", both: "" };
    for (const stream of ["stdout", "stderr"] as const) {
      child[stream].setEncoding("utf8");
      child[stream].on("data", (chunk: string) => {
        collected[stream] += chunk;
        collected.both += chunk;
        if (!what.show[stream]) return;
        for (const line of chunk.split("\n")) if (line.trim() !== "") context.status(line);
      });
    }
    child.on("error", (error) => {
      context.signal.removeEventListener("abort", kill);
      reject(new Error(`${what.program} could not be started: ${error.message}`, { cause: error }));
    });
    child.on("close", (code, signal) => {
      context.signal.removeEventListener("abort", kill);
      if (context.signal.aborted) reject(new Error("cancelled"));
      else resolve({ code, signal, ...collected });
    });
    // It may end without having read everything.
    child.stdin.on("error", () => {});
    child.stdin.end(what.stdin ?? "");
  });
}

/** How Go's os/exec, and so the official plugin, words the end of a process. */
export const ended = (outcome: Outcome): string =>
  outcome.code === null ? `signal: ${outcome.signal}` : `exit status ${outcome.code}`;
