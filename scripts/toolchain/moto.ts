// moto, the AWS endpoint of the lab, in a virtual environment of its own.
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { MOTO_DIR, MOTO_PYTHON, REQUIREMENTS_FILE } from "./paths.ts";
import { place } from "./place.ts";
import { note, progress } from "./progress.mjs";
import { runQuietly } from "./run.ts";
import { aptInstall } from "./system.ts";

const USABLE = "import sys, venv, ensurepip; assert sys.version_info >= (3, 11), 'older than 3.11'";

/** Only under the set-up's lock. Throws an Error that names the command to type if Python is missing or too old. */
export async function obtainMoto(lock: number): Promise<void> {
  if (existsSync(MOTO_PYTHON)) {
    note(`✓ moto: in the cache (${MOTO_DIR})`);
    return;
  }
  await needPython(lock);
  await progress("moto (takes about half a minute)", (say) =>
    place(MOTO_DIR, async (partial) => {
      say("making a virtual environment");
      await runQuietly("python3", ["-m", "venv", partial], { lock });
      say("installing Python packages");
      const pip = ["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-deps"];
      await runQuietly(join(partial, "bin", "python"), [...pip, "--requirement", REQUIREMENTS_FILE], {
        lock,
      });
      await runQuietly(join(partial, "bin", "python"), ["-c", "import moto.server"], { lock });
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
