// Drift in what no engine looks at, as tests make it and look for it: by the roles that look in production.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { parse, stringify } from "yaml";
import { z } from "zod";
import type { Finished } from "../../scripts/lab/children.ts";
import { type LabTenant, TENANTS } from "../../scripts/lab/tenants.ts";
import { appRole } from "../../scripts/lab/vault.ts";
import { tenantStack } from "../../stacks/names.ts";
import { lab, program, runbook } from "./lab.ts";
import { credentialOf } from "./resets.ts";

const Row = z.object({
  id: z.string(),
  check: z.string(),
  kind: z.string(),
  about: z.string(),
  which: z.string(),
  what: z.string(),
  declared: z.string().optional(),
  found: z.string().optional(),
  mend: z.string(),
});
export type Row = z.output<typeof Row>;
const Report = z.object({
  findings: z.array(Row),
  unchecked: z.array(z.object({ check: z.string(), about: z.string(), why: z.string(), next: z.string() })),
});

export interface Looked extends z.output<typeof Report> {
  done: Finished;
}

const ROLE = { credentials: "credential-prober", host: "credential-prober", dns: "drift-reader" } as const;
type Check = keyof typeof ROLE;

const logins = new Map<string, Promise<Record<string, string | undefined>>>();

/** The variables of an AppRole of automation, in place of the person's token. */
function loginOf(role: string): Promise<Record<string, string | undefined>> {
  const made = logins.get(role) ?? logIn(role);
  logins.set(role, made);
  return made;
}

async function logIn(role: string): Promise<Record<string, string | undefined>> {
  const { roleId, secretId } = await appRole({ addr: lab.place.vaultAddr, rootToken: lab.rootToken }, role);
  return { VAULT_TOKEN: undefined, VAULT_ROLE_ID: roleId, VAULT_SECRET_ID: secretId };
}

/** Looks by `check` at one tenant, or at all; no tenant's password may be in what is said. */
export async function look(
  check: Check,
  tenant?: LabTenant,
  env: Record<string, string | undefined> = {},
): Promise<Looked> {
  const stack = tenant === undefined ? [] : ["--stack", tenantStack(tenant.id)];
  const login = await loginOf(ROLE[check]);
  const done = await runbook(["check-drift", "--only", check, ...stack, "--json"], {
    env: { ...login, ...env },
  });
  for (const one of TENANTS) {
    const { password } = await credentialOf(one).catch(() => ({ password: "" }));
    if (password !== "") expect(done.stdout + done.stderr).not.toContain(password);
  }
  return { ...Report.parse(JSON.parse(done.stdout)), done };
}

/** Exactly this is found, nothing else, and all was looked at. */
export function expectOnly(looked: Looked, id: string): Row {
  expect(looked.unchecked, looked.done.stderr).toEqual([]);
  expect(looked.findings.map((one) => one.id)).toEqual([id]);
  expect(looked.done.code).toBe(7);
  const [row] = looked.findings;
  if (row === undefined) throw new Error("unreachable");
  return row;
}

/** Nothing is found, and all was looked at. */
export function expectNone(looked: Looked): void {
  expect([looked.findings, looked.unchecked], looked.done.stderr).toEqual([[], []]);
  expect(looked.done.code).toBe(0);
}

/** Types a finding's own command into a shell, as a person who says yes to what it asks. */
export async function mend({ mend: command }: Row): Promise<void> {
  const said = command
    .replaceAll("npx runbook", "runbook")
    .replace(/runbook [a-z-]+/g, "$& --yes")
    .replaceAll("pulumi up", "pulumi up --yes --skip-preview");
  const trust = ["-o StrictHostKeyChecking=no", "-o UserKnownHostsFile=/dev/null", "-o LogLevel=ERROR"];
  const done = await program("bash", ["-c", said.replaceAll(/\bssh (?=root@)/g, `ssh ${trust.join(" ")} `)]);
  expect(done.code, `${said}\n${done.stdout}${done.stderr}`).toBe(0);
}

/** The lab's settings with another `dns` section; resolves to the variable that names the file. */
export async function withDns(name: string, dns: Record<string, unknown>): Promise<Record<string, string>> {
  const settings: unknown = parse(await readFile(join(lab.place.dir, "recovery.yaml"), "utf8"));
  const file = join(lab.place.dir, `recovery-${name}.yaml`);
  await writeFile(file, stringify({ ...Object(settings), dns }));
  return { RECOVERY_CONFIG: file };
}
