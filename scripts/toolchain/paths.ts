// Where the programs that this project brings along lie. Only names are made here, nothing is looked up or
// created: scripts/setup.mjs sees to it that the files are there.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const PULUMI_VERSION = "3.259.0";
export const VAULT_VERSION = "1.21.0";

export const REPOSITORY = fileURLToPath(new URL("../..", import.meta.url));
export const REQUIREMENTS_FILE = fileURLToPath(new URL("requirements.txt", import.meta.url));
export const BREAK_GLASS_REQUIREMENTS = fileURLToPath(
  new URL("../../docs/examples/break-glass/requirements.txt", import.meta.url),
);

/** The toolchain's part of the cache. It may be removed at any time when no lab runs: set-up makes it again. */
export const CACHE = join(
  process.env.XDG_CACHE_HOME || join(homedir(), ".cache"),
  "penguinmails-recovery",
  "toolchain",
  `${process.platform}-${process.arch}`,
);

export const PULUMI_DIR = join(CACHE, `pulumi-${PULUMI_VERSION}`);
export const VAULT_DIR = join(CACHE, `vault-${VAULT_VERSION}`);

/** The virtual environment with moto; named by its pins, so that another checkout's pins don't get in its way. */
export const MOTO_DIR = join(CACHE, `moto-${digest(readFileSync(REQUIREMENTS_FILE))}`);
/** moto's Python; start the server with `MOTO_PYTHON -m moto.server`. */
export const MOTO_PYTHON = join(MOTO_DIR, "bin", "python");

/** The same for the Python in which a backup is opened without this project. */
export const BREAK_GLASS_DIR = join(CACHE, `break-glass-${digest(readFileSync(BREAK_GLASS_REQUIREMENTS))}`);
export const BREAK_GLASS_PYTHON = join(BREAK_GLASS_DIR, "bin", "python");

/**
 * The directory for PATH: `pulumi` (with its language hosts, where it came with any), `vault`, `moto-python`,
 * `break-glass-python`.
 */
export function toolchainBin(): string {
  return join(CACHE, `bin-${digest([PULUMI_DIR, VAULT_DIR, MOTO_DIR, BREAK_GLASS_DIR].join("\n"))}`);
}

function digest(content: string | Buffer): string {
  return createHash("sha256").update(content).digest("hex").slice(0, 12);
}
