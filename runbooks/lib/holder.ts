// Who holds a rotation, and whether that process still lives. A pid alone is reused, and a machine's name may be
// shared by containers: so the kernel's start time of the process and its pid namespace are kept as well.
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";
import type { Holder } from "./records.ts";

/** Runs of this process that haven't ended: in the console's process there are several, one after another. */
const living = new Set<string>();

/** A run of this process begins; what is returned is to be called when it has ended, and holds nothing any more. */
export function runBegins(run: string): () => void {
  living.add(run);
  return () => living.delete(run);
}

/** This process as the holder of a rotation from now on. */
export function thisHolder(run: string, user: string): Holder {
  const now = new Date().toISOString();
  return {
    run,
    user,
    machine: machine(),
    pid: process.pid,
    process_start: processStart(process.pid) ?? "",
    since: now,
    heartbeat: now,
  };
}

/** `alive` or `gone` for a holder on this machine; `elsewhere` when only watching its record can tell. */
export function holderState(holder: Holder): "alive" | "gone" | "elsewhere" {
  if (holder.machine !== machine()) return "elsewhere";
  if (processStart(holder.pid) !== holder.process_start) return "gone";
  return holder.pid !== process.pid || living.has(holder.run) ? "alive" : "gone";
}

/** Name, boot and pid namespace: after a reboot, or in another container, pids mean something else. */
function machine(): string {
  const boot = quietly(() => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim());
  const namespace = quietly(() => readlinkSync("/proc/self/ns/pid"));
  return [hostname(), boot, namespace].filter((part) => part !== undefined).join(" ");
}

/** Kernel ticks at which the process started; undefined when there is none, "" where the system can't tell. */
function processStart(pid: number): string | undefined {
  if (process.platform !== "linux") return quietly(() => (process.kill(pid, 0) ? "" : ""));
  const stat = quietly(() => readFileSync(`/proc/${pid}/stat`, "utf8"));
  // The name in brackets may hold spaces and brackets of its own: count from the last one.
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
  // One that was killed stays listed until its parent looks at it.
  return /^[ZX]/.test(fields?.[0] ?? "") ? undefined : fields?.[19];
}

function quietly<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
