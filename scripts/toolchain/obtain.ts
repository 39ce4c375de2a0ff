// How a pinned program is come by: a suitable one on PATH, the cache, the makers' release, a build of one's own.
import { readdirSync, realpathSync } from "node:fs";
import { delimiter, dirname, join, sep } from "node:path";
import { goBuild } from "./build.ts";
import { CACHE } from "./paths.ts";
import { place } from "./place.ts";
import type { Program } from "./programs.ts";
import { note, progress } from "./progress.mjs";
import { downloadRelease, isExecutable } from "./release.ts";
import { runQuietly } from "./run.ts";

type Way = (program: Program, into: string, say: (detail: string) => void, lock: number) => Promise<void>;

/**
 * Returns the paths of the program's executables: itself and what it came with. Only under the set-up's lock.
 * Throws an Error that tells what was tried and how to install it by hand.
 */
export async function obtain(program: Program, lock: number): Promise<string[]> {
  const onPath = await findOnPath(program);
  if (onPath !== undefined) {
    note(`✓ ${program.name}: ${onPath} (on PATH)`);
    return companions(program, dirname(realpathSync(onPath)));
  }
  // A file that was damaged since it was put there has to be made again.
  if (await suitable(program, join(program.dir, program.name))) {
    note(`✓ ${program.name} ${program.version}: in the cache (${program.dir})`);
  } else {
    await makeInCache(program, lock);
  }
  return companions(program, program.dir);
}

async function makeInCache(program: Program, lock: number): Promise<void> {
  const failures: string[] = [];
  const ways: { title: string; make: Way }[] = [
    { title: "release", make: releaseInto },
    { title: `built from source, which takes ${program.build.takes}`, make: goBuild },
  ];
  for (const { title, make } of ways) {
    try {
      await progress(`${program.name} ${program.version} (${title})`, (say) =>
        place(program.dir, async (partial) => {
          await make(program, partial, say, lock);
          await mustRun(program, join(partial, program.name));
        }),
      );
      return;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      note(`  ${reason}`);
      failures.push(reason);
    }
  }
  throw new Error(
    `${program.name} ${program.version} is needed and could not be had.\n` +
      `  Install it: ${program.byHand}\n` +
      `  Or install Go 1.26 or newer (https://go.dev/dl), from which it is built. Then run: npm run setup`,
    { cause: failures },
  );
}

async function mustRun(program: Program, file: string): Promise<void> {
  if (await suitable(program, file)) return;
  throw new Error(`what was made doesn't say on this machine that it is ${program.name} ${program.version}`);
}

const releaseInto: Way = (program, into, say) => downloadRelease(program, into, say);

/** The first executable on PATH that is new enough; older ones in front of it are passed over. */
async function findOnPath(program: Program): Promise<string | undefined> {
  for (const entry of (process.env.PATH ?? "").split(delimiter)) {
    const file = join(entry, program.name);
    // What a shell made by `setup -- --env` has on PATH is our own cache.
    if (entry === "" || !isExecutable(file) || realpathSync(file).startsWith(CACHE + sep)) continue;
    if (await suitable(program, file)) return file;
  }
  return undefined;
}

async function suitable(program: Program, file: string): Promise<boolean> {
  if (!isExecutable(file)) return false;
  try {
    const env = { ...process.env, PULUMI_SKIP_UPDATE_CHECK: "true" };
    return atLeast(await runQuietly(file, ["version"], { env, timeout: 10_000 }), program.version);
  } catch {
    return false;
  }
}

/** Whether the first version number in `printed` has the major version of `wanted` and is not older. */
export function atLeast(printed: string, wanted: string): boolean {
  const found = /v?(\d+)\.(\d+)\.(\d+)/.exec(printed)?.slice(1, 4).map(Number);
  const [major, minor, patch] = wanted.split(".").map(Number) as [number, number, number];
  if (found === undefined) return false;
  const [foundMajor, foundMinor, foundPatch] = found as [number, number, number];
  return foundMajor === major && (foundMinor > minor || (foundMinor === minor && foundPatch >= patch));
}

/** The program and what belongs to it, such as Pulumi's language hosts, which it looks for beside itself. */
function companions(program: Program, dir: string): string[] {
  return readdirSync(dir)
    .filter((name) => name === program.name || name.startsWith(`${program.name}-`))
    .map((name) => join(dir, name))
    .filter(isExecutable);
}
