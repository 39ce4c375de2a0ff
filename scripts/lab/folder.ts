// One folder belongs to one lab. A lock file says whose it is; what a crashed lab left is thrown away by the next.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { z } from "zod";
import { sweep } from "./children.ts";

const LOCK = "lab.lock";
/** A Unix socket's path takes at most 107 bytes; the longest name in the folder is `control.sock`. */
const LONGEST = 90;

/** The process that runs a lab. `start` is its start time in clock ticks since boot: process ids are used again. */
const Holder = z.object({ pid: z.number().int(), start: z.string() });
export type Holder = z.infer<typeof Holder>;

/** Thrown where a lab already runs in the folder. */
export class LabIsRunning extends Error {
  constructor(dir: string, holder: Holder | undefined) {
    super(`A lab is already running in ${dir}${holder === undefined ? "" : ` (process ${holder.pid})`}`);
  }
}

/**
 * Takes `dir` for a lab of this process: makes it, or replaces what a crashed lab left there. Resolves to what gives
 * it back. Throws LabIsRunning, or an Error if the folder holds something that isn't a lab's.
 */
export async function takeFolder(dir: string): Promise<() => Promise<void>> {
  if (Buffer.byteLength(dir) > LONGEST) {
    throw new Error(
      `The lab's folder ${dir} has a name of over ${LONGEST} bytes, too long for the sockets in it: pass --dir with a shorter one`,
    );
  }
  const release = await claim(dir);
  try {
    const there = await readdir(dir).catch((): string[] => []);
    if (there.length > 0 && !there.includes(LOCK)) {
      throw new Error(`${dir} isn't empty and isn't a lab's folder: pass --dir with another one`);
    }
    await sweep(dir);
    await removeFolder(dir);
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const me: Holder = { pid: process.pid, start: startOf(process.pid) ?? "" };
    await writeFile(join(dir, LOCK), JSON.stringify(me));
    await mkdir(join(dir, "logs"), { mode: 0o700 });
  } catch (error) {
    await release();
    throw error;
  }
  return release;
}

/** A name in the kernel that only one process can hold, and that goes with it, however it ends. */
async function claim(dir: string): Promise<() => Promise<void>> {
  const name = createHash("sha256").update(dir).digest("hex");
  const server = createServer((socket) => socket.destroy());
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(`\0credential-recovery-lab-${name}`, () => resolve());
    });
  } catch {
    throw new LabIsRunning(dir, await holderOf(dir));
  }
  server.unref();
  return () => new Promise((resolve) => server.close(() => resolve()));
}

/** Removes a stopped lab's folder. */
export async function removeFolder(dir: string): Promise<void> {
  const mounted = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((path) => path.startsWith(`${dir}/`));
  // Deleting through a mount would empty what is mounted there.
  if (mounted.length > 0) throw new Error(`Something is mounted in ${dir}: run \`umount ${mounted[0]}\``);
  await rm(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
}

/** The living process that runs a lab in `dir`; undefined if there is none. */
export async function holderOf(dir: string): Promise<Holder | undefined> {
  const text = await readFile(join(dir, LOCK), "utf8").catch(() => "");
  // Empty while it is being written.
  const holder = Holder.safeParse(text === "" ? undefined : JSON.parse(text)).data;
  return holder !== undefined && startOf(holder.pid) === holder.start ? holder : undefined;
}

/** A living process's start time in clock ticks since boot. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
