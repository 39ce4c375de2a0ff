#!/usr/bin/env node
// The second half of the set-up, run by scripts/setup.mjs once Node can run TypeScript: everything that the lab and
// the stacks need and npm doesn't have.
import { join } from "node:path";
import { binIsReady, fillBin } from "./bin.ts";
import { withLock } from "./lock.mjs";
import { CACHE, REPOSITORY, toolchainBin } from "./paths.ts";
import { note } from "./progress.mjs";
import { aptInstall, missingPackages } from "./system.ts";

const quiet = process.argv.includes("--quiet");
const env = process.argv.includes("--env");
const browser = process.argv.includes("--browser");

try {
  if (!ready()) await equip();
  else if (!quiet && !env) note(`✓ pulumi, vault, moto: in place (${toolchainBin()})`);
  if (env) {
    const path = [toolchainBin(), join(REPOSITORY, "node_modules", ".bin")].map(quoted).join(":");
    console.log(`export PATH=${path}:"$PATH"`);
  }
} catch (error) {
  note(`set-up failed: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}

function ready(): boolean {
  return binIsReady() && missingPackages({ browser }).length === 0;
}

async function equip(): Promise<void> {
  const waiting = (holder: string) => note(`waiting for ${holder} to finish with the toolchain`);
  await withLock(join(CACHE, "lock"), waiting, async (lock) => {
    if (ready()) return;
    // Loaded only when there is something to do, which is rare.
    const { obtainPythons } = await import("./pythons.ts");
    const { obtain } = await import("./obtain.ts");
    const { PULUMI, VAULT } = await import("./programs.ts");
    const packages = missingPackages({ browser });
    if (packages.length > 0) await aptInstall(packages, lock);
    await obtainPythons(lock);
    fillBin([...(await obtain(PULUMI, lock)), ...(await obtain(VAULT, lock))]);
  });
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
