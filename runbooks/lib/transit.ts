// A tenant's Transit key: seal and open, and the key's own life. One AES-256-GCM key per tenant.
import { z } from "zod";
import { type TenantId, TRANSIT_MOUNT, transitKey } from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import { registerSecret } from "./redact.ts";
import type { Vault } from "./vault.ts";
import { statusOf } from "./vault-error.ts";

/** Vault knows the ciphertext to be of no use: it is damaged, or its key version is retired or gone. */
export class Undecryptable extends RunbookError {}

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
 * @throws Undecryptable (failed, 1) where trying again is of no use.
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
    const Failure = statusOf(error.cause) === 400 ? Undecryptable : RunbookError;
    throw new Failure(`${what} can't be decrypted: ${error.message}`, {
      exit: "failed",
      next: `vault read ${TRANSIT_MOUNT}/keys/${transitKey(tenant)}   # is the key there, and its min_decryption_version not above the ciphertext's?`,
      cause: error,
    });
  }
  const plaintext = Buffer.from(answer.data.plaintext, "base64").toString("utf8");
  registerSecret(plaintext);
  return plaintext;
}

/** The plaintexts of several ciphertexts in one request, registered for redaction. Throws as soon as one has none. */
export async function openTogether(
  vault: Vault,
  tenant: TenantId,
  ciphertexts: readonly string[],
): Promise<string[]> {
  const batch_input = ciphertexts.map((ciphertext) => ({ ciphertext }));
  const path = `${TRANSIT_MOUNT}/decrypt/${transitKey(tenant)}`;
  const { data } = await vault.write(path, { batch_input }, DecryptedTogether);
  return data.batch_results.map(({ plaintext }) => {
    const text = Buffer.from(plaintext, "base64").toString("utf8");
    registerSecret(text);
    return text;
  });
}

/**
 * Re-encrypts a ciphertext under the newest version of the tenant's key; the plaintext never leaves Vault.
 * @param what names the field in the error, e.g. `smtp/acme/dkim private_key`.
 */
export async function rewrap(
  vault: Vault,
  tenant: TenantId,
  ciphertext: string,
  what: string,
): Promise<string> {
  try {
    return (await vault.write(`${TRANSIT_MOUNT}/rewrap/${transitKey(tenant)}`, { ciphertext }, Encrypted))
      .data.ciphertext;
  } catch (error) {
    if (!(error instanceof RunbookError) || error.exitCode !== 1) throw error;
    throw new RunbookError(`${what} can't be rewrapped: ${error.message}`, {
      exit: "failed",
      next: error.next,
      cause: error,
    });
  }
}

/** Which of the ciphertexts Vault can't decrypt, each with its reason; asked at once, without seeing a plaintext. */
export async function undecryptable(
  vault: Vault,
  tenant: TenantId,
  ciphertexts: readonly string[],
): Promise<{ ciphertext: string; why: string }[]> {
  const batch_input = ciphertexts.map((ciphertext) => ({ ciphertext }));
  const { data } = await vault.write(
    `${TRANSIT_MOUNT}/rewrap/${transitKey(tenant)}`,
    { batch_input },
    Rewrapped,
  );
  return ciphertexts.flatMap((ciphertext, index) => {
    const result = data.batch_results[index];
    if (result?.ciphertext) return [];
    return [{ ciphertext, why: result?.error || "Vault gave no answer to it" }];
  });
}

/** The version of the key that made this ciphertext. */
export const versionOf = (ciphertext: string): number => Number(ciphertext.split(":")[1]?.slice(1));

/** A tenant's key as Vault has it; 0 for a minimum that was never raised. */
export type TransitKey = z.output<typeof Key>["data"];

/** Undefined where there is no key. */
export async function readKey(vault: Vault, tenant: TenantId): Promise<TransitKey | undefined> {
  return (await vault.read(`${TRANSIT_MOUNT}/keys/${transitKey(tenant)}`, Key))?.data;
}

/** The newest version of the tenant's key; undefined where there is no key. */
export async function keyVersion(vault: Vault, tenant: TenantId): Promise<number | undefined> {
  return (await readKey(vault, tenant))?.latest_version;
}

/** Makes the tenant's key unless it is there; Vault leaves an existing one as it is. */
export async function createKey(vault: Vault, tenant: TenantId): Promise<void> {
  await vault.write(`${TRANSIT_MOUNT}/keys/${transitKey(tenant)}`, { type: "aes256-gcm96" }, z.unknown());
}

/** Adds a version to the tenant's key unless one newer than `ciphertext`'s exists, so that a rerun adds no second. */
export async function rotateKeyBeyond(vault: Vault, tenant: TenantId, ciphertext: string): Promise<void> {
  if (((await keyVersion(vault, tenant)) ?? 0) > versionOf(ciphertext)) return;
  await vault.write(`${TRANSIT_MOUNT}/keys/${transitKey(tenant)}/rotate`, {}, z.unknown());
}

/**
 * Vault decrypts and encrypts with nothing older than `version` from now on; whoever may do this may also undo it.
 * Both minimums in one call: from the second time on Vault refuses them one by one. Returns the key as it is then.
 */
export async function setMinimums(
  vault: Vault,
  tenant: TenantId,
  version: number,
): Promise<TransitKey | undefined> {
  const minimums = { min_decryption_version: version, min_encryption_version: version };
  const path = `${TRANSIT_MOUNT}/keys/${transitKey(tenant)}/config`;
  // Older Vaults answer without a body.
  const after = await vault.write(path, minimums, Key.optional().catch(undefined));
  return after?.data ?? readKey(vault, tenant);
}

/** Destroys the versions below `version` for good. */
export async function trimKey(vault: Vault, tenant: TenantId, version: number): Promise<void> {
  const body = { min_available_version: version };
  await vault.write(`${TRANSIT_MOUNT}/keys/${transitKey(tenant)}/trim`, body, z.unknown());
}

/** Destroys the key with all its versions. Takes the rights of a key-shredder; nothing to do where there is no key. */
export async function deleteKey(vault: Vault, tenant: TenantId): Promise<void> {
  if ((await readKey(vault, tenant)) === undefined) return;
  const path = `${TRANSIT_MOUNT}/keys/${transitKey(tenant)}`;
  await vault.write(`${path}/config`, { deletion_allowed: true }, z.unknown());
  await vault.remove(path);
}

const Encrypted = z.object({ data: z.object({ ciphertext: z.string() }) });
const Decrypted = z.object({ data: z.object({ plaintext: z.string() }) });
const DecryptedTogether = z.object({
  data: z.object({ batch_results: z.array(z.object({ plaintext: z.string() })) }),
});
const Rewrapped = z.object({
  data: z.object({
    batch_results: z.array(z.object({ ciphertext: z.string().optional(), error: z.string().optional() })),
  }),
});
const Key = z.object({
  data: z.object({
    latest_version: z.number().int(),
    min_decryption_version: z.number().int(),
    min_encryption_version: z.number().int(),
    min_available_version: z.number().int(),
    /** When each version that is there was made (seconds since 1970). */
    keys: z.record(z.string(), z.number()),
    type: z.string(),
    exportable: z.boolean(),
    allow_plaintext_backup: z.boolean(),
    deletion_allowed: z.boolean(),
  }),
});
