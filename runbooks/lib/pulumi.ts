// The Pulumi engine as a process. A runbook never imports Pulumi's SDK: that alone costs most of a second.
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { $, type ProcessPromise } from "zx/core";
import { RunbookError } from "./errors.ts";
import { redact } from "./redact.ts";
import type { Run } from "./runbook.ts";
import type { Settings } from "./settings.ts";

/**
 * Runs `pulumi ARGS` in the project and returns its standard output; its progress goes to `onLine`, redacted.
 * @param env its whole environment, where this process's own isn't right.
 * @param seconds after which it is ended: as by Ctrl-C, and hard where that doesn't help. Without it, never.
 */
export async function pulumi(
  settings: Settings,
  args: string[],
  onLine?: (line: string) => void,
  env: NodeJS.ProcessEnv = process.env,
  seconds?: number,
): Promise<string> {
  // Of the terminal's process group: Ctrl-C reaches the engine, which then ends cleanly by itself.
  const running = $({
    cwd: settings.pulumi.project_dir,
    env,
    quiet: true,
    nothrow: true,
    stdio: ["ignore", "pipe", "pipe"],
  })`pulumi ${args} --non-interactive --color never`;
  if (onLine !== undefined) {
    for (const input of [running.stdout, running.stderr]) {
      createInterface({ input }).on("line", (line) => {
        if (!NOISE.test(line)) onLine(redact(line));
      });
    }
  }
  const end = seconds === undefined ? () => false : endAfter(running, seconds);
  const result = await running;
  if (end()) throw new EngineHangs(settings, args, seconds ?? 0);
  if (result.exitCode === 0) return result.stdout;
  throw engineFailure(settings, args, redact(`${result.stdout}\n${result.stderr}`));
}

/** Seconds for which an engine may take to end once it was asked to. */
const GRACE_S = 15;

/** Returns what tells, once the process has ended, whether it was ended here; then nothing is waited for any more. */
function endAfter(running: ProcessPromise, seconds: number): () => boolean {
  let ended = false;
  const kill = (signal: NodeJS.Signals) => void running.kill(signal).catch(() => {});
  const soft = setTimeout(() => {
    ended = true;
    kill("SIGINT");
  }, seconds * 1000);
  const hard = setTimeout(() => kill("SIGKILL"), (seconds + GRACE_S) * 1000);
  return () => {
    clearTimeout(soft);
    clearTimeout(hard);
    return ended;
  };
}

/** The engine was ended because it took too long: mostly it waits for the state's backend. */
export class EngineHangs extends RunbookError {
  constructor(settings: Settings, args: string[], seconds: number) {
    super(`pulumi ${args[0]} did not end within ${seconds} s`, {
      exit: "failed",
      next: `cd ${settings.pulumi.project_dir} && pulumi ${args.join(" ")}   # shows what it waits for`,
    });
  }
}

/** Empty lines, the engine's ticking, and resources to which nothing happens. */
const NOISE = /^\s*$|^@ \w+\.+$|^ {4}[\w-]+:/;

/** The holder of a stack's lock, from the engine's refusal. */
export class StackLocked extends RunbookError {
  readonly host: string;
  readonly pid: number;
  constructor(host: string, pid: number, args: string[]) {
    super(`The stack is locked by another pulumi: process ${pid} on ${host}`, {
      exit: "refused",
      next: `if that process is dead: pulumi cancel ${args[args.indexOf("--stack") + 1] ?? ""}`,
    });
    this.host = host;
    this.pid = pid;
  }

  /** True only when the holder was on this machine and its process is gone: then nobody works on the stack. */
  get holderIsDead(): boolean {
    return this.host === hostname() && !engineRuns(this.pid);
  }
}

/** Whether `pid` is a process that may be a Pulumi engine; true where that can't be told. */
function engineRuns(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  try {
    // Its id may have gone to another program since, and a killed one stays listed until its parent looks at it.
    const stat = /^\d+ \((.*)\) (\S)/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8"));
    return stat === null || (stat[1]?.includes("pulumi") === true && !/[ZX]/.test(stat[2] ?? ""));
  } catch {
    return true;
  }
}

/** An engine that was killed leaves its lock: it is removed once its process was seen to be gone, never before. */
export async function engineAfterDeadOne<T>(
  settings: Settings,
  stack: string,
  run: Pick<Run<unknown>, "change">,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof StackLocked) || !error.holderIsDead) throw error;
    await run.change(`remove the lock that a killed pulumi (process ${error.pid}) left on ${stack}`, () =>
      pulumi(settings, ["cancel", stack, "--yes"]),
    );
    return work();
  }
}

/** How often, and at which distance (ms), an engine that still works on the stack is waited for: ten minutes. */
const TRIES = 300;
const DISTANCE_MS = 2_000;

/**
 * Takes everything in a stack down, what is protected too. May be repeated. An engine that a run before this one left
 * at work is waited for. DNS records go before the address that they name, since the engine deletes in reverse.
 */
export async function takeDown(
  settings: Settings,
  stack: string,
  run: Pick<Run<unknown>, "change" | "note" | "signal">,
): Promise<void> {
  const at = ["--stack", stack, "--yes"];
  for (let left = TRIES; ; left--) {
    try {
      await engineAfterDeadOne(settings, stack, run, async () => {
        await pulumi(settings, ["state", "unprotect", "--all", ...at]);
        await pulumi(settings, ["destroy", "--skip-preview", ...at], (line) => void run.note(`    ${line}`));
      });
      return;
    } catch (error) {
      if (!(error instanceof StackLocked) || error.host !== hostname() || left === 0) throw error;
      if (left === TRIES)
        await run.note(`waiting for the pulumi that works on ${stack} (process ${error.pid})`);
      await sleep(DISTANCE_MS, undefined, { signal: run.signal });
    }
  }
}

/** URNs of all resources in the stack's state. */
export async function urnsInStack(settings: Settings, stack: string): Promise<string[]> {
  return (await resourcesInStack(settings, stack, z.object({ urn: z.string() }))).map(({ urn }) => urn);
}

/** All resources in the stack's state, as far as `schema` knows them; secrets in them stay sealed. */
export async function resourcesInStack<T>(
  settings: Settings,
  stack: string,
  schema: z.ZodType<T>,
): Promise<T[]> {
  const text = await pulumi(settings, ["stack", "export", "--stack", stack]);
  const Exported = z.object({ deployment: z.object({ resources: z.array(schema).nullish() }) });
  return Exported.parse(JSON.parse(text)).deployment.resources ?? [];
}

/** The same; undefined where there is no such stack. */
export async function urnsIfThere(settings: Settings, stack: string): Promise<string[] | undefined> {
  return (await stackNames(settings)).includes(stack) ? urnsInStack(settings, stack) : undefined;
}

/** The names of all stacks, without an organisation's before them. */
export async function stackNames(settings: Settings): Promise<string[]> {
  const stacks = Stacks.parse(JSON.parse(await pulumi(settings, ["stack", "ls", "--json"])));
  return stacks.map(({ name }) => name.split("/").at(-1) ?? name);
}

/** What the stack's program returned last, as JSON. @param seconds as with `pulumi`. */
export async function stackOutputs(settings: Settings, stack: string, seconds?: number): Promise<unknown> {
  const args = ["stack", "output", "--json", "--stack", stack];
  return JSON.parse(await pulumi(settings, args, undefined, process.env, seconds));
}

const Stacks = z.array(z.object({ name: z.string() }));

function engineFailure(settings: Settings, args: string[], output: string): RunbookError {
  const lock = /created by \S*?@?([^@\s]+) \(pid (\d+)\)/.exec(output);
  if (output.includes("currently locked") && lock?.[1] !== undefined)
    return new StackLocked(lock[1], Number(lock[2]), args);
  const said =
    output
      .split("\n")
      .filter((line) => /error|failed|Error/.test(line))
      .slice(-6)
      .join("\n") || output.trim().split("\n").slice(-6).join("\n");
  return new RunbookError(`pulumi ${args[0]} failed: ${said.trim()}`, {
    exit: "failed",
    next: `cd ${settings.pulumi.project_dir} && pulumi ${args.join(" ")}   # shows everything; running it again goes on where it stopped`,
  });
}
