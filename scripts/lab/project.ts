// The lab's Pulumi project: the repository's own programs, seen through links, beside the lab's own stack
// configuration, so that trying things out never edits a file of the repository.

import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { PLATFORM_STACK, tenantStack } from "../../stacks/names.ts";
import { run } from "./children.ts";
import type { LabTenant } from "./tenants.ts";

const NAMESPACE = "penguinmails-credential-recovery";

/** What a stack's configuration may hold; keys without the project's name. */
export type StackConfig = Record<string, unknown>;

/** Makes `project/`, `bin/`, `state/`, `pulumi-home/` and `passphrase` in the lab's folder. */
export async function makeProject(dir: string, repo: string): Promise<void> {
  const project = join(dir, "project");
  for (const name of ["state", "bin", "pulumi-home", "project/stacks"])
    await mkdir(join(dir, name), { recursive: true });
  await writeFile(join(dir, "passphrase"), randomBytes(24).toString("base64url"), { mode: 0o600 });
  await symlink(join(repo, "runbooks", "main.ts"), join(dir, "bin", "runbook"));
  for (const name of ["Pulumi.yaml", "package.json", "node_modules", "runbooks"]) {
    await symlink(join(repo, name), join(project, name));
  }
  for (const name of await readdir(join(repo, "stacks"))) {
    if (/^Pulumi\..+\.yaml$/.test(name)) continue;
    await symlink(join(repo, "stacks", name), join(project, "stacks", name));
  }
}

/** Makes an empty stack; its configuration comes later. */
export const makeStack = (dir: string, env: NodeJS.ProcessEnv, stack: string): Promise<string> =>
  pulumi(dir, env, ["stack", "init", stack]);

/** Writes an empty stack's configuration beside the salt that Pulumi keeps in the same file. */
export async function configureStack(dir: string, stack: string, config: StackConfig): Promise<void> {
  const file = join(dir, "project", "stacks", `Pulumi.${stack}.yaml`);
  const entries = Object.entries(config).map(([key, value]) => [`${NAMESPACE}:${key}`, value]);
  const made: unknown = parse(await readFile(file, "utf8"));
  await writeFile(file, stringify({ ...Object(made), config: Object.fromEntries(entries) }));
}

/** moto's account. */
const ACCOUNT = "123456789012";
/** Whoever reaches a lab does so over the loopback. */
const EVERYONE = ["127.0.0.0/8"];

export const platformConfig = (dir: string, tenants: LabTenant[]): StackConfig => ({
  tenants: tenants.map((tenant) => tenant.id),
  awsAccountId: ACCOUNT,
  operationsNetworks: EVERYONE,
  auditFile: join(dir, "vault", "audit.log"),
});

/** Where a tenant is to be: what an operator looks up in his cloud account before he writes the configuration. */
export interface TenantPlace {
  /** Route 53 hosted zone of the domain. */
  zoneId: string;
  /** EC2 image, for `provider: ec2`. */
  ami: string;
  /** One line, as in authorized_keys. */
  sshPublicKey: string;
  /** The host's address, for `provider: existing`. */
  address: string | undefined;
}

export function tenantConfig(tenant: LabTenant, place: TenantPlace): StackConfig {
  const provider =
    tenant.provider === "ec2"
      ? { ec2: { ami: place.ami, availabilityZone: "us-east-1a", sshPublicKeys: [place.sshPublicKey] } }
      : { existing: { address: place.address } };
  return {
    domain: tenant.domain,
    contactEmail: tenant.contactEmail,
    provider: tenant.provider,
    ...provider,
    sshFrom: EVERYONE,
    exemptNetworks: EVERYONE,
    dns: { provider: "route53", zoneId: place.zoneId },
  };
}

/** Runs `pulumi` on a stack of the lab; its output is also kept in `logs/`. Throws with its last lines if it fails. */
export async function pulumi(
  dir: string,
  env: NodeJS.ProcessEnv,
  args: string[],
  signal?: AbortSignal,
): Promise<string> {
  const done = await run("pulumi", [...args, "--non-interactive", "--color", "never"], {
    env,
    lab: dir,
    ...(signal === undefined ? {} : { signal }),
  });
  const name = args.filter((word) => !word.startsWith("-")).join("-");
  await writeFile(join(dir, "logs", `pulumi-${name}.log`), done.stdout + done.stderr, { flag: "a" });
  if (done.code !== 0) {
    const words = `${done.stdout}\n${done.stderr}`.trim().split("\n").slice(-25).join("\n");
    throw new Error(`\`pulumi ${args.join(" ")}\` failed with ${done.code}:\n${words}`);
  }
  return done.stdout;
}

export const UP = ["up", "--yes", "--skip-preview"];
export const upTenant = (tenant: LabTenant): string[] => [...UP, "--stack", tenantStack(tenant.id)];
export const upPlatform = (): string[] => [...UP, "--stack", PLATFORM_STACK];
