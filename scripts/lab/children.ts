// Processes of a lab die with it, also when it is killed hard: the kernel sends them SIGKILL once their parent is
// gone. A mark in their environment finds what was started further down (an engine's plugins, for example).

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** Environment variable that marks a lab's processes; its value is the lab's folder. */
const MARK = "CREDENTIAL_RECOVERY_LAB";

export interface ChildOptions {
  /** The whole environment. */
  env: NodeJS.ProcessEnv;
  /** The lab's folder, by which the process is found again. */
  lab: string;
  /** File that gets standard output and standard error. */
  log: string;
  cwd?: string;
}

/** Starts a service; it can't outlive this process. */
export function startService(command: string, args: string[], options: ChildOptions): ChildProcess {
  const log = openSync(options.log, "a", 0o600);
  try {
    // no-new-privs: the kernel forgets the death signal when a set-group-ID program (Debian's ssh-agent) starts.
    return spawn("setpriv", ["--no-new-privs", "--pdeathsig", "KILL", "--", command, ...args], {
      env: { ...options.env, [MARK]: options.lab },
      stdio: ["ignore", log, log],
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
  } finally {
    closeSync(log);
  }
}

/** What a finished command left. */
export interface Finished {
  code: number;
  stdout: string;
  stderr: string;
  /** How long it ran, in milliseconds. */
  ms: number;
}

/** Runs a command to its end; never throws for its exit code. 128 + 9 stands for a killed one. */
export function run(
  command: string,
  args: string[],
  options: { env: NodeJS.ProcessEnv; lab: string; cwd?: string; signal?: AbortSignal; input?: string },
): Promise<Finished> {
  const start = performance.now();
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", command, ...args], {
    env: { ...options.env, [MARK]: options.lab },
    stdio: ["pipe", "pipe", "pipe"],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.signal === undefined ? {} : { signal: options.signal, killSignal: "SIGKILL" as const }),
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  child.stdin.on("error", () => {});
  child.stdin.end(options.input ?? "");
  return new Promise((resolve, reject) => {
    child.once("error", (error) => {
      if (error.name !== "AbortError") reject(error);
    });
    child.once("close", (code) =>
      resolve({ code: code ?? 137, stdout, stderr, ms: performance.now() - start }),
    );
  });
}

/** Ends one service: politely, then after `graceMs` hard. */
export async function endService(child: ChildProcess, graceMs = 2000): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), graceMs);
  await gone;
  clearTimeout(timer);
}

/** The ids of all processes that carry the mark of the lab in `dir`. */
export function marked(dir: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(`${MARK}=${dir}`);
      } catch {
        return false;
      }
    });
}

/** Kills whatever still carries the mark of the lab in `dir`. */
export async function sweep(dir: string): Promise<void> {
  for (let round = 0; round < 50; round++) {
    const left = marked(dir);
    if (left.length === 0) return;
    for (const pid of left) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It ended by itself between the two looks.
      }
    }
    await sleep(20);
  }
  throw new Error(`Processes of the lab in ${dir} don't die: ${marked(dir).join(", ")}`);
}
