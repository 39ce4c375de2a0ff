// A Vault server that reaches nothing, and that nobody else reaches: a network namespace without any interface, so that
// it can ask no mail server; a process namespace, with which it ends; and a root directory of its own, in memory, so that
// what is restored into it touches no disk, and the audit devices that it was backed up with write to paths in there and
// not to those of the source. Nothing of it outlives the process that started it, not even by SIGKILL.
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { realpath } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { which } from "zx/core";
import { RunbookError } from "./errors.ts";
import { SealedVault } from "./sealed-vault.ts";

export interface Throwaway {
  vault: SealedVault;
  /** Bytes that its data may take: it has memory alone. */
  room: number;
  /** Ends it and everything in it; may be called twice. */
  end(): Promise<void>;
}

/** Of the memory that is free: Vault itself takes some, and another Vault may be at work on this machine. */
const SHARE_OF_MEMORY = 0.6;
/** Bytes that the data of a throwaway Vault may take on this machine. */
export const roomHere = (): number => Math.floor(process.availableMemory() * SHARE_OF_MEMORY);

/** Milliseconds until it answers, and until it has ended. */
const START = 30_000;
const END = 10_000;

/** Where the kernel's `/proc/PID/root` leads from the number that the first line gives. */
const ROOT = "/sys";

/**
 * The first process in there: $1 Vault's program, $2 bytes of room, $3 its configuration. /proc is still the one from
 * outside: so it learns the number by which it is known there, and by which its socket is found past all mounts. In a
 * user namespace the kernel knows no `noswap`.
 */
const PREPARE = `
set -eu
ulimit -c 0
read -r pid rest < /proc/self/stat
echo 1000 > /proc/self/oom_score_adj
mount -t tmpfs -o "mode=700,size=$2,noswap" tmpfs ${ROOT} 2>/dev/null || mount -t tmpfs -o "mode=700,size=$2" tmpfs ${ROOT}
mkdir ${ROOT}/tmp ${ROOT}/data
touch ${ROOT}/vault
mount --bind "$1" ${ROOT}/vault
`;

const ASK_VERSION = `chroot ${ROOT} /vault version`;

/** Standard input ends when the runbook does, however it does. What Vault prints there is its audit device \`stdout\`. */
const SERVE = `
printf %s "$3" > ${ROOT}/vault.hcl
exec 3<&0
chroot ${ROOT} /vault server -config=/vault.hcl < /dev/null > /dev/null &
vault=$!
( cat <&3 > /dev/null; kill -9 $vault ) &
echo "$pid"
wait $vault
`;

/** Raft wants an address for other nodes; no interface leads to it. */
const CONFIGURATION = `
storage "raft" {
  path = "/data"
  node_id = "throwaway"
  performance_multiplier = 1
}
listener "unix" {
  address = "/vault.sock"
}
listener "tcp" {
  address = "0.0.0.0:8200"
  tls_disable = true
}
api_addr = "http://127.0.0.1:8200"
cluster_addr = "http://127.0.0.1:8201"
default_max_request_duration = "1h"
disable_mlock = true
log_level = "warn"
`;

/**
 * The version of the program `vault` of PATH, such as 1.21.0, as it says in there: so isolation is seen to work, too.
 * @throws RunbookError (exit 1) that says which program or which right is missing.
 */
export async function versionInThere(env: NodeJS.ProcessEnv): Promise<string> {
  const child = enter(PREPARE + ASK_VERSION, await vaultProgram(env), 64 * 1_048_576, env);
  const said = collect(child);
  const code = await ended(child);
  const version = /^Vault v(\S+?),? /.exec(said.stdout)?.[1];
  if (code === 0 && version !== undefined) return version;
  throw cantIsolate(said.stderr || said.stdout);
}

/** Starts an empty one. @throws RunbookError (exit 1) that says why it can't. */
export async function startThrowaway(env: NodeJS.ProcessEnv): Promise<Throwaway> {
  const room = roomHere();
  const child = enter(PREPARE + SERVE, await vaultProgram(env), room, env);
  const said = collect(child);
  const gone = ended(child);
  const end = async () => {
    child.stdin?.end();
    const killed = setTimeout(() => child.kill("SIGKILL"), END);
    await gone;
    clearTimeout(killed);
  };
  try {
    const vault = await reachable(said, gone);
    return { vault, room, end };
  } catch (error) {
    await end();
    throw error;
  }
}

async function reachable(said: Said, gone: Promise<number>): Promise<SealedVault> {
  let over = false;
  void gone.then(() => {
    over = true;
  });
  const start = performance.now();
  while (!over && performance.now() - start < START) {
    const pid = /^(\d+)\n/.exec(said.stdout)?.[1];
    if (pid !== undefined) {
      const socket = `/proc/${pid}/root${ROOT}/vault.sock`;
      // No name that is looked up: it only says in errors which Vault is meant.
      const vault = new SealedVault({
        addr: "http://throwaway-vault",
        namespace: undefined,
        ca: undefined,
        socket,
      });
      if (await vault.status().catch(() => undefined)) return vault;
    }
    await sleep(50);
  }
  if (said.stdout === "") throw cantIsolate(said.stderr);
  const why = over ? "ended at once" : `doesn't answer within ${START / 1000} s`;
  throw new RunbookError(`The throwaway Vault ${why}: ${lastLines(said.stderr)}`, {
    exit: "failed",
    next: "see that the program vault of PATH is HashiCorp's own, and this machine has memory left; then run this again",
  });
}

/** Detached from the terminal's process group: Ctrl-C lets a running step finish. */
function enter(script: string, program: string, room: number, env: NodeJS.ProcessEnv): ChildProcess {
  // Whoever may make namespaces needs none of users, which a machine may forbid; in a container root often may not.
  const user = mayMakeNamespaces() ? [] : ["--user", "--map-root-user"];
  const namespaces = [...user, "--net", "--mount", "--pid", "--fork", "--kill-child"];
  const shell = ["sh", "-c", script, "throwaway-vault", program, String(room), CONFIGURATION];
  return spawn("unshare", [...namespaces, ...shell], {
    // Nothing of VAULT_*, AWS_* or a proxy is for it.
    env: { PATH: `${env.PATH}:/usr/sbin:/usr/bin:/sbin:/bin` },
    stdio: "pipe",
    detached: true,
  });
}

/** CAP_SYS_ADMIN, bit 21 of the effective ones. */
function mayMakeNamespaces(): boolean {
  const [, effective = "0"] =
    /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
  return ((BigInt(`0x${effective}`) >> 21n) & 1n) === 1n;
}

async function vaultProgram(env: NodeJS.ProcessEnv): Promise<string> {
  const found = await which("vault", { path: env.PATH, nothrow: true });
  if (found !== null) return realpath(found);
  throw new RunbookError("A throwaway Vault takes the program vault, which isn't in PATH", {
    exit: "failed",
    next: "install Vault (the server's program; it needs no configuration), then run this again",
  });
}

/** What a child printed so far: of errors, the end. */
interface Said {
  stdout: string;
  stderr: string;
}

function collect(child: ChildProcess): Said {
  const said: Said = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const)
    child[name]?.on("data", (chunk: Buffer) => {
      said[name] = (said[name] + chunk.toString()).slice(-4096);
    });
  child.once("error", (error) => {
    said.stderr += error.message;
  });
  // It may be gone before its input is ended.
  child.stdin?.on("error", () => {});
  return said;
}

/** The exit code; 1 for a program that couldn't be started, or was killed. */
function ended(child: ChildProcess): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  child.once("close", (code) => resolve(code ?? 1));
  child.once("error", () => resolve(1));
  return promise;
}

const lastLines = (text: string): string => text.trim().split("\n").slice(-3).join("; ") || "it says nothing";

function cantIsolate(stderr: string): RunbookError {
  const said = lastLines(stderr);
  const missing = /spawn unshare ENOENT/.test(said);
  return new RunbookError(
    `A throwaway Vault can't be cut off from this machine, and is not started without that: ${said}`,
    {
      exit: "failed",
      next: missing
        ? "install unshare (util-linux), then run this again"
        : "as root, or where users may make namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns); in a container with the capability SYS_ADMIN, and mount allowed: run this again",
    },
  );
}
