// A runbook that dies: started as an operator would, and killed hard at a sentence that it prints.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { expect } from "vitest";
import { REPOSITORY } from "../../scripts/toolchain/paths.ts";
import { lab } from "./lab.ts";

/** Runs `runbook ARGS` and kills it as soon as its progress contains `mark`; fails if it never does. */
export async function killedAt(args: string[], mark: string): Promise<void> {
  const child = spawn(join(REPOSITORY, "runbooks", "main.ts"), args, {
    env: lab.env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals | null>();
  child.once("exit", (_code, signal) => resolve(signal));
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
    if (said.includes(mark)) child.kill("SIGKILL");
  });
  expect(await promise, `it was not killed at '${mark}':\n${said}`).toBe("SIGKILL");
}
