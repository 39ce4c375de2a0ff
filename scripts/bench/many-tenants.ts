// Hundreds of tenants as Vault keeps them, written by root at once: no host is behind them, so what their records name
// are the benchmark's own servers.
import { createPublicKey, randomBytes } from "node:crypto";
import { inParallel } from "../../runbooks/lib/parallel.ts";
import {
  adminAddress,
  apiUrl,
  IMAP_PORT,
  metadataPath,
  RECORDS,
  recordPath,
  SMTP_PORT,
  type TenantId,
  TRANSIT_MOUNT,
  tenantId,
  transitKey,
  webmailUrl,
} from "../../stacks/names.ts";
import { vaultCall } from "../lab/vault.ts";
import type { Account } from "./slow-http.ts";

export interface BenchTenant extends Account {
  readonly id: TenantId;
  readonly domain: string;
  readonly address: string;
}

/** Vault bears more at a time, but the machine has other things to do. */
const AT_ONCE = 16;

/**
 * Writes `count` tenants, spread over the hosts, which all show the same certificate and ssh key; `last` is the last one's
 * alone.
 */
export function writeTenants(
  vault: { addr: string; token: string },
  count: number,
  hosts: {
    addresses: readonly string[];
    last: string | undefined;
    hostKey: string;
    certificate: string;
    privateKey: string;
  },
): Promise<BenchTenant[]> {
  const shared = (number: number): string => hosts.addresses[number % hosts.addresses.length] ?? "";
  return inParallel([...Array(count).keys()], AT_ONCE, async (number) => {
    const id = tenantId(`bench-${String(number + 1).padStart(4, "0")}`);
    const domain = `${id}.example`;
    const tenant: BenchTenant = {
      id,
      domain,
      address: (number === count - 1 ? hosts.last : undefined) ?? shared(number),
      email: adminAddress(domain),
      token: randomBytes(32).toString("base64url"),
      password: randomBytes(48).toString("base64"),
    };
    await write(vault, tenant, hosts);
    return tenant;
  });
}

async function write(
  vault: { addr: string; token: string },
  { id, domain, address, email, token, password }: BenchTenant,
  { hostKey, certificate, privateKey }: { hostKey: string; certificate: string; privateKey: string },
): Promise<void> {
  const ask = (path: string, body: unknown) => vaultCall(vault.addr, vault.token, "POST", path, body);
  await ask(`${TRANSIT_MOUNT}/keys/${transitKey(id)}`, { type: "aes256-gcm96" });
  const batch_input = [password, token, privateKey].map((text) => ({
    plaintext: Buffer.from(text).toString("base64"),
  }));
  const sealed = (await ask(`${TRANSIT_MOUNT}/encrypt/${transitKey(id)}`, { batch_input })) as {
    data: { batch_results: { ciphertext: string }[] };
  };
  const [sealedPassword, sealedToken, sealedKey] = sealed.data.batch_results.map((one) => one.ciphertext);
  const now = new Date().toISOString();
  const mail = { smtp_host: address, smtp_port: SMTP_PORT, imap_host: address, imap_port: IMAP_PORT };
  const contact_email = `${id}@people.example`;
  const records = {
    server: { vps_ip: address, api_url: apiUrl(address), ...mail, domain, contact_email, host_key: hostKey },
    mailu: { api_token: sealedToken, sanctioned_app_tokens: [] },
    dkim: { selector: "dkim", private_key: sealedKey, dns_txt: `v=DKIM1; p=${publicHalf(privateKey)}` },
    tls: { certificate, private_key: sealedKey, not_after: now },
    // The last one: it makes a tenant.
    admin: { username: email, password: sealedPassword, webmail_url: webmailUrl(domain), last_rotated: now },
  };
  for (const name of ["server", "mailu", "dkim", "tls", "admin"] as const)
    await ask(recordPath(id, name), { data: records[name], options: { cas: 0 } });
}

/** The public half of a private key in PEM: DER in base64. */
export const publicHalf = (key: string): string =>
  createPublicKey(key).export({ type: "spki", format: "der" }).toString("base64");

/** Removes what `writeTenants` wrote; what isn't there is fine. */
export async function removeTenants(
  vault: { addr: string; token: string },
  ids: readonly TenantId[],
): Promise<void> {
  const ask = (method: string, path: string, body?: unknown) =>
    vaultCall(vault.addr, vault.token, method, path, body);
  await inParallel(ids, AT_ONCE, async (id) => {
    for (const record of RECORDS) await ask("DELETE", metadataPath(id, record));
    const key = `${TRANSIT_MOUNT}/keys/${transitKey(id)}`;
    await ask("POST", `${key}/config`, { deletion_allowed: true }).catch(() => {});
    await ask("DELETE", key).catch(() => {});
  });
}
