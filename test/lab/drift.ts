// Drift as tests look for it: with the token that hosted CI gets, and nothing else in the environment that may more.
import { z } from "zod";
import { lab, runbook, vault } from "./lab.ts";

const Report = z.object({
  findings: z.array(
    z.looseObject({ id: z.string(), what: z.string(), mend: z.string(), declared: z.string().optional() }),
  ),
  unchecked: z.array(z.object({ check: z.string(), about: z.string(), why: z.string(), next: z.string() })),
});

export interface Checked {
  code: number;
  /** Ids of what was found, in order. */
  found: string[];
  unchecked: z.infer<typeof Report>["unchecked"];
  findings: z.infer<typeof Report>["findings"];
  stdout: string;
  stderr: string;
}

/** A token with just this role. */
export async function tokenOf(policy: string): Promise<string> {
  const made = await vault("POST", "auth/token/create", { policies: [policy], ttl: "2h" });
  return z.object({ auth: z.object({ client_token: z.string() }) }).parse(made).auth.client_token;
}

export const READER = { VAULT_TOKEN: await tokenOf("drift-reader") };

/** Runs `check-drift` as the drift-reader. */
export async function checkDrift(args: string[], env: Record<string, string> = {}): Promise<Checked> {
  const { code, stdout, stderr } = await runbook(["check-drift", "--json", ...args], {
    env: { ...READER, ...env },
  });
  if (stdout === "") throw new Error(stderr);
  const { findings = [], unchecked = [] } = Report.partial().parse(JSON.parse(stdout));
  return { code, found: findings.map(({ id }) => id), findings, unchecked, stdout, stderr };
}

/** Where recovery.yaml is another one. */
export const settingsFile = (name: string): string => `${lab.place.dir}/recovery-${name}.yaml`;
