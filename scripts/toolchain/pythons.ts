// Virtual environments of Python: moto, the AWS endpoint of the lab, and what opens a backup without this project.
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import {
  BREAK_GLASS_DIR,
  BREAK_GLASS_PYTHON,
  BREAK_GLASS_REQUIREMENTS,
  MOTO_DIR,
  MOTO_PYTHON,
  REQUIREMENTS_FILE,
} from "./paths.ts";
import { place } from "./place.ts";
import { note, progress } from "./progress.mjs";
import { runQuietly } from "./run.ts";
import { aptInstall } from "./system.ts";

const USABLE = "import sys, venv, ensurepip; assert sys.version_info >= (3, 11), 'older than 3.11'";

interface Environment {
  name: string;
  dir: string;
  python: string;
  requirements: string;
  /** What must be importable in the end. */
  module: string;
}

const MOTO: Environment = {
  name: "moto",
  dir: MOTO_DIR,
  python: MOTO_PYTHON,
  requirements: REQUIREMENTS_FILE,
  module: "moto.server",
};
const BREAK_GLASS: Environment = {
  name: "the Encryption SDK for Python",
  dir: BREAK_GLASS_DIR,
  python: BREAK_GLASS_PYTHON,
  requirements: BREAK_GLASS_REQUIREMENTS,
  module: "aws_encryption_sdk",
};

/** Only under the set-up's lock. Throws an Error that names the command to type if Python is missing or too old. */
export async function obtainPythons(lock: number): Promise<void> {
  for (const environment of [MOTO, BREAK_GLASS]) await obtainPython(environment, lock);
}

async function obtainPython(
  { name, dir, python, requirements, module }: Environment,
  lock: number,
): Promise<void> {
  if (existsSync(python)) {
    note(`✓ ${name}: in the cache (${dir})`);
    return;
  }
  await needPython(lock);
  await progress(`${name} (takes about half a minute)`, (say) =>
    place(dir, async (partial) => {
      say("making a virtual environment");
      await runQuietly("python3", ["-m", "venv", partial], { lock });
      say("installing Python packages");
      const pip = ["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-deps"];
      const own = join(partial, "bin", "python");
      await runQuietly(own, [...pip, "--requirement", requirements], { lock });
      await runQuietly(own, ["-c", `import ${module}`], { lock });
      removeScripts(join(partial, "bin"));
    }),
  );
}

async function needPython(lock: number): Promise<void> {
  try {
    await runQuietly("python3", ["-c", USABLE]);
  } catch {
    await aptInstall(["python3", "python3-venv"], lock);
    await runQuietly("python3", ["-c", USABLE]);
  }
}

/** Their first lines name the directory as it was called before the renaming. `python -m` does the same. */
function removeScripts(bin: string): void {
  for (const name of readdirSync(bin))
    if (!name.startsWith("python")) rmSync(join(bin, name), { recursive: true });
}
