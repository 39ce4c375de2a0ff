// Powers a lab host on: starts boot.sh in namespaces of its own and waits for its sshd.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const PROJECT = resolve(import.meta.dirname, "../../..");
/** ms; a boot takes about 100 on an idle machine. */
const TIMEOUT = 20_000;

export interface PowerOptions {
  name: string;
  dir: string;
  address: string;
  dataVolume?: string;
  /** The host's root directory, prepared. */
  disk: string;
}

export interface Power {
  /** The host's first process, by the machine's numbering. */
  pid: number;
  alive(): boolean;
  /** Resolves when every process of the host is gone. */
  ended: Promise<void>;
}

/** Throws, with the end of the logs and every process gone, when sshd doesn't come to listen. */
export async function powerOn(options: PowerOptions): Promise<Power> {
  const log = join(options.dir, "boot.log");
  const listening = join(options.disk, "run/sshd.pid");
  rmSync(listening, { force: true });
  const child = spawnHost(options, log);
  const alive = () => child.exitCode === null && child.signalCode === null;
  const ended = new Promise<void>((done) => child.once("close", () => done()));
  try {
    const pid = await Promise.race([pidOf(child), ended]);
    // sshd writes the file once it listens. Asking the port instead could be answered by somebody else's sshd.
    for (const deadline = Date.now() + TIMEOUT; !existsSync(listening); await sleep(5)) {
      if (pid === undefined || !alive()) throw new Error("ended while booting");
      if (Date.now() > deadline) throw new Error(`didn't start its sshd within ${TIMEOUT / 1000} s`);
    }
    return { pid: Number(pid), alive, ended };
  } catch (error) {
    child.kill("SIGKILL");
    if (child.pid !== undefined) await ended;
    const tail = [log, join(options.disk, "var/log/sshd.log")].map(endOf).join("").trim() || "no log";
    throw new Error(
      `lab host ${options.name} (${options.address}) ${(error as Error).message}: ${tail}. ` +
        `Lab hosts need root and a free port 22 on their address: ss -ltnp 'sport = :22'`,
      { cause: error },
    );
  }
}

/** setpriv and --kill-child chain the deaths: this process → unshare → first process → whole pid namespace. */
function spawnHost({ name, dataVolume, disk }: PowerOptions, log: string): ChildProcess {
  const modules = realpathSync(join(PROJECT, "node_modules"));
  const env = {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    OWNER: String(process.pid),
    HOST_NAME: name,
    DISK: disk,
    NODE: realpathSync(process.execPath),
    PROJECT,
    MODULES: modules,
    CACHE: join(modules, ".cache/lab-host"),
    VOLUME: dataVolume ?? "",
  };
  const chain = "--pdeathsig KILL unshare --mount --uts --ipc --pid --fork --kill-child=KILL sh".split(" ");
  const out = openSync(log, "w");
  // A session of its own: Ctrl-C at the terminal must reach the lab, which then ends its hosts in order.
  const child = spawn("setpriv", [...chain, join(import.meta.dirname, "boot.sh")], {
    env,
    detached: true,
    stdio: ["ignore", out, out, "pipe"],
  });
  closeSync(out);
  return child;
}

function pidOf(child: ChildProcess): Promise<number> {
  return new Promise((done, fail) => {
    child.once("error", fail);
    child.stdio[3]?.once("data", (data: Buffer) => done(Number(data.toString())));
  });
}

function endOf(file: string): string {
  try {
    return readFileSync(file, "utf8").slice(-600);
  } catch {
    return "";
  }
}
