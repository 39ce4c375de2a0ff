// The keys that a backup is sealed to. Each has the name of its own content (a fingerprint) in the sealed file, so
// that a wrong one is told from a damaged file. A file is sealed to the key of automation and always to the offline
// recovery key, whose private half no server holds.
import { createHash, createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { messageOf, RunbookError } from "./errors.ts";
import { registerSecret } from "./redact.ts";
import { SealError } from "./sealed-message.ts";

export type Sdk = typeof import("@aws-crypto/client-node");
export type Keyring = InstanceType<Sdk["KeyringNode"]>;

export interface SealKey {
  /** For people. */
  readonly name: string;
  /** The provider's name in a sealed file. */
  readonly provider: string;
  /** The key's own name in a sealed file, as far as it's known before use: an alias of KMS is not. */
  readonly id: string;
  /** Whether this one opens what is sealed to the provider's key of that name. */
  opens(id: string): boolean;
  keyring(sdk: Sdk, use: "seal" | "open"): Promise<Keyring>;
}

/** Names in sealed files: changing one makes every older backup one of an unknown key. */
export const RECOVERY_PROVIDER = "penguinmails-recovery-key";
const AES_PROVIDER = "penguinmails-backup-key";
const KMS_PROVIDER = "aws-kms";

/** Bits: what the design promises for a key that has to outlive the servers. */
export const RSA_BITS = 4096;

/** @param pem the public half. @throws RunbookError (exit 2) for anything but RSA of 4096 bits or more. */
export const recoveryPublicKey = (pem: string): SealKey =>
  recoveryKey(parsed(pem, createPublicKey), undefined);

/**
 * @param pem the private half; it is registered as a secret.
 * @throws RunbookError (exit 2) for anything but RSA of 4096 bits or more, and for a wrong passphrase.
 */
export function recoveryPrivateKey(pem: string, passphrase?: string): SealKey {
  registerSecret(pem);
  if (passphrase !== undefined) registerSecret(passphrase);
  const key = parsed(pem, () =>
    createPrivateKey({ key: pem, ...(passphrase === undefined ? {} : { passphrase }) }),
  );
  return recoveryKey(createPublicKey(key), key);
}

function recoveryKey(publicKey: KeyObject, privateKey: KeyObject | undefined): SealKey {
  const bits = publicKey.asymmetricKeyDetails?.modulusLength ?? 0;
  if (publicKey.asymmetricKeyType !== "rsa" || bits < RSA_BITS) {
    const got = publicKey.asymmetricKeyType === "rsa" ? `RSA of ${bits} bits` : publicKey.asymmetricKeyType;
    throw new RunbookError(`the recovery key is ${got}, but it takes RSA of ${RSA_BITS} bits`, {
      exit: "usage",
      next: "npx runbook backup-keys new",
    });
  }
  const id = createHash("sha256")
    .update(publicKey.export({ type: "spki", format: "der" }))
    .digest("hex");
  const rsaKey = {
    publicKey: publicKey.export({ type: "spki", format: "pem" }),
    ...(privateKey === undefined ? {} : { privateKey: privateKey.export({ type: "pkcs8", format: "pem" }) }),
  };
  const how = { keyNamespace: RECOVERY_PROVIDER, keyName: id, oaepHash: "sha256", rsaKey } as const;
  return {
    name: `the offline recovery key ${id.slice(0, 16)}`,
    provider: RECOVERY_PROVIDER,
    id,
    opens: (other) => privateKey !== undefined && other === id,
    keyring: async (sdk) => new sdk.RawRsaKeyringNode(how),
  };
}

/**
 * An AES-256 key in a file: 32 bytes, or 64 hexadecimal digits.
 * @throws RunbookError (exit 2) for anything else, and for a file that others than its owner can read.
 */
export function aesKeyFile(file: string): SealKey {
  const key = readKeyFile(file);
  const id = createHash("sha256").update("penguinmails backup key\0").update(key).digest("hex").slice(0, 32);
  return {
    name: `the AES key in ${file}`,
    provider: AES_PROVIDER,
    id,
    opens: (other) => other === id,
    keyring: async (sdk) =>
      new sdk.RawAesKeyringNode({
        keyNamespace: AES_PROVIDER,
        keyName: id,
        unencryptedMasterKey: isolated(key),
        wrappingSuite: sdk.RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
        utf8Sorting: true,
      }),
  };
}

/**
 * A key in KMS, by its alias, id or ARN. It opens what any key of the same account has sealed: a backup names the key of
 * its day, and an alias may have moved on.
 */
export function kmsKey(id: string): SealKey {
  let account: string[] | undefined;
  return {
    name: `the KMS key ${id}`,
    provider: KMS_PROVIDER,
    id,
    opens: (arn) =>
      account === undefined || (arn.split(":")[1] === account[1] && arn.split(":")[4] === account[4]),
    keyring: async (sdk, use) => {
      const clientProvider = kmsClients(sdk);
      if (use === "seal") return new sdk.KmsKeyringNode({ clientProvider, generatorKeyId: id });
      account ??= (await arnOf(id, clientProvider)).split(":");
      const [, partition = "", , , accountId = ""] = account;
      const discoveryFilter = { partition, accountIDs: [accountId] };
      return new sdk.KmsKeyringNode({ clientProvider, discovery: true, discoveryFilter });
    },
  };
}

const kmsClients = (sdk: Sdk) =>
  // Without the last option a request that got no answer in time is only warned of, and waited for without end.
  sdk.getClient(sdk.KMS as unknown as KmsClass, {
    maxAttempts: 3,
    requestHandler: { connectionTimeout: 5_000, requestTimeout: 15_000, throwOnRequestTimeout: true },
  });

/** Of an alias' or a key's ARN; empty for a name, which is one of the client's own region. */
const regionOf = (id: string): string => (id.startsWith("arn:") ? (id.split(":")[3] ?? "") : "");

/** The SDK describes its client more loosely than the client does itself. */
type KmsClass = Parameters<Sdk["getClient"]>[0];
type KmsClients = ReturnType<Sdk["getClient"]>;

async function arnOf(id: string, clients: KmsClients): Promise<string> {
  if (/^arn:[^:]+:kms:[^:]+:\d+:key\//.test(id)) return id;
  const kms = clients(regionOf(id)) as InstanceType<Sdk["KMS"]>;
  try {
    return (await kms.describeKey({ KeyId: id })).KeyMetadata?.Arn ?? "";
  } catch (cause) {
    throw new SealError("unavailable", `the KMS key ${id} can't be looked up: ${messageOf(cause)}`, {
      cause,
    });
  }
}

/** Whether KMS has the key and it can be used, without using it. @throws SealError where KMS doesn't say. */
export async function lookAtKmsKey(id: string): Promise<{ arn: string; enabled: boolean; state: string }> {
  const sdk = await import("@aws-crypto/client-node");
  const kms = kmsClients(sdk)(regionOf(id)) as InstanceType<Sdk["KMS"]>;
  try {
    const {
      Arn = "",
      Enabled = false,
      KeyState = "",
    } = (await kms.describeKey({ KeyId: id })).KeyMetadata ?? {};
    return { arn: Arn, enabled: Enabled && KeyState === "Enabled", state: KeyState };
  } catch (cause) {
    if ((cause as Error).name === "NotFoundException") return { arn: "", enabled: false, state: "not there" };
    throw new SealError("unavailable", `the KMS key ${id} can't be looked up: ${messageOf(cause)}`, {
      cause,
    });
  }
}

function readKeyFile(file: string): Buffer {
  const wrong = (why: string, next: string, cause?: unknown) =>
    new RunbookError(`the backup's key ${file} ${why}`, { exit: "usage", next, cause });
  let content: Buffer;
  try {
    content = readFileSync(file);
    if ((statSync(file).mode & 0o077) !== 0)
      throw wrong(
        "can be read by others than its owner",
        `chmod 600 ${file}   # or make a new one: it may be known`,
      );
  } catch (cause) {
    if (cause instanceof RunbookError) throw cause;
    throw wrong(`can't be read: ${messageOf(cause)}`, "correct backup.aes_key_file in recovery.yaml", cause);
  }
  const text = content.toString("latin1").trim();
  const key =
    content.length === 32 ? content : /^[0-9a-f]{64}$/i.test(text) ? Buffer.from(text, "hex") : undefined;
  const make = `(umask 077; openssl rand -hex 32 > ${file})`;
  if (key === undefined) throw wrong("holds neither 32 bytes nor 64 hexadecimal digits", make);
  registerSecret(text);
  return key;
}

/** The SDK wipes what it is given, and refuses what shares its memory with other buffers. */
const isolated = (key: Buffer): Uint8Array => new Uint8Array(key);

function parsed(pem: string, parse: (pem: string) => KeyObject): KeyObject {
  try {
    return parse(pem);
  } catch (cause) {
    throw new RunbookError(`the recovery key can't be read: ${messageOf(cause)}`, {
      exit: "usage",
      next: "give a PEM file as `npx runbook backup-keys new` makes it",
      cause,
    });
  }
}
