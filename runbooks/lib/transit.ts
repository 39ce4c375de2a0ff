// A tenant's Transit key: seal and open, and the key's own life. One AES-256-GCM key per tenant.
import { z } from "zod";
import { type TenantId, TRANSIT_MOUNT, transitKey } from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import { registerSecret } from "./redact.ts";
import type { Vault } from "./vault.ts";

/** Encrypts `plaintext` (UTF-8) under the newest version of the tenant's key: `vault:vN:…`. */
export async function seal(vault: Vault, tenant: TenantId, plaintext: string): Promise<string> {
  registerSecret(plaintext);
  const body = { plaintext: Buffer.from(plaintext, "utf8").toString("base64") };
  return (await vault.write(`${TRANSIT_MOUNT}/encrypt/${transitKey(tenant)}`, body, Encrypted)).data
    .ciphertext;
}

/**
 * Decrypts what `seal` made; the plaintext is registered for redaction before it is returned.
 * @param what names the field in the error, e.g. `smtp/acme/admin password`.
 */
export async function open(
  vault: Vault,
  tenant: TenantId,
  ciphertext: string,
  what: string,
): Promise<string> {
  let answer: z.infer<typeof Decrypted>;
  try {
    answer = await vault.write(`${TRANSIT_MOUNT}/decrypt/${transitKey(tenant)}`, { ciphertext }, Decrypted);
  } catch (error) {
    if (!(error instanceof RunbookError) || error.exitCode !== 1) throw error;
    throw new RunbookError(`${what} can't be decrypted: ${error.message}`, {
      exit: "failed",
      next: `vault read ${TRANSIT_MOUNT}/keys/${transitKey(tenant)}   # is the key there, and its min_decryption_version not above the ciphertext's?`,
      cause: error,
    });
  }
  const plaintext = Buffer.from(answer.data.plaintext, "base64").toString("utf8");
  registerSecret(plaintext);
  return plaintext;
}

/** The newest version of the tenant's key; undefined where there is no key. */
export async function keyVersion(vault: Vault, tenant: TenantId): Promise<number | undefined> {
  return (await vault.read(`${TRANSIT_MOUNT}/keys/${transitKey(tenant)}`, Key))?.data.latest_version;
}

/** Makes the tenant's key unless it is there; Vault leaves an existing one as it is. */
export async function createKey(vault: Vault, tenant: TenantId): Promise<void> {
  await vault.write(`${TRANSIT_MOUNT}/keys/${transitKey(tenant)}`, { type: "aes256-gcm96" }, z.unknown());
}

/** Adds a version to the tenant's key unless one newer than `ciphertext`'s exists, so that a rerun adds no second. */
export async function rotateKeyBeyond(vault: Vault, tenant: TenantId, ciphertext: string): Promise<void> {
  const used = Number(ciphertext.split(":")[1]?.slice(1));
  if (((await keyVersion(vault, tenant)) ?? 0) > used) return;
  await vault.write(`${TRANSIT_MOUNT}/keys/${transitKey(tenant)}/rotate`, {}, z.unknown());
}

const Encrypted = z.object({ data: z.object({ ciphertext: z.string() }) });
const Decrypted = z.object({ data: z.object({ plaintext: z.string() }) });
const Key = z.object({ data: z.object({ latest_version: z.number().int() }) });
