// Runs a program whose output matters only if it fails.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

export interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** Gets each line that the program prints, as it comes. */
  onLine?: (line: string) => void;
  /** A file descriptor that the program inherits, so that it holds the set-up's lock as long as it runs. */
  lock?: number | undefined;
  /** Ends the program after so many milliseconds. */
  timeout?: number;
}

/**
 * Runs the program to its end and returns what it printed. Throws an Error with its last 20 lines if it can't
 * be started or ends with anything but 0.
 */
export async function runQuietly(command: string, args: string[], options: RunOptions = {}): Promise<string> {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    timeout: options.timeout,
    stdio: ["ignore", "pipe", "pipe", options.lock ?? "ignore"],
  });
  const lines: string[] = [];
  const read = [child.stdout, child.stderr].map(async (stream) => {
    if (stream === null) return;
    for await (const line of createInterface({ input: stream })) {
      lines.push(line);
      options.onLine?.(line);
    }
  });
  const code = await new Promise<number | string>((resolve, reject) => {
    child.on("error", (cause) => reject(new Error(`'${command}' can't be run: ${cause.message}`, { cause })));
    child.on("close", (exitCode, signal) => resolve(exitCode ?? signal ?? 1));
  });
  await Promise.all(read);
  if (code !== 0)
    throw new Error(`${command} ${args[0]} ended with ${code}:\n${lines.slice(-20).join("\n")}`);
  return lines.join("\n");
}
