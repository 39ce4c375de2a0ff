// Everything that Vault keeps for a tenant and a rebuild needs, read at once and decrypted at once.
import { KV_MOUNT, type RecordName, type TenantId } from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import type { HostSecrets } from "./mail-host.ts";
import { Admin, Dkim, Mailu, Server, Tls } from "./records.ts";
import { open } from "./transit.ts";
import type { Stored, Vault } from "./vault.ts";

/** A tenant's records; `tls` and `server` come into being with the first host. */
export interface TenantRecords {
  readonly admin: Stored<Admin>;
  readonly mailu: Stored<Mailu>;
  readonly dkim: Stored<Dkim>;
  readonly tls: Stored<Tls> | undefined;
  readonly server: Stored<Server> | undefined;
}

/** Throws usage (2) for a tenant whose records are not there, failed (1) for one that is damaged. */
export async function readTenant(vault: Vault, tenant: TenantId): Promise<TenantRecords> {
  const [admin, mailu, dkim, tls, server] = await Promise.all([
    vault.record(tenant, "admin", Admin),
    vault.record(tenant, "mailu", Mailu),
    vault.record(tenant, "dkim", Dkim),
    vault.record(tenant, "tls", Tls),
    vault.record(tenant, "server", Server),
  ]);
  if (admin !== undefined && mailu !== undefined && dkim !== undefined)
    return { admin, mailu, dkim, tls, server };
  const missing = ONBOARDED.filter((name) => ({ admin, mailu, dkim })[name] === undefined);
  await requireNotDeleted(vault, tenant, missing);
  throw new RunbookError(`Vault has no ${missing.join(", no ")} record for tenant ${tenant}`, {
    exit: "usage",
    next:
      missing.length === 3
        ? `vault kv list smtp   # is the id right? A new tenant: npx runbook onboard-tenant --tenant ${tenant} --domain …`
        : `npx runbook onboard-tenant --tenant ${tenant} --domain …   # completes what an interrupted onboarding left out`,
  });
}

/** Throws refused (4) for a record that somebody deleted and Vault still has: it is brought back, not made anew. */
export async function requireNotDeleted(
  vault: Vault,
  tenant: TenantId,
  names: readonly RecordName[],
): Promise<void> {
  for (const name of names) {
    const version = await vault.deletedVersion(tenant, name);
    if (version === undefined) continue;
    throw new RunbookError(`smtp/${tenant}/${name} was deleted from Vault, and can be brought back`, {
      exit: "refused",
      next: `vault kv undelete -mount=${KV_MOUNT} -versions=${version} ${tenant}/${name}   # then run this again`,
    });
  }
}

/** The records that onboarding makes; `admin` is what makes a tenant. */
export const ONBOARDED = ["admin", "mailu", "dkim"] as const;

/** Decrypts what a host gets, and tries the admin password too, so that it is known before anything changes. */
export async function decryptForHost(
  vault: Vault,
  tenant: TenantId,
  known: TenantRecords,
): Promise<Omit<HostSecrets, "domain">> {
  const at = (record: string): string => `smtp/${tenant}/${record}`;
  const [apiToken, dkimKey, tlsKey] = await Promise.all([
    open(vault, tenant, known.mailu.data.api_token, at("mailu api_token")),
    open(vault, tenant, known.dkim.data.private_key, at("dkim private_key")),
    known.tls === undefined
      ? undefined
      : open(vault, tenant, known.tls.data.private_key, at("tls private_key")),
    open(vault, tenant, known.admin.data.password, at("admin password")),
  ]);
  const certificate =
    known.tls === undefined || tlsKey === undefined
      ? undefined
      : { certificate: known.tls.data.certificate, privateKey: tlsKey };
  return { apiToken, dkimKey, certificate };
}
