// The `backup` section of recovery.yaml: where backups of Vault lie, which keys they are sealed to, and who is told how
// they went.
import { readFileSync } from "node:fs";
import { z } from "zod";
import { messageOf, RunbookError } from "./errors.ts";
import { isLoopback, type SecretSource } from "./notify-settings.ts";
import { aesKeyFile, kmsKey, recoveryPublicKey, type SealKey } from "./seal-keys.ts";

const text = z.string().min(1, { error: "takes a text that isn't empty" });
const url = z.string().refine(isUrl, { error: "takes an https URL without a password in it" });

/** As it stands in the file. */
export const BackupSection = z
  .strictObject({
    bucket: text.optional(),
    kms_key: text.optional(),
    aes_key_file: text.optional(),
    recovery_public_keys: z
      .array(text)
      .refine((keys) => !keys.some((key) => key.includes("PRIVATE KEY")), {
        error: "takes public halves: a private one belongs on no server, and this one counts as known now",
      })
      .default([]),
    after_response: z.array(text).min(1, { error: "takes a command and its arguments" }).optional(),
    metrics_file: text.optional(),
    push_url: url.optional(),
    ping_url: url.optional(),
    ping_url_file: text.optional(),
  })
  .refine(({ kms_key, aes_key_file }) => kms_key === undefined || aes_key_file === undefined, {
    error: "takes one of kms_key and aes_key_file",
  })
  .refine(({ ping_url, ping_url_file }) => ping_url === undefined || ping_url_file === undefined, {
    error: "takes one of ping_url and ping_url_file",
  });

/** Every path is absolute. */
export interface Backup {
  bucket: string | undefined;
  /** The key of automation: in KMS, or in a file. */
  key: { kms: string } | { file: string } | undefined;
  /** Public halves of the offline recovery keys: a PEM text, or the file with one. */
  recovery: ({ pem: string } | { file: string })[];
  /** The command, with its arguments, that starts a backup after a response to a compromise. */
  after_response: string[] | undefined;
  /** Prometheus text, as node_exporter's textfile collector takes it. */
  metricsFile: string | undefined;
  /** Where the same text is posted, e.g. a Pushgateway's …/metrics/job/vault-backup. */
  pushUrl: string | undefined;
  /** A dead-man's switch: asked for once a fresh backup was opened, with /fail behind it after a failure. */
  pingUrl: string | SecretSource | undefined;
}

/** @param path makes a path of the file absolute. */
export function backupOf(section: z.output<typeof BackupSection>, path: (text: string) => string): Backup {
  const { kms_key, aes_key_file, metrics_file, ping_url, ping_url_file } = section;
  const file = (name: string | undefined) => (name === undefined ? undefined : { file: path(name) });
  return {
    bucket: section.bucket,
    key: kms_key === undefined ? file(aes_key_file) : { kms: kms_key },
    recovery: section.recovery_public_keys.map((key) =>
      key.startsWith("-----BEGIN") ? { pem: key } : { file: path(key) },
    ),
    after_response: section.after_response,
    metricsFile: metrics_file === undefined ? undefined : path(metrics_file),
    pushUrl: section.push_url,
    pingUrl: ping_url ?? file(ping_url_file),
  };
}

interface Configured {
  /** The settings' file. */
  file: string;
  backup: Backup;
}

/** @throws RunbookError (exit 2) that says how to name the bucket. */
export function backupBucket({ file, backup }: Configured): string {
  if (backup.bucket !== undefined) return backup.bucket;
  throw new RunbookError(`${file}: backup.bucket is missing: nobody knows where backups lie`, {
    exit: "usage",
    next: `add to ${file}: backup: {bucket: …, kms_key: alias/…, recovery_public_keys: […]}`,
  });
}

/** The key of automation. @throws RunbookError (exit 2) when there is none, or none that can be used. */
export function automationKey({ file, backup: { key } }: Configured): SealKey {
  if (key !== undefined) return "kms" in key ? kmsKey(key.kms) : aesKeyFile(key.file);
  throw new RunbookError(`${file}: backup.kms_key or backup.aes_key_file is missing: automation has no key`, {
    exit: "usage",
    next: `add to ${file}, under backup: kms_key: alias/…   # without KMS: aes_key_file: …`,
  });
}

/** The offline keys' public halves. @throws RunbookError (exit 2) when there is none, or one can't be used. */
export function recoveryKeys({ file, backup: { recovery } }: Configured): SealKey[] {
  if (recovery.length === 0) {
    throw new RunbookError(
      `${file}: backup.recovery_public_keys is empty: with the key of automation every backup would be lost`,
      { exit: "usage", next: "npx runbook backup-keys new" },
    );
  }
  return recovery.map((key) => recoveryPublicKey("pem" in key ? key.pem : readPem(key.file)));
}

function readPem(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new RunbookError(`the recovery key can't be read: ${messageOf(cause)}`, {
      exit: "usage",
      next: "correct backup.recovery_public_keys in recovery.yaml",
      cause,
    });
  }
}

function isUrl(given: string): boolean {
  const parsed = URL.parse(given);
  if (parsed === null || parsed.username !== "" || parsed.password !== "") return false;
  return parsed.protocol === "https:" || (parsed.protocol === "http:" && isLoopback(parsed.hostname));
}
