// A lab host: sshd and a mail server in a mount and pid namespace of their own, on a loopback address, with a
// directory as disk. It can really be killed, and it never outlives the process that booted it.
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { MAILU_DATA } from "../../../stacks/names.ts";
import { prepareDisk } from "./disk.ts";
import { signalNamespace } from "./namespace.ts";
import { type Power, powerOn } from "./power.ts";

export interface HostOptions {
  name: string;
  /** Absolute directory for all that the host writes; its disk is `root` in it. Booting on one that was used
   * before is a reboot: host key, files and containers come back. */
  dir: string;
  /** Loopback address, e.g. `127.20.3.11`; port 22 on it must be free. */
  address: string;
  /** One authorized_keys line for root. */
  authorizedKey: string;
  /** Absolute directory mounted at /mailu from the start; it survives the host. */
  dataVolume?: string;
}

export interface Host {
  readonly name: string;
  readonly address: string;
  /** The host's first process, by the machine's numbering. */
  readonly pid: number;
  /** The host's own disk, seen from outside. */
  readonly disk: string;
  /** `ssh-ed25519 AAAA…`, without a comment. */
  readonly hostKey: string;
  /** Mounts a directory at /mailu while the host runs. */
  attach(volumeDir: string): Promise<void>;
  /** Takes /mailu away, also while files on it are open. */
  detach(): Promise<void>;
  /** Kills every process of the host and deletes its disk; a data volume stays. Safe to repeat. */
  kill(): Promise<void>;
  /** Pulls the plug only: the disk stays and can be booted again. */
  powerOff(): Promise<void>;
  /** Stops every process: TCP still connects, nothing answers any more. */
  hang(): void;
  wake(): void;
  alive(): boolean;
}

/** Boots a host and returns once its sshd listens. Needs root. Throws with the end of its boot log otherwise. */
export async function bootHost(options: HostOptions): Promise<Host> {
  const disk = join(options.dir, "root");
  mkdirSync(options.dir, { recursive: true });
  prepareDisk(disk, options);
  return control(options, disk, await powerOn({ ...options, disk }));
}

function control(options: HostOptions, disk: string, { pid, alive, ended }: Power): Host {
  const mountpoint = join(disk, MAILU_DATA);
  const inside = (command: string[]) =>
    promisify(execFile)("nsenter", [`--mount=/proc/${pid}/ns/mnt`, "--", ...command]);
  const powerOff = async () => {
    if (alive()) process.kill(pid, "SIGKILL");
    await ended;
  };
  const [type, key] = readFileSync(join(disk, "etc/ssh/ssh_host_ed25519_key.pub"), "utf8").split(" ");
  return {
    name: options.name,
    address: options.address,
    pid,
    disk,
    hostKey: `${type} ${key?.trim()}`,
    attach: async (volumeDir) => void (await inside(["mount", "--bind", volumeDir, mountpoint])),
    detach: async () => void (await inside(["umount", "--lazy", mountpoint])),
    powerOff,
    kill: async () => {
      await powerOff();
      await rm(options.dir, { recursive: true, force: true });
    },
    hang: () => signalNamespace(pid, "SIGSTOP"),
    wake: () => signalNamespace(pid, "SIGCONT"),
    alive,
  };
}
