#!/usr/bin/env node
// Makes a fresh checkout ready to work: the npm packages (among them a newer Node), then, run by that Node, the
// programs of scripts/toolchain. Run it as often as you like; with nothing to do it's over at once. Plain
// JavaScript with nothing but Node's own modules, since Node 20 and an empty node_modules have to be enough.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { withLock } from "./toolchain/lock.mjs";
import { note, progress } from "./toolchain/progress.mjs";

const HELP = `npm run setup [-- --quiet | --env] [--browser]

  --quiet    print nothing when there is nothing to do
  --browser  also a browser, which only the tests and the screenshots need: Debian's chromium where there is none
  --env      print a line for your shell: eval "$(npm run -s setup -- --env)" puts Node, pulumi and vault on PATH

TOOLCHAIN_PULUMI_URL, TOOLCHAIN_VAULT_URL  where releases are downloaded from, in place of the official places
XDG_CACHE_HOME                             where what was built is kept (default ~/.cache)`;

const REPOSITORY = fileURLToPath(new URL("..", import.meta.url));
const MODULES = join(REPOSITORY, "node_modules");
const NODE = join(MODULES, ".bin", "node");
/** Says for which lock file node_modules was made; it lies inside, so that it goes when node_modules goes. */
const STAMP = join(MODULES, ".setup-stamp");

const args = process.argv.slice(2);
try {
  process.exitCode = await main();
} catch (error) {
  note(`set-up failed: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}

async function main() {
  if (args.includes("--help")) {
    console.log(HELP);
    return 0;
  }
  const unknown = args.find((arg) => !["--quiet", "--env", "--browser"].includes(arg));
  if (unknown !== undefined) {
    console.error(`set-up has no flag '${unknown}'\n\n${HELP}`);
    return 2;
  }
  if (Number.parseInt(process.versions.node, 10) < 20) {
    throw new Error(`Node ${process.versions.node} is too old: 20 or newer is needed (https://nodejs.org)`);
  }
  await installPackages();
  return run(NODE, [join(REPOSITORY, "scripts", "toolchain", "main.ts"), ...args], {
    stdio: "inherit",
    // Lets the toolchain's downloads go through the proxy that HTTPS_PROXY names.
    env: { ...process.env, NODE_USE_ENV_PROXY: "1" },
  });
}

async function installPackages() {
  const wanted = createHash("sha256")
    .update(readFileSync(join(REPOSITORY, "package-lock.json")))
    .digest("hex");
  if (installed(wanted)) {
    if (args.length === 0) note("✓ npm packages: in place");
    return;
  }
  await withLock(
    lockFile(),
    (holder) => note(`waiting for ${holder} to install the npm packages`),
    async (lock) => {
      if (installed(wanted)) return;
      if (!installedByHand()) await progress("npm packages (takes about half a minute)", () => npmCi(lock));
      if (!existsSync(NODE)) {
        throw new Error(
          "the npm package `node` has no executable; run: npm rebuild node --ignore-scripts=false",
        );
      }
      writeFileSync(STAMP, wanted);
    },
  );
}

function installed(wanted) {
  return existsSync(NODE) && existsSync(STAMP) && readFileSync(STAMP, "utf8") === wanted;
}

/** Whether npm's own record of node_modules says that every package of the lock file is there in its version. */
function installedByHand() {
  const record = join(MODULES, ".package-lock.json");
  if (!existsSync(record) || !existsSync(NODE)) return false;
  const there = JSON.parse(readFileSync(record, "utf8")).packages;
  const locked = JSON.parse(readFileSync(join(REPOSITORY, "package-lock.json"), "utf8")).packages;
  return Object.entries(locked).every(
    ([path, { version, integrity, optional }]) =>
      path === "" ||
      (there[path] === undefined
        ? optional
        : there[path].version === version && there[path].integrity === integrity),
  );
}

async function npmCi(lock) {
  // node_modules/.bin is about to be removed, so that npm must not run on the Node in there.
  const path = (process.env.PATH ?? "").split(delimiter).filter((entry) => entry !== join(MODULES, ".bin"));
  const output = [];
  const flags = ["--include=dev", "--ignore-scripts=false", "--no-audit", "--no-fund", "--no-progress"];
  const code = await run("npm", ["ci", ...flags], {
    cwd: REPOSITORY,
    env: { ...process.env, PATH: path.join(delimiter) },
    // The lock goes along: if this process is killed, the next set-up waits until npm has ended as well.
    stdio: ["ignore", "pipe", "pipe", lock],
    output,
  });
  if (code !== 0) {
    process.stderr.write(Buffer.concat(output));
    throw new Error(`npm ci ended with code ${code}; its output stands above. Try again with: npm run setup`);
  }
}

function run(command, commandArgs, { output, ...options }) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, commandArgs, options);
    for (const stream of output ? [child.stdout, child.stderr] : [])
      stream.on("data", (chunk) => output.push(chunk));
    // An interrupt is the child's to answer: it cleans up, and this process ends with its code.
    for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => child.kill(signal));
    child.on("error", (cause) => reject(new Error(`'${command}' can't be run: ${cause.message}`, { cause })));
    child.on("close", (code) => resolve(code ?? 1));
  });
}

/** Outside the checkout, which npm and git clean; one for each checkout. */
function lockFile() {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const checkout = createHash("sha256").update(REPOSITORY).digest("hex").slice(0, 12);
  return join(cache, "penguinmails-recovery", "locks", `npm-${checkout}`);
}
