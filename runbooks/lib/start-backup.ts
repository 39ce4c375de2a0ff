// After a response the passwords in the last backup are old ones: a new backup shortens what a loss of Vault costs.
import { $ } from "zx/core";
import { redact } from "./redact.ts";
import type { Run } from "./runbook.ts";
import type { Settings } from "./settings.ts";

/** Starts the backup that the settings name, if any. Returns what went wrong, in a sentence; undefined: nothing. */
export async function startBackup(
  run: Pick<Run<unknown>, "change" | "env">,
  settings: Settings,
): Promise<string | undefined> {
  const command = settings.backup.after_response;
  if (command === undefined) return undefined;
  const result = await run.change(
    `start a backup of Vault: ${command.join(" ")}`,
    () => $({ env: run.env, quiet: true, nothrow: true, stdio: ["ignore", "pipe", "pipe"] })`${command}`,
  );
  if (result === undefined || result.exitCode === 0) return undefined;
  const said = redact(result.stderr.trim().split("\n").at(-1) ?? "");
  return `no backup was started: '${command.join(" ")}' ended with ${result.exitCode} (${said})`;
}
