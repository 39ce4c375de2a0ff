// What only the host has and a rebuild needs: its certificate, kept encrypted in Vault.
import type { TenantId } from "../../stacks/names.ts";
import type { Certificate } from "./mail-host.ts";
import { Tls } from "./records.ts";
import { notAfter } from "./tls-trust.ts";
import { seal } from "./transit.ts";
import type { Vault } from "./vault.ts";

/** Stores the certificate unless Vault has this very one; returns whether it wrote. */
export async function saveCertificate(vault: Vault, tenant: TenantId, found: Certificate): Promise<boolean> {
  return vault.updateRecord(tenant, "tls", Tls, async (stored) => {
    if (stored?.data.certificate === found.certificate) return undefined;
    return {
      ...stored?.data,
      certificate: found.certificate,
      private_key: await seal(vault, tenant, found.privateKey),
      not_after: notAfter(found.certificate),
    };
  });
}
