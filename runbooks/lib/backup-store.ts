// The bucket of the backups. Everything is read by object *version*: a delete marker, or a second backup of the same
// day, hides an object from a plain listing and not from this one.
import type { BackupDay } from "../../stacks/names.ts";
import { BACKUPS, backupObject, type Mark } from "../../stacks/names.ts";
import { BackupObjects } from "./backup-objects.ts";

/** One version of one object. */
export interface ObjectVersion {
  key: string;
  versionId: string;
  bytes: number;
  /** When it was uploaded; says nothing about which day's backup it is. */
  uploaded: Date;
  day: BackupDay;
  kind: "snapshot" | "manifest" | Mark;
  /** A plain listing doesn't show it: overwritten, or under a delete marker. */
  hidden: boolean;
}

/** A version that the bucket didn't delete, and its reason. */
export interface Refused {
  object: ObjectVersion;
  why: string;
  /** These credentials may not: nothing that passes with time. */
  denied: boolean;
}

export interface Unfinished {
  key: string;
  uploadId: string;
}

/** As many as S3 takes in one request. */
const DELETED_AT_ONCE = 1_000;

export class BackupStore extends BackupObjects {
  /** Every version of every object of a backup, the newest day first, the newest version of a key first. */
  async versions(): Promise<ObjectVersion[]> {
    const found: ObjectVersion[] = [];
    for await (const page of this.#pages()) {
      for (const { Key: key = "", VersionId = "null", Size = 0, LastModified, IsLatest } of page.Versions ??
        []) {
        const object = backupObject(key);
        if (object === undefined) continue;
        const uploaded = LastModified ?? new Date(0);
        found.push({
          ...object,
          key,
          versionId: VersionId,
          bytes: Size,
          uploaded,
          hidden: IsLatest !== true,
        });
      }
    }
    const order = (a: string, b: string) => (a < b ? 1 : a > b ? -1 : 0);
    // A listing has the newest version of a key first; sorting keeps that order.
    return found.sort((a, b) => order(a.day, b.day) || order(a.key, b.key));
  }

  /** Uploads that have begun and not ended: their parts cost money and lie under no name. */
  async unfinished(): Promise<Unfinished[]> {
    const found = await this.ask("list unfinished uploads", ({ sdk, s3 }) =>
      s3.send(new sdk.ListMultipartUploadsCommand({ Bucket: this.bucket, Prefix: BACKUPS })),
    );
    return (found.Uploads ?? []).map(({ Key = "", UploadId = "" }) => ({ key: Key, uploadId: UploadId }));
  }

  async abort(uploads: readonly Unfinished[]): Promise<void> {
    for (const { key, uploadId } of uploads) {
      const input = { Bucket: this.bucket, Key: key, UploadId: uploadId };
      await this.ask(`abort an unfinished upload of ${key}`, ({ sdk, s3 }) =>
        s3.send(new sdk.AbortMultipartUploadCommand(input)),
      );
    }
  }

  /**
   * Deletes these versions for good, and no other: nothing is hidden by a marker. A version that is gone already counts
   * as deleted.
   * @returns those that the bucket refused; only what it confirms counts as deleted.
   * @throws RunbookError (exit 1 or 3) when it answers nothing at all.
   */
  async remove(objects: readonly ObjectVersion[]): Promise<Refused[]> {
    const refused: Refused[] = [];
    for (let at = 0; at < objects.length; at += DELETED_AT_ONCE) {
      const batch = objects.slice(at, at + DELETED_AT_ONCE);
      const Objects = batch.map(({ key, versionId }) => ({ Key: key, VersionId: versionId }));
      const answer = await this.ask(`delete ${batch.length} versions`, ({ sdk, s3 }) =>
        s3.send(new sdk.DeleteObjectsCommand({ Bucket: this.bucket, Delete: { Objects } })),
      );
      const deleted = new Set((answer.Deleted ?? []).map(({ Key, VersionId }) => `${Key} ${VersionId}`));
      for (const object of batch.filter(({ key, versionId }) => !deleted.has(`${key} ${versionId}`))) {
        const error = answer.Errors?.find(
          ({ Key, VersionId }) => Key === object.key && (VersionId ?? object.versionId) === object.versionId,
        );
        const why = error?.Message ?? error?.Code ?? "no reason given";
        refused.push({ object, why, denied: error?.Code === "AccessDenied" });
      }
    }
    return refused;
  }

  /** Until when nobody can delete this version; undefined when it isn't locked. */
  async lockedUntil(at: { key: string; versionId: string }): Promise<Date | undefined> {
    return (await this.#lock(at))?.RetainUntilDate;
  }

  /** Somebody holds this version for a court, without an end. */
  async onLegalHold({ key, versionId }: { key: string; versionId: string }): Promise<boolean> {
    const at = { Bucket: this.bucket, Key: key, VersionId: versionId };
    const hold = await this.ask(`look whether ${key} is held`, ({ sdk, s3 }) =>
      unlessUnlocked(s3.send(new sdk.GetObjectLegalHoldCommand(at))),
    );
    return hold?.LegalHold?.Status === "ON";
  }

  /** Locks a version for longer; never for less. Returns false where the bucket has no Object Lock. */
  async lockUntil(at: { key: string; versionId: string }, until: Date): Promise<boolean> {
    const lock = await this.#lock(at);
    if ((lock?.RetainUntilDate?.getTime() ?? 0) >= until.getTime()) return true;
    const Retention = { Mode: lock?.Mode ?? ("COMPLIANCE" as const), RetainUntilDate: until };
    const input = { Bucket: this.bucket, Key: at.key, VersionId: at.versionId, Retention };
    return this.ask(`lock ${at.key} until ${until.toISOString()}`, async ({ sdk, s3 }) => {
      try {
        await s3.send(new sdk.PutObjectRetentionCommand(input));
        return true;
      } catch (error) {
        if ((error as Error).name === "InvalidRequest") return false;
        throw error;
      }
    });
  }

  /** Not by HEAD, which takes the right to read the object. */
  async #lock({ key, versionId }: { key: string; versionId: string }) {
    const at = { Bucket: this.bucket, Key: key, VersionId: versionId };
    const lock = await this.ask(`look how long ${key} is locked`, ({ sdk, s3 }) =>
      unlessUnlocked(s3.send(new sdk.GetObjectRetentionCommand(at))),
    );
    return lock?.Retention;
  }

  async *#pages() {
    let after: { KeyMarker: string | undefined; VersionIdMarker: string | undefined } | undefined;
    do {
      const input = { Bucket: this.bucket, Prefix: BACKUPS, ...after };
      const page = await this.ask("list the backups", ({ sdk, s3 }) =>
        s3.send(new sdk.ListObjectVersionsCommand(input)),
      );
      yield page;
      after = page.IsTruncated
        ? { KeyMarker: page.NextKeyMarker, VersionIdMarker: page.NextVersionIdMarker }
        : undefined;
    } while (after !== undefined);
  }
}

/** S3 has an error of its own for an object without a lock, for a bucket without any, and for what somebody deleted. */
const UNLOCKED = ["NoSuchObjectLockConfiguration", "InvalidRequest", "NoSuchVersion"];

async function unlessUnlocked<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (UNLOCKED.includes((error as Error).name)) return undefined;
    throw error;
  }
}
