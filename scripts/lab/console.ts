// A console on a lab, as an operator starts it: a process of its own, at a port of its own.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { REPOSITORY } from "../toolchain/paths.ts";
import type { OpenLab } from "./place.ts";

export interface RunningConsole {
  /** Where it answers, such as http://127.0.0.1:40123; no slash at its end. */
  readonly url: string;
  readonly pid: number;
  /** All that it has written so far: nothing of it may be secret. */
  written(): string;
  /** Ends it as Ctrl-C would, or kills it hard. Resolves with its exit code, null for a killed one. */
  end(signal?: NodeJS.Signals): Promise<number | null>;
}

const MAIN = join(REPOSITORY, "runbooks", "main.ts");

/** Milliseconds in which it has to answer: a busy machine takes its time. */
const START_MS = 60_000;

/**
 * Starts `runbook console`, or another command that serves one, without anybody's token in its environment: people bring their own. It can't outlive this
 * process. Throws with what it wrote if it ends at once.
 */
export async function startConsole(
  lab: OpenLab,
  options: { env?: Record<string, string | undefined>; command?: readonly string[] } = {},
): Promise<RunningConsole> {
  const { env, command = [MAIN, "console", "--port", "0"] } = options;
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...command], {
    env: { ...lab.env, VAULT_TOKEN: undefined, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let written = "";
  const address = Promise.withResolvers<string>();
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      written += text;
      const [url] = /https?:\/\/[\w.:[\]-]+:\d+/.exec(written) ?? [];
      if (url !== undefined) address.resolve(url);
    });
  child.once("error", address.reject);
  child.once("close", (code) => address.reject(new Error(`The console ended with ${code}:\n${written}`)));
  const late = setTimeout(
    () => address.reject(new Error(`The console says no address:\n${written}`)),
    START_MS,
  );
  try {
    const url = await address.promise;
    return {
      url,
      pid: child.pid ?? 0,
      written: () => written,
      end: (signal = "SIGINT") => ended(child, signal),
    };
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  } finally {
    clearTimeout(late);
  }
}

async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const gone = once(child, "close");
  child.kill(signal);
  const [code] = await gone;
  return code as number | null;
}
