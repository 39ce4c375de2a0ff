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

/** Runs `runbook ARGS --yes --json`, as the lab's person unless told otherwise. Throws its words unless it ends with 0. */
export async function runbook(lab: Lab, args: string[], login: Login = {}): Promise<void> {
  const env = { ...lab.env, ...login };
  const done = await run("runbook", [...args, "--yes", "--json"], { env, lab: lab.dir });
  if (done.code === 0) return;
  throw new Error(`\`runbook ${args.join(" ")}\` ended with ${done.code}:\n${done.stderr.trim()}`);
}
