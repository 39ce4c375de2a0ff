// Runbooks as an operator, or automation, calls them.

import { run } from "../lab/children.ts";
import type { Lab } from "../lab/lab.ts";

/** Variables that win over the lab's own; undefined takes one away. */
type Login = Record<string, string | undefined>;

/** Automation's own login; a token in the environment would go before it. */
export const asSystem = (lab: Lab): Login => ({
  VAULT_TOKEN: undefined,
  VAULT_ROLE_ID: lab.systemRoleId,
  VAULT_SECRET_ID: lab.systemSecretId,
});

/** The same of whoever makes backups and opens them. */
export const asBackup = (lab: Lab): Login => ({
  VAULT_TOKEN: undefined,
  VAULT_ROLE_ID: lab.backupRoleId,
  VAULT_SECRET_ID: lab.backupSecretId,
});

/**
 * Runs `runbook ARGS --yes --json`, as the lab's person unless told otherwise.
 * @param input what is piped to it. Throws its words unless it ends with 0.
 */
export async function runbook(lab: Lab, args: string[], login: Login = {}, input = ""): Promise<void> {
  const env = { ...lab.env, ...login };
  const done = await run("runbook", [...args, "--yes", "--json"], { env, lab: lab.dir, input });
  if (done.code === 0) return;
  throw new Error(`\`runbook ${args.join(" ")}\` ended with ${done.code}:\n${done.stderr.trim()}`);
}
