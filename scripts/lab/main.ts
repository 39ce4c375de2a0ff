// `npm run lab`: starts a lab in the background and returns when it's ready; the words after `--` ask things of it.

import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { z } from "zod";
import { recordPath, tenantId, tenantStack } from "../../stacks/names.ts";
import { REPOSITORY } from "../toolchain/paths.ts";
import { sweep } from "./children.ts";
import { order, WAYS_TO_DIE, type WayToDie } from "./control.ts";
import type { Report } from "./daemon.ts";
import { shellExports, withoutForeign } from "./environment.ts";
import { holderOf } from "./folder.ts";
import { renewLogins } from "./logins.ts";
import { isReady, openLab } from "./place.ts";
import { vaultCall } from "./vault.ts";

const USAGE = `Usage: npm run lab -- [WORD] [--dir FOLDER]

  (no word)            start a lab in the background, with two tenants: acme (EC2) and globex (its own host)
  env                  print shell exports: eval "$(npm run -s lab -- env)"
  status               what runs, and where
  kill-vps TENANT      lose a tenant's VPS
      --how HOW        terminated: the cloud knows (default) · dead: processes and disk are gone, the cloud
                       still lists it · hung: it accepts TCP and never answers
      --keep-data      the data volume survives
  new-host NAME        boot another host that no cloud knows, with an empty disk, and print its address
      --address IP     there, instead of at a new address: a dead host installed again
  lose-vault           destroy Vault's process and data; an empty Vault starts at the same address
  restart-vault        end Vault's process and start it on the same data: it comes back sealed
  new-logins           new tokens for people and secret ids for automation, as after a restore
  down                 end the lab and remove its folder

  --bare               when starting: servers only, nothing provisioned, for a first \`pulumi up\` by hand
  --dir FOLDER         the lab's folder (default: .lab in the repository)
`;

const HOW_TO_USE = `
  eval "$(npm run -s lab -- env)"      use it in this shell: runbook, pulumi and vault then work on the lab
  npm run lab -- status                what runs, and where
  npm run lab -- kill-vps acme         lose a VPS; then: pulumi up --stack tenant-acme
  npm run lab -- down                  end it
`;

const Server = z.object({ data: z.object({ data: z.object({ vps_ip: z.string() }) }) });

class UsageError extends Error {}

const WORDS: Record<string, (dir: string, rest: string[], flags: Flags) => Promise<void>> = {
  env: printEnvironment,
  status: printStatus,
  "kill-vps": killVps,
  "new-host": newHost,
  "lose-vault": loseVault,
  "restart-vault": restartVault,
  "new-logins": newLogins,
  down,
};

interface Flags {
  address: string | undefined;
  how: WayToDie;
  keepData: boolean;
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  if (error instanceof UsageError) process.stderr.write(`\n${USAGE}`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}

async function main(args: string[]): Promise<void> {
  const { values, positionals } = parse(args);
  if (values.help === true) {
    process.stdout.write(USAGE);
    return;
  }
  const dir = resolve(values.dir ?? join(REPOSITORY, ".lab"));
  const [word, ...rest] = positionals;
  const how = values.how ?? "terminated";
  if (!isWay(how)) throw new UsageError(`--how is '${how}': it takes ${WAYS_TO_DIE.join(", ")}`);
  if (word !== "kill-vps" && (values.how !== undefined || values["keep-data"] !== undefined)) {
    throw new UsageError("--how and --keep-data belong to kill-vps");
  }
  if (word !== undefined && values.bare !== undefined)
    throw new UsageError("--bare belongs to starting a lab");
  if (word !== "new-host" && values.address !== undefined)
    throw new UsageError("--address belongs to new-host");
  if (word === undefined) return up(dir, values.bare === true);
  const act = Object.hasOwn(WORDS, word) ? WORDS[word] : undefined;
  if (act === undefined) throw new UsageError(`'${word}' is nothing that a lab can do`);
  const wanted = word === "kill-vps" || word === "new-host" ? 1 : 0;
  if (rest.length !== wanted) {
    throw new UsageError(
      wanted === 1 ? `${word} takes one name` : `${word} takes nothing else, but got ${rest.join(" ")}`,
    );
  }
  await act(dir, rest, { address: values.address, how, keepData: values["keep-data"] === true });
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        dir: { type: "string" },
        how: { type: "string" },
        "keep-data": { type: "boolean" },
        address: { type: "string" },
        bare: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message.split(". ")[0] : String(cause), { cause });
  }
}

function isWay(text: string): text is WayToDie {
  return (WAYS_TO_DIE as readonly string[]).includes(text);
}

async function up(dir: string, bare: boolean): Promise<void> {
  const running = await holderOf(dir);
  if (running !== undefined) {
    const state = (await isReady(dir)) ? "already running" : "already being started";
    process.stdout.write(`A lab is ${state} in ${dir} (process ${running.pid}).\n${HOW_TO_USE}`);
    return;
  }
  process.stderr.write(`Starting a lab in ${dir}\n`);
  const begin = performance.now();
  const report = await startDaemon(dir, bare);
  if (report.kind === "running") throw new Error(report.message);
  if (report.kind === "failed") {
    throw new Error(`The lab didn't start: ${report.message}\nIts logs are in ${join(dir, "logs")}`);
  }
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  process.stdout.write(`The lab is up after ${seconds} s.\n${HOW_TO_USE}`);
}

/** Starts the daemon and follows it until the lab is ready or has failed. Ctrl-C on the way ends it. */
async function startDaemon(dir: string, bare: boolean): Promise<Report> {
  const scratch = mkdtempSync(join(tmpdir(), "lab-start-"));
  const errors = openSync(join(scratch, "errors"), "w", 0o600);
  const daemon = spawn(
    process.execPath,
    [join(import.meta.dirname, "daemon.ts"), dir, ...(bare ? ["bare"] : [])],
    {
      cwd: REPOSITORY,
      detached: true,
      env: withoutForeign(process.env),
      stdio: ["ignore", errors, errors, "ipc"],
    },
  );
  closeSync(errors);
  const interrupted = (): void => void daemon.kill("SIGTERM");
  process.on("SIGINT", interrupted);
  process.on("SIGTERM", interrupted);
  try {
    return await new Promise<Report>((done) => {
      daemon.on("message", (message) => {
        const report = message as Report;
        if (report.kind === "progress") process.stderr.write(`  ${report.line}\n`);
        else done(report);
      });
      daemon.on("exit", (code, signal) =>
        done({ kind: "failed", message: `it ended with ${signal ?? code}` }),
      );
    });
  } finally {
    process.off("SIGINT", interrupted);
    process.off("SIGTERM", interrupted);
    if (daemon.connected) daemon.disconnect();
    daemon.unref();
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function printEnvironment(dir: string): Promise<void> {
  if (!(await isReady(dir)) || (await holderOf(dir)) === undefined) {
    throw new Error(`No lab is up in ${dir}: run \`npm run lab\``);
  }
  const lab = await openLab(dir);
  process.stdout.write(`${shellExports(lab.place, lab.variables, process.env)}\n`);
}

async function printStatus(dir: string): Promise<void> {
  const holder = await holderOf(dir);
  if (holder === undefined) throw new Error(`No lab is running in ${dir}: run \`npm run lab\``);
  const ready = await isReady(dir);
  process.stdout.write(`Lab in ${dir}: ${ready ? "up" : "starting"} (process ${holder.pid})\n`);
  if (!ready) return;
  const lab = await openLab(dir);
  process.stdout.write(`  Vault  ${lab.place.vaultAddr}\n  AWS    ${lab.place.awsEndpoint}\n`);
  process.stdout.write(`  told   ${join(dir, "notices")} (mails and webhooks received)\n`);
  for (const host of (await order(dir, { order: "status" })).hosts) {
    const state = host.alive ? `process ${host.pid}` : "dead";
    process.stdout.write(`  host   ${host.address}  ${host.name} (${host.id}, ${state})\n`);
  }
}

async function killVps(dir: string, [name = ""]: string[], flags: Flags): Promise<void> {
  const tenant = tenantId(name);
  const lab = await openLab(dir);
  const record = await vaultCall(
    lab.place.vaultAddr,
    lab.rootToken,
    "GET",
    recordPath(tenant, "server"),
  ).catch((cause) => {
    throw new Error(`No host of ${tenant} is known: smtp/${tenant}/server can't be read`, { cause });
  });
  const address = Server.parse(record).data.data.vps_ip;
  const { hosts } = await order(dir, { order: "status" });
  const inCloud = hosts.some((host) => host.address === address && host.id.startsWith("i-"));
  await order(dir, { order: "kill", address, how: flags.how, keepData: flags.keepData });
  process.stdout.write(`${tenant}'s VPS at ${address} is ${flags.how === "hung" ? "hung" : "gone"}.\n`);
  if (!inCloud && flags.how !== "hung") {
    process.stdout.write(
      `Install the machine again: npm run lab -- new-host ${tenant} --address ${address}\n`,
    );
  }
  const next =
    inCloud && flags.how === "terminated"
      ? `pulumi up --stack ${tenantStack(tenant)}`
      : `npx runbook replace-vps --tenant ${tenant}`;
  process.stdout.write(`Bring it back: ${next}\n`);
}

async function newHost(dir: string, [name = ""]: string[], { address }: Flags): Promise<void> {
  const { hosts } = await order(dir, { order: "boot", name, address });
  for (const host of hosts) process.stdout.write(`${host.address}\n`);
}

async function loseVault(dir: string): Promise<void> {
  await order(dir, { order: "vault", how: "lost" });
  process.stdout.write(
    `Vault is lost; an empty one is at its address. Bring it back: npx runbook restore-vault --date latest < ${join(dir, "unseal-keys")}\n`,
  );
}

async function restartVault(dir: string): Promise<void> {
  await order(dir, { order: "vault", how: "restarted" });
  process.stdout.write("Vault was restarted, and is sealed.\n");
}

async function newLogins(dir: string): Promise<void> {
  await renewLogins(dir);
  process.stdout.write('New logins are there: eval "$(npm run -s lab -- env)"\n');
}

async function down(dir: string): Promise<void> {
  const holder = await holderOf(dir);
  if (holder === undefined) {
    process.stdout.write(`No lab is running in ${dir}.\n`);
    return;
  }
  process.kill(holder.pid, "SIGTERM");
  for (let tries = 0; tries < 300 && (await holderOf(dir)) !== undefined; tries++) await sleep(50);
  if ((await holderOf(dir)) !== undefined) {
    // Everything that it started dies with it.
    process.kill(holder.pid, "SIGKILL");
    await sweep(dir);
  }
  process.stdout.write(`The lab in ${dir} has ended.\n`);
}
