#!/usr/bin/env node
// `npx runbook`: finds the runbook, passes it the signals and exits. Nothing else in runbooks/ exits a process.
import { enableCompileCache } from "node:module";
import type { Runbook } from "./lib/runbook.ts";

enableCompileCache();

/** Kept here so that the list needs no import: each runbook loads its own libraries only. */
export const RUNBOOKS: Record<string, string> = {
  "onboard-tenant": "creates a tenant's first credentials and keys, encrypted in Vault",
  "recover-credentials":
    "puts a tenant's credentials from Vault back onto its mail host and proves the login",
  "save-host-state": "saves a mail host's certificate into Vault, encrypted",
  "replace-vps": "replaces a tenant's failed VPS, proves the login and times it against the RTO",
  audit: "shows, checks and completes the audit log",
};

if (import.meta.main) process.exit(await main(process.argv.slice(2)));

async function main([name, ...rest]: string[]): Promise<number> {
  if (name === undefined || name === "--help" || name === "-h" || name === "help") return list();
  const summary = RUNBOOKS[name];
  if (summary === undefined) return unknown(name);
  // Somebody who closes a pipe or a terminal doesn't mean to stop a repair halfway.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
  const { startRunbook } = await import("./lib/runbook.ts");
  const { default: runbook } = (await import(`./${name}.ts`)) as { default: Runbook };
  const execution = startRunbook(runbook, rest, process);
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

async function unknown(name: string): Promise<number> {
  const { nearest } = await import("./lib/flags.ts");
  const meant = nearest(name, Object.keys(RUNBOOKS));
  process.stderr.write(`error: there is no runbook '${name}'${meant ? `: did you mean ${meant}?` : ""}\n`);
  process.stderr.write("next:  npx runbook\n");
  return 2;
}
