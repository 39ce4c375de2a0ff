// What an operator does once: the platform stack, then each tenant, onboarded and brought up.

import { join } from "node:path";
import { PLATFORM_STACK, tenantStack } from "../../stacks/names.ts";
import { REPOSITORY } from "../toolchain/paths.ts";
import { allOf } from "./all-of.ts";
import { run } from "./children.ts";
import { AMI, makeZone } from "./cloud.ts";
import type { Hypervisor } from "./hypervisor.ts";
import { writeAppRoles } from "./logins.ts";
import type { OpenLab } from "./place.ts";
import { configureStack, platformConfig, pulumi, tenantConfig, upPlatform, upTenant } from "./project.ts";
import type { LabTenant } from "./tenants.ts";

/** Does a part of the start, timed and told of by its title. */
export type Phase = <T>(title: string, work: () => Promise<T>) => Promise<T>;

/** The platform stack by root (no role exists before it), the rest by the person's token. Throws with the words of what failed. */
export async function provision(
  lab: OpenLab,
  hosts: Hypervisor,
  tenants: LabTenant[],
  sshPublicKey: string,
  phase: Phase,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { dir } = lab.place;
  await configureStack(dir, PLATFORM_STACK, platformConfig(dir, tenants));
  await allOf([
    phase("platform stack", () => pulumi(dir, lab.rootEnv, upPlatform(), signal)),
    ...tenants.map((tenant) => prepareTenant(lab, tenant, hosts, sshPublicKey)),
  ]);
  await allOf([
    writeAppRoles(dir, { addr: lab.place.vaultAddr, rootToken: lab.rootToken }),
    ...tenants.map(async (tenant) => {
      await phase(`${tenant.id} onboarded`, () => onboard(dir, tenant, lab.env));
      await phase(`${tenant.id} stack`, () => pulumi(dir, lab.env, upTenant(tenant), signal));
    }),
  ]);
}

/** Makes what a tenant's stack takes for granted: its DNS zone, its host (`provider: existing`), its configuration. */
async function prepareTenant(
  lab: OpenLab,
  tenant: LabTenant,
  hosts: Hypervisor,
  sshPublicKey: string,
): Promise<void> {
  const { dir, awsEndpoint } = lab.place;
  const [zoneId, host] = await allOf([
    makeZone(awsEndpoint, tenant.domain),
    tenant.provider === "existing" ? hosts.bootExisting(tenant.id) : Promise.resolve(undefined),
  ]);
  const config = tenantConfig(tenant, { zoneId, ami: AMI, sshPublicKey, address: host?.address });
  await configureStack(dir, tenantStack(tenant.id), config);
}

/** Runs `runbook onboard-tenant`. */
async function onboard(dir: string, tenant: LabTenant, env: NodeJS.ProcessEnv): Promise<void> {
  const runbook = [join(REPOSITORY, "runbooks", "main.ts"), "onboard-tenant", "--yes"];
  const flags = ["--tenant", tenant.id, "--domain", tenant.domain];
  const done = await run(process.execPath, [...runbook, ...flags], { env, lab: dir });
  if (done.code !== 0) {
    throw new Error(`onboard-tenant ${tenant.id} failed with ${done.code}:\n${done.stderr.trim()}`);
  }
}
