// Signals to every process of a pid namespace, from outside of it.
import { readdirSync, readlinkSync } from "node:fs";

/**
 * Sends `signal` to every process in the pid namespace of `pid`; repeated until a pass finds nobody new,
 * since a process may fork while the others are being stopped.
 */
export function signalNamespace(pid: number, signal: NodeJS.Signals): void {
  const namespace = namespaceOf(pid);
  const signalled = new Set<number>();
  for (let found = 1; found > 0; ) {
    const fresh = members(namespace).filter((member) => !signalled.has(member));
    found = fresh.length;
    for (const member of fresh) {
      signalled.add(member);
      try {
        process.kill(member, signal);
      } catch {
        // It ended by itself in between.
      }
    }
  }
}

/** The pids of all processes in the namespace that `namespaceOf` named. */
export function members(namespace: string | undefined): number[] {
  if (namespace === undefined) return [];
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => namespaceOf(pid) === namespace);
}

/** The pid namespace of a process, as `pid:[4026532198]`; undefined once the process is gone. */
export function namespaceOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
}
