// More tenants than the lab's two, for what many at once must show: each on a host of its own, brought up by the same
// script and runbooks as any other, but without a Pulumi stack, which would take most of the time.
import { randomBytes } from "node:crypto";
import { order } from "../../scripts/lab/control.ts";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import {
  metadataPath,
  RECORDS,
  type TenantId,
  TRANSIT_MOUNT,
  tenantId,
  transitKey,
} from "../../stacks/names.ts";
import { hostFiles, installScript } from "../../stacks/tenant/install-script.ts";
import { addressOf, lab, program, runbook, vault } from "./lab.ts";

/** How many come up side by side: most of a tenant's time is spent in waiting for its own processes. */
const AT_ONCE = 4;

/**
 * Adds tenants, onboarded and recovered, each on a running host: as many as told under new names, or those named.
 * Take them away with `removeTenants`, or they are there for all later tests on this lab. Throws if one fails.
 */
export async function addTenants(wanted: number | readonly string[]): Promise<LabTenant[]> {
  const names =
    typeof wanted === "number"
      ? Array.from({ length: wanted }, () => `extra-${randomBytes(3).toString("hex")}`)
      : wanted;
  const tenants = names.map(
    (name): LabTenant => ({
      id: tenantId(name),
      domain: `${name}.example`,
      contactEmail: `${name}@people.example`,
      provider: "existing",
    }),
  );
  try {
    await several(tenants, add);
  } catch (error) {
    await removeTenants(tenants);
    throw error;
  }
  return tenants;
}

/** Takes tenants away that `addTenants` has made: their hosts, their records, their keys. Safe to repeat. */
export const removeTenants = (tenants: readonly LabTenant[]): Promise<void> => several(tenants, remove);

async function add(tenant: LabTenant): Promise<void> {
  const [{ address, hostKey }] = await Promise.all([boot(tenant), onboard(tenant)]);
  const host = ["--address", address, "--host-key", hostKey];
  const about = ["--domain", tenant.domain, "--contact-email", tenant.contactEmail];
  await must(runbook(["recover-credentials", "--tenant", tenant.id, ...about, ...host, "--yes"]));
}

/** Boots a host and puts Mailu's files on it, as the tenant's stack would. */
async function boot({ id, domain }: LabTenant) {
  const [host] = (await order(lab.place.dir, { order: "boot", name: id })).hosts;
  if (host === undefined) throw new Error(`No host was booted for ${id}`);
  const files = hostFiles({ domain, exemptNetworks: ["127.0.0.0/8"], submission: false, mtaSts: "testing" });
  const trust = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"];
  const options = trust.flatMap((option) => ["-o", option]);
  await must(
    program("ssh", [...options, `root@${host.address}`, "sh -s"], { input: installScript(files, undefined) }),
  );
  return host;
}

const onboard = ({ id, domain }: LabTenant): Promise<void> =>
  must(runbook(["onboard-tenant", "--tenant", id, "--domain", domain, "--yes"]));

async function remove({ id }: LabTenant): Promise<void> {
  const address = await addressOf(id).catch(() => undefined);
  if (address !== undefined)
    await order(lab.place.dir, { order: "kill", address, how: "dead", keepData: false }).catch(() => {});
  await removeFromVault(id);
}

/** All that Vault has of a tenant, its rotation record too. */
export async function removeFromVault(id: TenantId): Promise<void> {
  for (const record of RECORDS) await vault("DELETE", metadataPath(id, record));
  const key = `${TRANSIT_MOUNT}/keys/${transitKey(id)}`;
  // Both fail where the key is gone already.
  await vault("POST", `${key}/config`, { deletion_allowed: true }).catch(() => {});
  await vault("DELETE", key).catch(() => {});
}

async function must(running: ReturnType<typeof program>): Promise<void> {
  const done = await running;
  if (done.code !== 0) throw new Error(done.stderr);
}

async function several(
  tenants: readonly LabTenant[],
  act: (tenant: LabTenant) => Promise<void>,
): Promise<void> {
  const waiting = tenants.values();
  const work = async () => {
    for (const tenant of waiting) await act(tenant);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}
