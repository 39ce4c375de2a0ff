// Everything that Vault keeps for a tenant and a rebuild needs, read at once and decrypted at once.
import type { TenantId } from "../../stacks/names.ts";
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
  const missing = Object.entries({ admin, mailu, dkim }).flatMap(([name, record]) =>
    record === undefined ? [name] : [],
  );
  throw new RunbookError(`Vault has no ${missing.join(", no ")} record for tenant ${tenant}`, {
    exit: "usage",
    next:
      missing.length === 3
        ? `vault kv list smtp   # is the id right? A new tenant: npx runbook onboard-tenant --tenant ${tenant} --domain …`
        : `npx runbook onboard-tenant --tenant ${tenant} --domain …   # completes what an interrupted onboarding left out`,
  });
}

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
