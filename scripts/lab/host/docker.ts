// `docker` on a lab host: the calls that a mail host's operator and runbooks make of it, answered over the mail
// stand-in. Services share one process, so whatever stops one stops all.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { text } from "node:stream/consumers";
import { askExec, PROGRAMS } from "../mailu/exec-call.ts";
import { type Project, readProject } from "./compose.ts";
import { onHost } from "./compose-service.ts";
import {
  create,
  created,
  EXEC_SOCKET,
  healthy,
  LOG,
  remove,
  running,
  start,
  stop,
  waitHealthy,
} from "./containers.ts";
import { type Call, parseCall } from "./docker-call.ts";
import { DockerError } from "./docker-error.ts";

const VERSION = "27.5.1";
const COMPOSE_VERSION = "2.32.4";

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof DockerError ? error.message : error);
  process.exitCode = error instanceof DockerError ? error.code : 1;
}

async function main(args: string[]): Promise<number> {
  if (args[0] === "compose") return compose(parseCall(args.slice(1)));
  if (args[0] === "lab-boot") return boot();
  if (args[0] === "version" || args[0] === "--version") return say(`Docker version ${VERSION}, build lab`);
  if (args[0] === "info")
    return say(
      `Server:\n Server Version: ${VERSION}\n Containers: ${created()?.project.services.length ?? 0}`,
    );
  if (args[0] === "ps") return ps({ verb: "ps", file: "", flags: new Set(), options: {}, rest: [] });
  throw new DockerError(
    `docker: '${args[0] ?? ""}' is not a docker command of a lab host. See 'docker compose'`,
  );
}

async function compose(call: Call): Promise<number> {
  const { verb, file, flags, rest } = call;
  if (verb === "version")
    return say(flags.has("--short") ? COMPOSE_VERSION : `Docker Compose version v${COMPOSE_VERSION}`);
  const project = readProject(resolve(file), address());
  if (verb !== "exec") unknownService(project, rest);
  switch (verb) {
    case "up":
      return up(project, call);
    case "config":
      return flags.has("-q") || flags.has("--quiet") ? 0 : say(readFileSync(file, "utf8"));
    case "pull":
      return 0;
    case "ps":
      return ps(call);
    case "logs":
      return logs(call);
    case "down":
      await remove();
      return 0;
    case "stop":
    case "kill":
      await stop(true);
      return 0;
    case "start":
    case "restart":
      if (created() === undefined)
        throw new DockerError(`service "${rest[0] ?? "front"}" has no container to start`);
      if (verb === "restart") await stop();
      start();
      return 0;
    case "exec":
      return exec(project, rest);
    default:
      throw new DockerError(`unknown docker command: "compose ${verb}"`, 16);
  }
}

async function up(project: Project, { flags, options }: Call): Promise<number> {
  if (!flags.has("-d") && !flags.has("--detach") && !flags.has("--wait")) {
    throw new DockerError("a lab host runs containers in the background only: docker compose up -d");
  }
  const fresh = flags.has("--force-recreate") || created()?.project.hash !== project.hash;
  if (fresh) await create(project, address());
  start();
  for (const { name } of project.services) {
    console.error(` Container ${project.name}-${name}-1  ${fresh ? "Started" : "Running"}`);
  }
  if (flags.has("--wait")) await waitHealthy(Number(options["--wait-timeout"] ?? 60));
  return 0;
}

function logs({ options }: Call): number {
  const lines = existsSync(LOG) ? readFileSync(LOG, "utf8").trimEnd().split("\n") : [];
  return say(lines.slice(-Number(options["--tail"] ?? options["-n"] ?? lines.length)).join("\n"));
}

async function boot(): Promise<number> {
  if (created()?.wanted) start();
  return 0;
}

/** One JSON document per line and container, as compose prints since 2.21. */
function ps({ flags, options }: Call): number {
  const { project } = created() ?? {};
  if (project === undefined || (running() === undefined && !flags.has("-a") && !flags.has("--all"))) return 0;
  const state = running() === undefined ? "exited" : "running";
  const health = state === "running" ? (healthy() ? "healthy" : "starting") : "";
  const rows = project.services.map(({ name, image, ports }) => ({
    Name: `${project.name}-${name}-1`,
    Service: name,
    Image: image,
    Project: project.name,
    State: state,
    Health: health,
    ExitCode: state === "running" ? 0 : 1,
    Publishers: ports.map((port) => ({
      URL: address(),
      TargetPort: port,
      PublishedPort: port,
      Protocol: "tcp",
    })),
  }));
  if (options["--format"] === "json") return say(rows.map((row) => JSON.stringify(row)).join("\n"));
  if (flags.has("--services")) return say(rows.map(({ Service }) => Service).join("\n"));
  if (flags.has("-q") || flags.has("--quiet")) return say(rows.map(({ Name }) => Name).join("\n"));
  return say(
    [
      "NAME IMAGE SERVICE STATUS",
      ...rows.map((row) => `${row.Name} ${row.Image} ${row.Service} ${row.State} (${row.Health})`),
    ].join("\n"),
  );
}

/**
 * Looking at files, whose paths are looked up where the container's volumes lie, and the programs that act on the
 * running mail server.
 */
async function exec(project: Project, [name = "", command = "", ...args]: string[]): Promise<number> {
  unknownService(project, [name]);
  const service = project.services.find((one) => one.name === name);
  if (service === undefined || running() === undefined)
    throw new DockerError(`service "${name}" is not running`);
  if (PROGRAMS.includes(command)) return execInServer(name, command, args);
  if (!["cat", "ls", "test", "stat", "sha256sum", "find", "true", "wc"].includes(command)) {
    throw new DockerError(
      `OCI runtime exec failed: exec failed: unable to start container process: exec: "${command}": executable file not found in $PATH (the lab's mail server only lets files be looked at)`,
      127,
    );
  }
  const mapped = args.map((arg) => (arg.startsWith("/") ? onHost(service, arg) : arg));
  return spawnSync(command, mapped, { stdio: "inherit" }).status ?? 1;
}

async function execInServer(service: string, program: string, args: string[]): Promise<number> {
  // What reads nothing mustn't wait for the end of an input that nobody closes.
  const stdin = args.includes("config-import") ? await text(process.stdin) : "";
  const ended = await askExec(EXEC_SOCKET, { service, program, args, stdin }).catch((cause) => {
    throw new DockerError(`service "${service}" is not running`, 1, { cause });
  });
  process.stdout.write(ended.stdout);
  process.stderr.write(ended.stderr);
  return ended.code;
}

function unknownService(project: Project, wanted: string[]): void {
  const missing = wanted.find((name) => !project.services.some((service) => service.name === name));
  if (missing !== undefined) throw new DockerError(`no such service: ${missing}`);
}

function address(): string {
  return (JSON.parse(readFileSync("/lab/host.json", "utf8")) as { address: string }).address;
}

function say(text: string): number {
  if (text !== "") console.log(text);
  return 0;
}
