// A `pulumi up` that dies: started as an operator would, and killed hard at something that it prints; either the
// engine alone, as by the kernel for want of memory, or with everything that it started, as by a terminal that closes.
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { expect, onTestFinished } from "vitest";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import { tenantStack } from "../../stacks/names.ts";
import { lab, pulumi } from "./lab.ts";

export type Victims = "the engine" | "the engine and all it started";

/** Kills an up at `moment`; its lock stays. Fails if it never says `moment`. */
export async function killedUp(tenant: LabTenant, moment: string, victims: Victims): Promise<void> {
  await upUntil(tenant, moment, (engine) => {
    if (victims === "the engine") engine.kill("SIGKILL");
    else signalAll(engine, "SIGKILL");
  });
}

/** Takes a dead engine's lock away. */
export async function cancel(tenant: LabTenant): Promise<void> {
  const done = await pulumi(["cancel", "--yes", "--stack", tenantStack(tenant.id)]);
  expect(done.code, done.stderr).toBe(0);
}

/** An up that stands still at `moment` with all its processes. The caller kills it: `signalAll(engine, "SIGKILL")`. */
export async function frozenUp(tenant: LabTenant, moment: string): Promise<ChildProcess> {
  return upUntil(tenant, moment, (engine) => signalAll(engine, "SIGSTOP"), false);
}

/** Sends a signal to a process and to all that it started, whatever their process groups. */
export function signalAll(root: ChildProcess, signal: NodeJS.Signals): void {
  for (const pid of family(root.pid ?? Number.NaN)) {
    try {
      process.kill(pid, signal);
    } catch {
      // It ended by itself between the two looks.
    }
  }
}

async function upUntil(
  tenant: LabTenant,
  moment: string,
  act: (engine: ChildProcess) => void,
  toTheEnd = true,
): Promise<ChildProcess> {
  const args = ["up", "--yes", "--skip-preview", "--stack", tenantStack(tenant.id), "--non-interactive"];
  const engine = spawn("pulumi", [...args, "--color", "never"], {
    env: lab.env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  // Whatever a test finds, nothing may go on working on the stack, or stand still on it, afterwards.
  onTestFinished(() => {
    if (engine.exitCode === null && engine.signalCode === null) signalAll(engine, "SIGKILL");
  });
  const ended = new Promise<string>((resolve) => engine.once("exit", (_, signal) => resolve(`${signal}`)));
  let said = "";
  const acted = new Promise<string>((resolve) => {
    for (const stream of [engine.stdout, engine.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        const before = said.includes(moment);
        said += text;
        if (before || !said.includes(moment)) return;
        act(engine);
        resolve("acted");
      });
    }
  });
  if (toTheEnd) expect(await ended, `it was not killed at '${moment}':\n${said}`).toBe("SIGKILL");
  else expect(await Promise.race([acted, ended]), `it never said '${moment}':\n${said}`).toBe("acted");
  return engine;
}

/** `root` and everything that came from it. */
function family(root: number): number[] {
  const parents = readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      return [{ pid: Number(name), parent: Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) }];
    } catch {
      return [];
    }
  });
  const found = [root];
  for (const one of found)
    found.push(...parents.filter(({ parent }) => parent === one).map(({ pid }) => pid));
  return found;
}
