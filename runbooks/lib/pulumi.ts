// The Pulumi engine as a process. A runbook never imports Pulumi's SDK: that alone costs most of a second.
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { createInterface } from "node:readline";
import { z } from "zod";
import { $ } from "zx";
import { RunbookError } from "./errors.ts";
import { redact } from "./redact.ts";
import type { Settings } from "./settings.ts";

/** Runs `pulumi ARGS` in the project and returns its standard output; its progress goes to `onLine`, redacted. */
export async function pulumi(
  settings: Settings,
  args: string[],
  onLine?: (line: string) => void,
): Promise<string> {
  // Of the terminal's process group: Ctrl-C reaches the engine, which then ends cleanly by itself.
  const running = $({
    cwd: settings.pulumi.project_dir,
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
  const result = await running;
  if (result.exitCode === 0) return result.stdout;
  throw engineFailure(settings, args, redact(`${result.stdout}\n${result.stderr}`));
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

/** URNs of all resources in the stack's state. */
export async function urnsInStack(settings: Settings, stack: string): Promise<string[]> {
  const exported = Exported.parse(JSON.parse(await pulumi(settings, ["stack", "export", "--stack", stack])));
  return (exported.deployment.resources ?? []).map(({ urn }) => urn);
}

const Exported = z.object({
  deployment: z.object({ resources: z.array(z.object({ urn: z.string() })).optional() }),
});

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
