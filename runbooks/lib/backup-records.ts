// What lies beside a sealed snapshot in the bucket: its manifest, and the marks of whoever opened or restored it. Plain
// JSON and no secret, so that a person with nothing but the bucket can read what a backup is.
import { z } from "zod";
import { type BackupDay, backupDay } from "../../stacks/names.ts";

const Time = z.iso.datetime();
const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const Bytes = z.number().int().positive();
const Day = z
  .string()
  .refine((text) => backupDay(text) !== undefined, { error: "is no day such as 2026-02-28" })
  .transform((text) => text as BackupDay);

export const CanaryOfBackup = z.object({
  date: Day,
  nonce: z.string().min(16),
  /** Of `smtp/canary/admin`, as it was written just before the snapshot. */
  version: z.number().int().positive(),
  written: Time,
  /** Raft's applied index after it was written: a snapshot of a smaller index doesn't hold it. */
  raft_index: z.number().int().positive(),
});
export type CanaryOfBackup = z.infer<typeof CanaryOfBackup>;

/** Written last: an object without one isn't a backup. */
export const Manifest = z.object({
  format: z.literal(1),
  date: Day,
  /** The run that made it. */
  run: z.string(),
  created: Time,
  /** From the canary to the read-back. */
  seconds: z.number(),
  /** The sealed snapshot: key and version in this bucket. */
  object: z.string(),
  version_id: z.string().min(1),
  /** The archive as Vault gave it, and as it is sealed. */
  plain_bytes: Bytes,
  plain_sha256: Sha256,
  sealed_bytes: Bytes,
  sealed_sha256: Sha256,
  /** Keys that open it, by provider and name. */
  sealed_to: z.array(z.object({ provider: z.string(), key: z.string() })).min(1),
  canary: CanaryOfBackup,
  raft_index: z.number().int().positive(),
  raft_term: z.number().int().positive(),
  vault_version: z.string(),
  cluster_name: z.string(),
  cluster_id: z.string(),
  /** `shamir`, or the kind of auto-unseal. */
  seal_type: z.string(),
  shares: z.number().int(),
  threshold: z.number().int(),
  /** Paths of the audit devices, on the Vault server: a restored copy writes there too. */
  audit_paths: z.array(z.string()),
  tenants: z.array(z.string()),
});
export type Manifest = z.infer<typeof Manifest>;

/** `opened-{time}.json`: decrypted, its archive whole, the canary's version the one written. */
export const Opened = z.object({
  format: z.literal(1),
  date: Day,
  /** Of the sealed snapshot that was opened. */
  version_id: z.string(),
  plain_sha256: Sha256,
  canary: CanaryOfBackup,
  /** The key that opened it. */
  key: z.string(),
  run: z.string(),
  at: Time,
  seconds: z.number(),
});
export type Opened = z.infer<typeof Opened>;

/** `restored-{time}.json`: restored into a Vault that is thrown away, its canary and every tenant read there. */
export const Restored = z.object({
  format: z.literal(1),
  date: Day,
  version_id: z.string(),
  run: z.string(),
  at: Time,
  /** How long the restore took, to the last tenant read. */
  seconds: z.number(),
  tenants: z.array(z.string()),
});
export type Restored = z.infer<typeof Restored>;
