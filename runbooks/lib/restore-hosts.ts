// Tenants that a restored Vault has wrong, or not at all: one that was sent away since is removed, one that was taken in
// since is taken in again from its host, one that was rebuilt since is found at its new host.
import { createPublicKey } from "node:crypto";
import { z } from "zod";
import {
  API_TOKEN_FILE,
  adminAddress,
  DKIM_SELECTOR,
  dkimKeyFile,
  metadataPath,
  type TenantId,
  webmailUrl,
} from "../../stacks/names.ts";
import { saveCertificate } from "./host-state.ts";
import { readCertificate } from "./mail-host.ts";
import { closeRotation, DELETED, reopenRotation } from "./offboarding.ts";
import { newPassword } from "./password.ts";
import { Mailu, Server } from "./records.ts";
import { registerSecret } from "./redact.ts";
import { type HostOutputs, hostOf, type Past } from "./restore-history.ts";
import { readRotation } from "./rotation-begin.ts";
import { recordServer, serverRecord } from "./server-record.ts";
import type { Settings } from "./settings.ts";
import { type HostAddress, onHost } from "./ssh.ts";
import { createKey, deleteKey, open, readKey, seal } from "./transit.ts";
import type { Vault } from "./vault.ts";

const leftOf = ({ records }: Past) => DELETED.filter((record) => records.includes(record));

/** Whether the backup brought anything back of a tenant that is gone. */
export const isBack = async (vault: Vault, past: Past): Promise<boolean> =>
  leftOf(past).length > 0 || (await readKey(vault, past.tenant)) !== undefined;

/** Takes all of it away, its key too. May be repeated. */
export async function removeAgain(vault: Vault, past: Past): Promise<void> {
  const { tenant } = past;
  const { stored } = await readRotation(vault, tenant);
  if (stored !== undefined) await closeRotation(vault, tenant, stored);
  for (const record of leftOf(past)) await vault.remove(metadataPath(tenant, record));
  await deleteKey(vault, tenant);
}

/**
 * Makes the records of a tenant that was onboarded since, from what its host has. The password that is in use there
 * can't be read anywhere: `admin`, written last, holds a new one that the server has yet to be given.
 */
export async function takeInAgain(
  vault: Vault,
  settings: Settings,
  tenant: TenantId,
  at: HostOutputs,
): Promise<void> {
  const { domain } = at;
  const host: HostAddress = { address: at.address, hostKey: at.hostKey };
  const [apiToken, dkimKey] = [
    await readSecret(settings, host, API_TOKEN_FILE),
    await readSecret(settings, host, dkimKeyFile(domain)),
  ];
  const certificate = await readCertificate(settings, host);
  await createKey(vault, tenant);
  await reopenRotation(vault, tenant);
  const spki = createPublicKey(dkimKey).export({ type: "spki", format: "der" }).toString("base64");
  await writeIfAbsent(vault, tenant, "dkim", async () => ({
    selector: DKIM_SELECTOR,
    private_key: await seal(vault, tenant, dkimKey),
    dns_txt: `v=DKIM1; k=rsa; p=${spki}`,
  }));
  await writeIfAbsent(vault, tenant, "mailu", async () => ({
    api_token: await seal(vault, tenant, apiToken),
    sanctioned_app_tokens: [],
  }));
  await saveCertificate(vault, tenant, certificate);
  await moveTo(vault, tenant, at);
  await writeIfAbsent(vault, tenant, "admin", async () => ({
    username: adminAddress(domain),
    password: await seal(vault, tenant, newPassword()),
    webmail_url: webmailUrl(domain),
    last_rotated: new Date().toISOString(),
  }));
}

/** Records where the stack says that the host is. */
export async function moveTo(vault: Vault, tenant: TenantId, at: HostOutputs): Promise<void> {
  const known = (await vault.record(tenant, "server", Server))?.data;
  const { address, hostKey, domain, contactEmail } = at;
  await recordServer(vault, tenant, serverRecord({ tenant, domain, contactEmail, address, hostKey }, known));
}

/**
 * Follows a rebuild that the backup doesn't know of: address and key from the stack, the certificate from the host.
 * Returns whether the record was another one.
 */
export async function followHost(vault: Vault, settings: Settings, tenant: TenantId): Promise<boolean> {
  const at = await hostOf(settings, tenant);
  const known = (await vault.record(tenant, "server", Server))?.data;
  if (at === undefined || known === undefined) return false;
  const moved = known.vps_ip !== at.address || known.host_key !== at.hostKey;
  const certificate = await readCertificate(settings, { address: at.address, hostKey: at.hostKey });
  if (moved) await moveTo(vault, tenant, at);
  return (await saveCertificate(vault, tenant, certificate)) || moved;
}

/** The API token that counts is the host's: Mailu reads it from there. Stores it where Vault has another. */
export async function followApiToken(vault: Vault, settings: Settings, tenant: TenantId): Promise<void> {
  const server = (await vault.record(tenant, "server", Server))?.data;
  const mailu = (await vault.record(tenant, "mailu", Mailu))?.data;
  if (server === undefined || mailu === undefined) return;
  const host = { address: server.vps_ip, hostKey: server.host_key };
  const token = await readSecret(settings, host, API_TOKEN_FILE);
  if ((await open(vault, tenant, mailu.api_token, `smtp/${tenant}/mailu api_token`)) === token) return;
  const api_token = await seal(vault, tenant, token);
  await vault.updateRecord(tenant, "mailu", Mailu, (stored) => ({ ...stored?.data, api_token }));
}

async function readSecret(settings: Settings, host: HostAddress, file: string): Promise<string> {
  const secret = await onHost(settings, host, `cat ${file}`);
  registerSecret(secret.trim());
  return file === API_TOKEN_FILE ? secret.trim() : secret;
}

async function writeIfAbsent(
  vault: Vault,
  tenant: TenantId,
  name: "admin" | "mailu" | "dkim",
  make: () => Promise<Record<string, unknown>>,
): Promise<void> {
  await vault.updateRecord(tenant, name, z.looseObject({}), (stored) =>
    stored === undefined ? make() : undefined,
  );
}
