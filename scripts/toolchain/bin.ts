// The directory that goes on PATH: links to what was obtained, and a record by which the next set-up sees, without
// starting any program, that all of it is still what it was.
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { BREAK_GLASS_PYTHON, MOTO_PYTHON, toolchainBin } from "./paths.ts";

const RECORD = join(toolchainBin(), ".ready.json");

/** Whether everything is in place and unchanged since `fillBin`. Takes a few milliseconds. */
export function binIsReady(): boolean {
  try {
    const record = JSON.parse(readFileSync(RECORD, "utf8")) as Record<string, string>;
    return Object.entries(record).every(([name, print]) => fingerprint(join(toolchainBin(), name)) === print);
  } catch {
    return false;
  }
}

/** By the name on PATH. A link would do for every program but Python, which finds its packages by its path. */
const PYTHONS = new Map([
  ["moto-python", MOTO_PYTHON],
  ["break-glass-python", BREAK_GLASS_PYTHON],
]);

/** Makes the directory's content out of the executables given and the Pythons. Only under the set-up's lock. */
export function fillBin(executables: string[]): void {
  const bin = toolchainBin();
  mkdirSync(bin, { recursive: true });
  rmSync(RECORD, { force: true });
  const links = new Map(executables.map((file) => [basename(file), file]));
  for (const [name, target] of links) put(name, (file) => symlinkSync(target, file));
  for (const [name, python] of PYTHONS) {
    const script = `#!/bin/sh\nexec '${python}' "$@"\n`;
    put(name, (file) => writeFileSync(file, script, { mode: 0o755 }));
  }
  const names = [...links.keys(), ...PYTHONS.keys()];
  for (const name of readdirSync(bin))
    if (!names.includes(name)) rmSync(join(bin, name), { recursive: true });
  const record = Object.fromEntries(names.map((name) => [name, fingerprint(join(bin, name))]));
  put(basename(RECORD), (file) => writeFileSync(file, JSON.stringify(record)));
}

/** By renaming, so that a lab that starts a program right now finds either the old one or the new one. */
function put(name: string, make: (file: string) => void): void {
  const fresh = join(toolchainBin(), `${name}.new`);
  rmSync(fresh, { force: true });
  make(fresh);
  renameSync(fresh, join(toolchainBin(), name));
}

function fingerprint(file: string): string {
  const target = realpathSync(PYTHONS.get(basename(file)) ?? file);
  const { size, mtimeMs } = statSync(target);
  return `${target} ${size} ${mtimeMs}`;
}
