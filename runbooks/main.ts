#!/usr/bin/env -S MALLOC_ARENA_MAX=1 node --max-semi-space-size=4
// `npx runbook`: finds the runbook, passes it the signals and exits. Nothing else in runbooks/ exits a process.
// glibc keeps freed memory for each thread apart: of a response for hundreds of tenants that was 40 MB of 200. And V8
// lets young garbage lie as long as the machine has memory; see also lib/many.ts.
import { enableCompileCache } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Runbook } from "./lib/runbook.ts";

// Not in the shared temporary folder, which is Node's default: whoever makes that first writes what we run.
enableCompileCache(
  join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "penguinmails-recovery", "node"),
);

/** Kept here so that the list needs no import: each runbook loads its own libraries only. */
export const RUNBOOKS: Record<string, string> = {
  contain: "shut a tenant's account on its host at once while Vault is down; a reset opens it again",
  "backup-keys": "make the offline recovery key of the backups, or try one on the newest backup",
  "backup-vault": "store a sealed snapshot of Vault and read it back",
  console: "serve the incident console: a web page that resets, responds and shows how everything stands",
  "check-drift":
    "compare clouds, Vault, credentials, hosts, DNS and backups with what is declared; changes nothing",
  "emergency-reset": "set a new password for a tenant's administrator at once and prove the old one dead",
  "list-backups": "show which backups of Vault there are, and which were opened and restored",
  "mark-compromised": "mark a version of a tenant's credential as known to strangers, without resetting it",
  "offboard-tenant": "take a tenant away for good: account, host, DNS, credentials, key",
  "onboard-tenant": "make a new tenant's first credentials and encrypt them into Vault",
  "respond-to-compromise": "rotate compromised credentials of one or many tenants and tell everybody",
  "prune-backups": "delete backups of Vault that the retention lets go, and what dead runs left",
  resume: "finish the rotations that dead runs left, and send the notices that wait",
  "recover-credentials":
    "give a rebuilt mail host its tenant's credentials back and prove them by logging in",
  "replace-vps": "replace a tenant's dead or hanging VPS and prove its login on the new one",
  "restore-vault": "restore a backup of Vault and bring it in line with the mail servers",
  "save-host-state": "save a mail host's certificate and its key into Vault, encrypted",
  status: "show on one screen how tenants, backups and drills stand, and what isn't finished",
  "shred-keys": "destroy old versions of tenants' keys, for good",
  "verify-backup":
    "open a backup of Vault, or restore it into a throwaway one, and see that all of it is as it was written",
  audit: "show, check and complete the audit log",
  notify: "show and deliver the notices that their receivers don't have yet",
};

// A library's deprecated call, such as zx's when it ends an ssh that took too long, is no news for whoever is in an incident.
process.noDeprecation = true;

if (import.meta.main) process.exit(await main(process.argv.slice(2)));

async function main([name, ...rest]: string[]): Promise<number> {
  if (name === undefined || name === "--help" || name === "-h" || name === "help") return list();
  if (!Object.hasOwn(RUNBOOKS, name)) return unknown(name);
  if (process.env.NODE_DEBUG) return refuseNodeDebug();
  // Libraries print their requests, tokens and all, for a DEBUG that names them; ours says only that it is on.
  if (process.env.DEBUG) process.env.DEBUG = "runbook";
  // A bash that zx starts where no shell is above it, as under a timer, takes the socket that it reads from for a login
  // from afar and reads ~/.bashrc first: what that prints would be taken for a host's answer, and it takes its time.
  if (!(Number(process.env.SHLVL) > 0)) process.env.SHLVL = "1";
  const { default: runbook } = (await import(new URL(`./${name}.ts`, import.meta.url).href)) as {
    default: Runbook;
  };
  return runInProcess(runbook, rest);
}

/** Runs a runbook as this process: its streams, its signals. Resolves with the exit code. */
export async function runInProcess(runbook: Runbook, argv: string[]): Promise<number> {
  const { startRunbook } = await import("./lib/runbook.ts");
  const { redact } = await import("./lib/redact.ts");
  const { Terminal } = await import("./lib/terminal.ts");
  // Somebody who closes a pipe or a terminal doesn't mean to stop a repair halfway.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
  process.on("uncaughtException", (error) => {
    const text = process.env.DEBUG ? (error.stack ?? String(error)) : String(error);
    process.stderr.write(`error: unexpected: ${redact(text)}\n`, () => process.exit(1));
  });
  const execution = startRunbook(runbook, argv, process.env, new Terminal(process));
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      const code = execution.interrupt();
      if (code !== undefined) process.exit(code);
    });
  }
  return execution.finished;
}

function list(): number {
  const width = Math.max(...Object.keys(RUNBOOKS).map((name) => name.length));
  const lines = Object.entries(RUNBOOKS).map(([name, summary]) => `  ${name.padEnd(width)}  ${summary}`);
  process.stdout.write(`Usage: npx runbook NAME [flags]; npx runbook NAME --help\n\n${lines.join("\n")}\n`);
  return 0;
}

/** Node has read the variable already, and prints past every redaction of ours. */
function refuseNodeDebug(): number {
  process.stderr.write("error: NODE_DEBUG is set: Node would print every request with the secrets in it\n");
  process.stderr.write("next:  unset NODE_DEBUG   # DEBUG=1 shows where a runbook fails\n");
  return 2;
}

async function unknown(name: string): Promise<number> {
  const { nearest } = await import("./lib/flags.ts");
  const meant = nearest(name, Object.keys(RUNBOOKS));
  process.stderr.write(`error: there is no runbook '${name}'${meant ? `: did you mean ${meant}?` : ""}\n`);
  process.stderr.write("next:  npx runbook\n");
  return 2;
}
