// Reads a compose file as `docker compose` does, as far as a mail host's goes: interpolation, env files, secrets,
// volumes and ports; and refuses what the real one would refuse.
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { parse } from "yaml";
import { type Body, object, onlyProperties } from "./compose-node.ts";
import { readService, type Service } from "./compose-service.ts";
import { DockerError } from "./docker-error.ts";
import { envFile, interpolate } from "./env-file.ts";

export interface Project {
  name: string;
  services: Service[];
  /** Changes with whatever makes compose create a container anew; what mounted files hold is not part of it. */
  hash: string;
}

/** Reads and checks; throws a DockerError (14 file not found, 15 not a compose file, 1 else) as compose would. */
export function readProject(file: string, address: string): Project {
  const dir = dirname(file);
  const dotEnv = existsSync(resolve(dir, ".env")) ? envFile(resolve(dir, ".env"), {}) : {};
  const document = interpolated(yaml(file), dotEnv, file);
  onlyProperties(document, TOP_LEVEL, file, "");
  const services = Object.entries(object(document.services)).map(([name, body]) =>
    readService(name, object(body), { document, dir, file, address }),
  );
  if (services.length === 0) throw new DockerError("no service selected");
  const name = String(document.name ?? dotEnv.COMPOSE_PROJECT_NAME ?? dir.split("/").at(-1));
  const hash = createHash("sha256").update(JSON.stringify({ name, services })).digest("hex");
  return { name, services, hash };
}

const TOP_LEVEL = "version name services networks volumes secrets configs include".split(" ");
function yaml(file: string): Body {
  if (!existsSync(file)) throw new DockerError(`open ${file}: no such file or directory`, 14);
  try {
    return object(parse(readFileSync(file, "utf8"), { merge: true }));
  } catch (error) {
    throw new DockerError(`yaml: ${(error as Error).message}`, 15, { cause: error });
  }
}

function interpolated(node: unknown, env: Record<string, string>, file: string): Body {
  const walk = (value: unknown): unknown => {
    if (typeof value === "string") return interpolate(value, env, { file, warn: true });
    if (Array.isArray(value)) return value.map(walk);
    if (typeof value === "object" && value !== null) {
      return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, walk(one)]));
    }
    return value;
  };
  return object(walk(node));
}
