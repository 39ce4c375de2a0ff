// The containers of a lab host: all of them are the one process of the mail stand-in. What they were created
// with is kept on the host's disk, so that they come back at boot and a restart reads nothing anew.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { MailuConfig } from "../mailu/config.ts";
import type { Project } from "./compose.ts";
import { LAYERS, onHost, type Service } from "./compose-service.ts";
import { DockerError } from "./docker-error.ts";

const STATE = "/var/lib/docker/project.json";
const CONFIG = "/var/lib/docker/mailu.json";
const PID = "/run/mailu.pid";
const READY = "/run/mailu.json";
export const EXEC_SOCKET = "/run/mailu.sock";
export const LOG = "/var/log/mailu/server.log";
const SERVER = "/lab/project/scripts/lab/mailu/server.ts";
/** Heap limits, MiB: hundreds of hosts share one machine. */
const NODE_FLAGS = [
  "--disable-warning=ExperimentalWarning",
  "--max-semi-space-size=1",
  "--max-old-space-size=128",
];

export interface Created {
  project: Project;
  /** False after `stop`: such containers don't come back at boot. */
  wanted: boolean;
}

/** What was created on this host, if anything. */
export function created(): Created | undefined {
  return existsSync(STATE) ? (JSON.parse(readFileSync(STATE, "utf8")) as Created) : undefined;
}

/** Creates the containers anew: their environment is read now, and what they wrote outside of volumes is lost. */
export async function create(project: Project, address: string): Promise<void> {
  for (const { name, mounts } of project.services) {
    for (const { source, target } of mounts) makeSource(name, source, target);
  }
  await stop();
  rmSync(LAYERS, { recursive: true, force: true });
  mkdirSync(dirname(CONFIG), { recursive: true });
  writeFileSync(CONFIG, JSON.stringify(mailuConfig(project, address)), { mode: 0o600 });
  writeFileSync(STATE, JSON.stringify({ project, wanted: true } satisfies Created), { mode: 0o600 });
}

/** Starts what was created; does nothing while it runs. */
export function start(): void {
  if (running() !== undefined) return;
  want(true);
  rmSync(READY, { force: true });
  mkdirSync(dirname(LOG), { recursive: true });
  const log = openSync(LOG, "a", 0o600);
  const { PATH, NODE_COMPILE_CACHE } = process.env;
  const env = { PATH, NODE_COMPILE_CACHE, TZ: "UTC" };
  const child = spawn(process.execPath, [...NODE_FLAGS, SERVER, CONFIG], {
    env,
    cwd: "/",
    detached: true,
    stdio: ["ignore", log, log],
  });
  writeFileSync(PID, String(child.pid));
  child.unref();
}

/** Stops them; with `forget` they also stay down at the next boot. */
export async function stop(forget = false): Promise<void> {
  if (forget) want(false);
  const pid = running();
  if (pid === undefined) return;
  process.kill(pid, "SIGTERM");
  for (let waited = 0; running() !== undefined; waited += 10) {
    if (waited === 3000) process.kill(pid, "SIGKILL");
    await sleep(10);
  }
}

export async function remove(): Promise<void> {
  await stop();
  for (const path of [STATE, CONFIG, LAYERS]) rmSync(path, { recursive: true, force: true });
}

/** Waits until every port is open. Throws, as `up --wait` does, when the process ended or `seconds` are over. */
export async function waitHealthy(seconds: number): Promise<void> {
  for (const deadline = Date.now() + seconds * 1000; !healthy(); await sleep(15)) {
    const name = `${created()?.project.name}-admin-1`;
    if (running() === undefined) throw new DockerError(`container ${name} exited (1): ${lastLog()}`);
    if (Date.now() > deadline)
      throw new DockerError(`container ${name} is unhealthy: timeout waiting for application`);
  }
}

export const healthy = (): boolean =>
  existsSync(READY) && (JSON.parse(readFileSync(READY, "utf8")) as { pid: number }).pid === running();

/** The stand-in's pid while it runs. */
export function running(): number | undefined {
  try {
    const pid = Number(readFileSync(PID, "utf8"));
    const state = /^\d+ \(.*\) (\S)/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1];
    return state === "Z" || state === "X" ? undefined : pid;
  } catch {
    return undefined;
  }
}

function want(wanted: boolean): void {
  const state = created();
  if (state === undefined || state.wanted === wanted) return;
  writeFileSync(STATE, JSON.stringify({ ...state, wanted }), { mode: 0o600 });
}

/** Docker makes a missing directory, but not a missing file of a secret. */
function makeSource(service: string, source: string, target: string): void {
  if (existsSync(source)) return;
  if (target.startsWith("/run/secrets/")) {
    throw new DockerError(
      `Error response from daemon: invalid mount config for type "bind": bind source path does not exist: ${source} (service ${service})`,
    );
  }
  mkdirSync(source, { recursive: true });
}

function mailuConfig(project: Project, address: string): MailuConfig {
  const get = (name: string): Service => {
    const found = project.services.find((service) => service.name === name);
    if (found === undefined)
      throw new DockerError(`the lab's mail server needs a service "${name}" in the compose file`);
    return found;
  };
  const [front, admin, imap, smtp, redis] = ["front", "admin", "imap", "smtp", "redis"].map(get) as [
    Service,
    Service,
    Service,
    Service,
    Service,
  ];
  const secretFiles = Object.entries(admin.env)
    .filter(([key]) => key.endsWith("_FILE"))
    .map(([key, path]) => [key.slice(0, -"_FILE".length), onHost(admin, path)]);
  return {
    address,
    env: admin.env,
    ports: front.ports,
    paths: {
      data: onHost(admin, "/data"),
      dkim: onHost(admin, "/dkim"),
      mail: onHost(imap, "/mail"),
      queue: onHost(smtp, "/queue"),
      redis: onHost(redis, "/data"),
      certs: onHost(front, "/certs"),
      nginx: onHost(front, "/overrides"),
    },
    secretFiles: Object.fromEntries(secretFiles),
    readyFile: READY,
    execSocket: EXEC_SOCKET,
    accessLog: "/var/log/mailu/access.log",
  };
}

const lastLog = (): string => {
  const size = existsSync(LOG) ? statSync(LOG).size : 0;
  return size === 0 ? "no log" : readFileSync(LOG, "utf8").slice(-800).trim();
};
