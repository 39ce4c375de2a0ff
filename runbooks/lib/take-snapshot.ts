// From Vault to the bucket in one stream: the snapshot is checked as it passes, sealed, and uploaded in parts. The check
// comes before the seal's last frame and that before the upload's completion: what isn't whole never becomes an object.
import { Transform, type TransformCallback } from "node:stream";
import type { BackupDay } from "../../stacks/names.ts";
import { backupKey, SNAPSHOT } from "../../stacks/names.ts";
import type { Stored } from "./backup-objects.ts";
import type { BackupStore } from "./backup-store.ts";
import { RunbookError } from "./errors.ts";
import { Meter, piped } from "./piped.ts";
import { type SealContext, seal } from "./seal.ts";
import type { SealKey } from "./seal-keys.ts";
import { readSealedHeader, SealError, type SealedTo } from "./sealed-message.ts";
import { ArchiveCheck, ArchiveError, type SnapshotMeta } from "./snapshot-archive.ts";
import type { Vault } from "./vault.ts";

export interface Taken {
  /** The sealed object. */
  object: Stored & { key: string };
  plain: { bytes: number; sha256: string };
  meta: SnapshotMeta;
  sealedTo: SealedTo[];
}

export interface TakeOptions {
  day: BackupDay;
  keys: readonly SealKey[];
  context: SealContext;
  /** The raft index at which the canary was there. */
  atLeast: number;
  /** Bytes of the snapshot so far. */
  onProgress: (bytes: number) => void;
}

/** @throws RunbookError (exit 1) for a snapshot that isn't whole, and whatever Vault, KMS or the bucket refuse with. */
export async function takeSnapshot(vault: Vault, store: BackupStore, options: TakeOptions): Promise<Taken> {
  const [plain, archive, head] = [
    new Meter(options.onProgress),
    new ArchiveCheck(options.atLeast),
    new Head(),
  ];
  const key = backupKey(options.day, SNAPSHOT);
  try {
    const snapshot = await vault.download("sys/storage/raft/snapshot");
    const whole = piped(snapshot, [plain, archive], (error) => error as Error);
    const sealed = await seal(whole, options.keys, options.context);
    const stored = await store.upload(
      key,
      piped(sealed, [head], (error) => error as Error),
    );
    return {
      object: { ...stored, key },
      plain: { bytes: plain.bytes, sha256: plain.sha256() },
      meta: archive.meta,
      sealedTo: head.sealedTo,
    };
  } catch (error) {
    if (error instanceof ArchiveError) {
      throw new RunbookError(`Vault's snapshot isn't whole, and nothing was stored: ${error.message}`, {
        exit: "failed",
        // A Vault that opens itself has its KMS seal the end of a snapshot, and cuts it off where that fails (seen with 1.21).
        next: "vault status; vault operator raft list-peers   # did the leader change, or has Vault a `seal` whose KMS doesn't answer? Then run this again",
        cause: error,
      });
    }
    if (error instanceof SealError) {
      const exit = /AccessDenied|not authorized/i.test(error.message) ? "permission" : "failed";
      const next =
        "see that AWS_* are those of the role `backup` and that backup.kms_key in recovery.yaml is right";
      throw new RunbookError(error.message, { exit, next, cause: error });
    }
    throw error;
  }
}

/** Reads the header of what passes: to which keys it really is sealed. */
class Head extends Transform {
  sealedTo: SealedTo[] = [];
  #bytes = Buffer.alloc(0);

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    if (this.sealedTo.length === 0) {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.sealedTo = readSealedHeader(this.#bytes)?.sealedTo ?? [];
    }
    done(null, chunk);
  }
}
