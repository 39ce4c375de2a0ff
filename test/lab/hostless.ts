// Tenants that have credentials and no host, for what happens in Vault alone: made by Vault's own API, which takes a
// tenth of the time of an onboarding.
import { afterAll } from "vitest";
import { ACME, type LabTenant } from "../../scripts/lab/tenants.ts";
import { type TenantId, TRANSIT_MOUNT, tenantId, transitKey } from "../../stacks/names.ts";
import { encrypt, writeRecord } from "./door.ts";
import { removeFromVault } from "./extra-tenants.ts";
import { vault } from "./lab.ts";

const made: TenantId[] = [];
// Others use this lab too: what is left half done here is nothing for them to finish, to back up or to restore.
afterAll(async () => {
  for (const id of made) await removeFromVault(id);
});

/** Its records are as onboarding makes them; the secrets in them are words. */
export async function hostless(id: string): Promise<LabTenant> {
  const tenant = { ...ACME, id: tenantId(id), domain: `${id}.example` };
  made.push(tenant.id);
  await vault("POST", `${TRANSIT_MOUNT}/keys/${transitKey(tenant.id)}`, { type: "aes256-gcm96" });
  const [password, api_token, private_key] = await Promise.all(
    ["the password", "the token", "the key of its mail"].map((secret) => encrypt(tenant, secret)),
  );
  await Promise.all([
    writeRecord(tenant, "admin", {
      username: `admin@${tenant.domain}`,
      password,
      webmail_url: `https://mail.${tenant.domain}/webmail`,
      last_rotated: new Date().toISOString(),
    }),
    writeRecord(tenant, "mailu", { api_token, sanctioned_app_tokens: [] }),
    writeRecord(tenant, "dkim", { selector: "dkim", private_key, dns_txt: "v=DKIM1; k=rsa; p=AAAA" }),
  ]);
  return tenant;
}
