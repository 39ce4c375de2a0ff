// One service of a compose file: its environment, ports, and what is mounted where.
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { type Body, list, names, object, onlyProperties } from "./compose-node.ts";
import { DockerError } from "./docker-error.ts";
import { envFile } from "./env-file.ts";

export interface Mount {
  /** On the host. */
  source: string;
  /** In the container. */
  target: string;
}

export interface Service {
  name: string;
  image: string;
  env: Record<string, string>;
  ports: number[];
  mounts: Mount[];
}

/** What a service's words refer to. */
export interface ComposeFile {
  document: Body;
  /** Where relative paths start. */
  dir: string;
  file: string;
  /** The host's address. */
  address: string;
}

/** Reads and checks one service; throws a DockerError as compose would. */
export function readService(name: string, body: Body, file: ComposeFile): Service {
  const { document, dir, address } = file;
  onlyProperties(body, SERVICE_KEYS, file.file, `services.${name} `);
  if (body.image === undefined && body.build === undefined) {
    throw new DockerError(
      `service "${name}" has neither an image nor a build context specified: invalid compose project`,
    );
  }
  for (const other of names(body.depends_on)) {
    if (object(document.services)[other] === undefined) {
      throw new DockerError(
        `service "${name}" depends on undefined service "${other}": invalid compose project`,
      );
    }
  }
  return {
    name,
    image: String(body.image ?? name),
    env: environment(body, dir),
    ports: list(body.ports).map((port) => publishedPort(port, address)),
    mounts: [
      ...list(body.volumes).map((one) => volume(name, one, document, dir)),
      ...secrets(name, body, document, dir),
    ],
  };
}

function environment(body: Body, dir: string): Record<string, string> {
  const env: Record<string, string> = {};
  const files = typeof body.env_file === "string" ? [body.env_file] : list(body.env_file);
  for (const one of files) {
    const { path, required } = typeof one === "string" ? { path: one, required: true } : (one as Body);
    const file = resolve(dir, String(path));
    if (existsSync(file)) Object.assign(env, envFile(file, env));
    else if (required !== false) {
      throw new DockerError(`env file ${file} not found: stat ${file}: no such file or directory`);
    }
  }
  for (const one of Array.isArray(body.environment) ? body.environment : []) {
    const [key = "", ...value] = String(one).split("=");
    env[key] = value.join("=");
  }
  if (!Array.isArray(body.environment)) {
    for (const [key, value] of Object.entries(object(body.environment)))
      env[key] = value === null ? "" : String(value);
  }
  return env;
}

/** The container's port; only "everywhere" or the host's own address can be bound. */
function publishedPort(port: unknown, address: string): number {
  const text = typeof port === "object" && port !== null ? longPort(port as Body) : String(port);
  const [, ip, target] = /^(?:(?:\[?([\d.:a-f]+)\]?:)?\d+:)?(\d+)(?:\/tcp)?$/.exec(text) ?? [];
  if (target === undefined) throw new DockerError(`invalid containerPort: ${text}`);
  if (ip !== undefined && !["0.0.0.0", "::", address].includes(ip)) {
    throw new DockerError(
      `failed to bind host port for ${ip}:${target}: bind: cannot assign requested address (this host is ${address})`,
    );
  }
  return Number(target);
}

const longPort = ({ host_ip, published, target }: Body): string =>
  `${host_ip ? `${host_ip}:` : ""}${published ?? target}:${target}`;

function volume(name: string, one: unknown, document: Body, dir: string): Mount {
  const [source = "", target = ""] =
    typeof one === "string" ? one.split(":") : [String((one as Body).source), String((one as Body).target)];
  if (/^[./~]/.test(source)) return { source: resolve(dir, source), target };
  if (!(source in object(document.volumes))) {
    throw new DockerError(`service "${name}" refers to undefined volume ${source}: invalid compose project`);
  }
  return { source: `/var/lib/docker/volumes/${source}/_data`, target };
}

function secrets(name: string, body: Body, document: Body, dir: string): Mount[] {
  return list(body.secrets).map((one) => {
    const { source, target } = typeof one === "string" ? { source: one, target: one } : (one as Body);
    const secret = object(document.secrets)[String(source)];
    if (secret === undefined) {
      throw new DockerError(
        `service "${name}" refers to undefined secret ${source}: invalid compose project`,
      );
    }
    const file = resolve(dir, String(object(secret).file));
    const path = String(target ?? source);
    return { source: file, target: path.startsWith("/") ? path : `/run/secrets/${path}` };
  });
}

/** Where a container's path lies on the host; what no mount covers is the container's own layer. */
export function onHost(service: Service, path: string): string {
  const mount = service.mounts
    .filter(({ target }) => path === target || path.startsWith(`${target.replace(/\/$/, "")}/`))
    .sort((a, b) => b.target.length - a.target.length)[0];
  if (mount === undefined) return `${LAYERS}/${service.name}${path}`;
  return mount.source + path.slice(mount.target.replace(/\/$/, "").length);
}

/** Containers' own layers: gone whenever the container is created anew. */
export const LAYERS = "/var/lib/docker/overlay2";

const SERVICE_KEYS = (
  "image build command entrypoint container_name hostname domainname env_file environment ports expose volumes secrets " +
  "configs networks depends_on restart healthcheck logging dns dns_search extra_hosts labels user working_dir tmpfs " +
  "cap_add cap_drop security_opt read_only ulimits init stop_grace_period stop_signal deploy mem_limit cpus profiles " +
  "sysctls privileged pull_policy platform network_mode shm_size stdin_open tty"
).split(" ");
