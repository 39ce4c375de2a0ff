// A lock among the processes of one machine. SQLite's file locks are the kernel's: they end with their holder,
// however it ends, so there is no stale lock to judge and no moment in which two judges both take it over.
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Runs `fn` while no other process (and nothing else in this one) runs under the same lock file. The empty
 * file stays. @throws Error when the lock isn't had within `waitMs`, or the file can't be made.
 */
export async function withFileLock<T>(file: string, fn: () => T, waitMs = 10_000): Promise<T> {
  const { DatabaseSync } = await import("node:sqlite");
  const lock = new DatabaseSync(file);
  try {
    const until = performance.now() + waitMs;
    while (!took(() => lock.exec("BEGIN EXCLUSIVE"))) {
      if (performance.now() > until)
        throw new Error(`${file} was held by another process for ${waitMs / 1000} s`);
      await sleep(5 + Math.random() * 20);
    }
    return fn();
  } finally {
    lock.close();
  }
}

const SQLITE_BUSY = 5;

function took(begin: () => void): boolean {
  try {
    begin();
    return true;
  } catch (error) {
    if (error instanceof Error && "errcode" in error && error.errcode === SQLITE_BUSY) return false;
    throw error;
  }
}
