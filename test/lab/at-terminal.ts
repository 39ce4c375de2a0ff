// A runbook at a terminal: every byte that the terminal is sent, and keys for what it reads.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { REPOSITORY } from "../../scripts/toolchain/paths.ts";
import { signalAll } from "./killed-up.ts";
import { lab } from "./lab.ts";

export interface AtTerminal {
  /** Everything that the terminal was sent so far. */
  sent(): string;
  /** Resolves as soon as it was sent `mark`; fails if the run ends without. */
  said(mark: string): Promise<void>;
  press(key: string): void;
  /** Kills the run hard. The terminal stays until the run is gone. */
  kill(): void;
  /** Closes the terminal's window: the run gets SIGHUP, and nothing that it writes is seen any more. */
  close(): void;
  /** How it ended; null if it was killed with its terminal. */
  readonly ended: Promise<number | null>;
}

/** Starts `runbook ARGS` at a terminal. `env` wins over the lab's own. */
export function atTerminal(args: string[], env: Record<string, string> = {}): AtTerminal {
  const command = [join(REPOSITORY, "runbooks", "main.ts"), ...args].map(quoted).join(" ");
  const script = spawn("script", ["--quiet", "--flush", "--return", "--command", command, "/dev/null"], {
    env: { ...lab.env, ...env },
    stdio: ["pipe", "pipe", "inherit"],
  });
  // Whatever a test finds, nobody may stay at a tenant's rotation.
  onTestFinished(() => {
    if (script.exitCode === null && script.signalCode === null) signalAll(script, "SIGKILL");
  });
  let sent = "";
  const waiting: { mark: string; resolve: () => void }[] = [];
  script.stdout.setEncoding("utf8").on("data", (text: string) => {
    sent += text;
    for (const { mark, resolve } of waiting) if (sent.includes(mark)) resolve();
  });
  script.stdin.on("error", () => {});
  const ended = new Promise<number | null>((resolve, reject) => {
    script.once("error", reject);
    script.once("close", resolve);
  });
  return {
    sent: () => sent,
    said: (mark) =>
      new Promise((resolve, reject) => {
        waiting.push({ mark, resolve });
        if (sent.includes(mark)) resolve();
        void ended.then(() => reject(new Error(`It ended before it said '${mark}':\n${sent}`)));
      }),
    press: (key) => void script.stdin.write(key),
    kill: () => signalAll(script, "SIGKILL"),
    close: () => void script.kill("SIGKILL"),
    ended,
  };
}

const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;
