// A lab host: sshd and a mail server in a mount and pid namespace of their own, on a loopback address, with a
// directory as disk. It can really be killed, and it never outlives the process that booted it.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, realpathSync } from "node:fs";
import { rm } from "node:fs/promises";
import { createConnection } from "node:net";
import { dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { MAILU_DATA } from "../../../stacks/names.ts";
import { prepareDisk } from "./disk.ts";
import { signalNamespace } from "./namespace.ts";

const PROJECT = resolve(import.meta.dirname, "../../..");
const BOOT = join(import.meta.dirname, "boot.sh");
/** ms; a boot takes about 100 on an idle machine. */
const BOOT_TIMEOUT = 20_000;

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

/** Boots a host and returns once its sshd answers. Needs root. Throws with the end of its boot log otherwise. */
export async function bootHost(options: HostOptions): Promise<Host> {
  const disk = join(options.dir, "root");
  const log = join(options.dir, "boot.log");
  mkdirSync(options.dir, { recursive: true });
  prepareDisk(disk, options);
  const child = start(options, disk, log);
  const exited = new Promise<void>((done) => child.once("close", () => done()));
  try {
    const pid = await Promise.race([pidOf(child), failed(options, log, exited)]);
    await Promise.race([sshAnswers(options.address), failed(options, log, exited)]);
    return control(options, disk, child, exited, pid);
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  }
}

function control(
  options: HostOptions,
  disk: string,
  child: ChildProcess,
  exited: Promise<void>,
  pid: number,
): Host {
  const mountpoint = join(disk, MAILU_DATA);
  const inside = (command: string[]) =>
    promisify(execFile)("nsenter", [`--mount=/proc/${pid}/ns/mnt`, "--", ...command]);
  const alive = () => child.exitCode === null && child.signalCode === null;
  const powerOff = async () => {
    if (alive()) process.kill(pid, "SIGKILL");
    await exited;
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

/** setpriv and --kill-child chain the deaths: parent → unshare → first process → whole pid namespace. */
function start({ name, dataVolume }: HostOptions, disk: string, log: string): ChildProcess {
  const out = openSync(log, "w");
  const modules = realpathSync(join(PROJECT, "node_modules"));
  const command = [
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--uts",
    "--ipc",
    "--pid",
    "--fork",
    "--kill-child=KILL",
    "sh",
    BOOT,
  ];
  const env = {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    HOST_NAME: name,
    DISK: disk,
    NODE: realpathSync(process.execPath),
    PROJECT,
    MODULES: modules,
    CACHE: join(modules, ".cache/lab-host"),
    VOLUME: dataVolume ?? "",
  };
  // A session of its own: Ctrl-C at the terminal must reach the lab, which then ends its hosts in order.
  const child = spawn("setpriv", command, { env, detached: true, stdio: ["ignore", out, out, "pipe"] });
  closeSync(out);
  return child;
}

function pidOf(child: ChildProcess): Promise<number> {
  const stream = child.stdio[3];
  return new Promise((done, fail) => {
    child.once("error", fail);
    stream?.once("data", (data: Buffer) => done(Number(data.toString())));
  });
}

async function failed(options: HostOptions, log: string, exited: Promise<void>): Promise<never> {
  const timer = new AbortController();
  const timeout = sleep(BOOT_TIMEOUT, "timeout", { signal: timer.signal, ref: false }).catch(() => "aborted");
  const why = await Promise.race([exited.then(() => "exited"), timeout]);
  timer.abort();
  const tail = [log, join(dirname(log), "root/var/log/sshd.log")].map(endOf).join("");
  const what = why === "exited" ? "ended while booting" : `didn't answer ssh within ${BOOT_TIMEOUT / 1000} s`;
  throw new Error(
    `lab host ${options.name} (${options.address}) ${what}: ${tail.trim() || "no log"}. ` +
      `Lab hosts need root and a free port 22 on their address: ss -ltnp 'src ${options.address}'`,
  );
}

function endOf(file: string): string {
  try {
    return readFileSync(file, "utf8").slice(-600);
  } catch {
    return "";
  }
}

async function sshAnswers(address: string): Promise<void> {
  for (const deadline = Date.now() + BOOT_TIMEOUT; Date.now() < deadline; await sleep(15)) {
    if (await greets(address)) return;
  }
}

function greets(address: string): Promise<boolean> {
  return new Promise((done) => {
    const socket = createConnection({ host: address, port: 22, timeout: 2000 });
    const finish = (ok: boolean) => {
      socket.destroy();
      done(ok);
    };
    socket.once("data", (data) => finish(data.toString("latin1").startsWith("SSH-2.0")));
    for (const event of ["error", "timeout", "close"]) socket.once(event, () => finish(false));
  });
}
