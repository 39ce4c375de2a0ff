// The bucket of the backups. Everything is read by object *version*: a delete marker, or a second backup of the same
// day, hides an object from a plain listing and not from this one.
import type { Readable } from "node:stream";
import type { BackupDay } from "../../stacks/names.ts";
import { BACKUPS, backupObject, type Mark } from "../../stacks/names.ts";
import { messageOf, RunbookError } from "./errors.ts";
import { Meter } from "./piped.ts";
import { openS3, PATIENT, type S3 } from "./s3-client.ts";

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

/** What was stored, as it left. */
export interface Stored {
  versionId: string;
  bytes: number;
  sha256: string;
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

/** S3 takes 10,000 parts: of this size, 80 GiB. Four are under way at a time. */
const PART_BYTES = 8 * 1_048_576;

export class BackupStore {
  readonly bucket: string;
  readonly #role: string;
  readonly #env: NodeJS.ProcessEnv;
  #opened: Promise<S3> | undefined;

  /**
   * Takes endpoint, region and credentials from the standard AWS_* variables.
   * @param role the IAM role that is needed, to be named when the bucket says no.
   */
  constructor(
    bucket: string,
    role: "backup" | "verifier" | "pruner" | "restorer" | "drift",
    env: NodeJS.ProcessEnv,
  ) {
    this.bucket = bucket;
    this.#role = role;
    this.#env = env;
  }

  /**
   * Uploads a stream in parts. When it fails, or a part does, the upload is aborted and nothing is there.
   * @throws the stream's own error, or a RunbookError (exit 1).
   */
  async upload(key: string, body: Readable): Promise<Stored> {
    const { s3 } = await this.#open();
    const { Upload } = await import("@aws-sdk/lib-storage");
    const meter = new Meter();
    let own: Error | undefined;
    body.once("error", (error) => {
      own = error;
      meter.destroy(error);
    });
    const params = {
      Bucket: this.bucket,
      Key: key,
      Body: body.pipe(meter),
      ContentType: "application/octet-stream",
    };
    try {
      const done = await new Upload({ client: s3, params, partSize: PART_BYTES, queueSize: 4 }).done();
      return { versionId: this.#versionOf(key, done.VersionId), bytes: meter.bytes, sha256: meter.sha256() };
    } catch (error) {
      body.destroy();
      throw own ?? this.#failed(`store ${key}`, error);
    }
  }

  /** Stores a small JSON document. @throws RunbookError (exit 1). */
  async putJson(key: string, value: unknown): Promise<string> {
    const input = { Bucket: this.bucket, Key: key, ContentType: "application/json" };
    const Body = `${JSON.stringify(value, undefined, 2)}\n`;
    const done = await this.#ask(`store ${key}`, ({ sdk, s3 }) =>
      s3.send(new sdk.PutObjectCommand({ ...input, Body })),
    );
    return this.#versionOf(key, done.VersionId);
  }

  /** The stream of one version. @throws RunbookError (exit 1). */
  async read({ key, versionId }: { key: string; versionId: string }): Promise<Readable> {
    const at = { Bucket: this.bucket, Key: key, VersionId: versionId };
    const found = await this.#ask(`read ${key}`, ({ sdk, s3 }) => s3.send(new sdk.GetObjectCommand(at)));
    return found.Body as Readable;
  }

  /** The parsed content of a small JSON document; undefined when it is none. */
  async readJson(at: { key: string; versionId: string }): Promise<unknown> {
    const chunks: Buffer[] = [];
    for await (const chunk of await this.read(at)) chunks.push(chunk as Buffer);
    try {
      return JSON.parse(Buffer.concat(chunks).toString("utf8")) as unknown;
    } catch {
      return undefined;
    }
  }

  /** Reads one version to its end and says what it is. @throws RunbookError (exit 1). */
  async measure(at: { key: string; versionId: string }): Promise<{ bytes: number; sha256: string }> {
    const meter = new Meter();
    try {
      const stream = await this.read(at);
      stream.once("error", (error) => meter.destroy(error));
      for await (const _chunk of stream.pipe(meter));
    } catch (error) {
      throw this.#failed(`read ${at.key}`, error);
    }
    return { bytes: meter.bytes, sha256: meter.sha256() };
  }

  /** Until when nobody can delete this version; undefined when it isn't locked. */
  async lockedUntil(at: { key: string; versionId: string }): Promise<Date | undefined> {
    return (await this.#lock(at))?.RetainUntilDate;
  }

  /** Somebody holds this version for a court, without an end. */
  async onLegalHold({ key, versionId }: { key: string; versionId: string }): Promise<boolean> {
    const at = { Bucket: this.bucket, Key: key, VersionId: versionId };
    const hold = await this.#ask(`look whether ${key} is held`, ({ sdk, s3 }) =>
      unlessUnlocked(s3.send(new sdk.GetObjectLegalHoldCommand(at))),
    );
    return hold?.LegalHold?.Status === "ON";
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
      const answer = await this.#ask(`delete ${batch.length} versions`, ({ sdk, s3 }) =>
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

  /** Locks a version for longer; never for less. Returns false where the bucket has no Object Lock. */
  async lockUntil(at: { key: string; versionId: string }, until: Date): Promise<boolean> {
    const lock = await this.#lock(at);
    if ((lock?.RetainUntilDate?.getTime() ?? 0) >= until.getTime()) return true;
    const Retention = { Mode: lock?.Mode ?? ("COMPLIANCE" as const), RetainUntilDate: until };
    const input = { Bucket: this.bucket, Key: at.key, VersionId: at.versionId, Retention };
    return this.#ask(`lock ${at.key} until ${until.toISOString()}`, async ({ sdk, s3 }) => {
      try {
        await s3.send(new sdk.PutObjectRetentionCommand(input));
        return true;
      } catch (error) {
        if ((error as Error).name === "InvalidRequest") return false;
        throw error;
      }
    });
  }

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
    const found = await this.#ask("list unfinished uploads", ({ sdk, s3 }) =>
      s3.send(new sdk.ListMultipartUploadsCommand({ Bucket: this.bucket, Prefix: BACKUPS })),
    );
    return (found.Uploads ?? []).map(({ Key = "", UploadId = "" }) => ({ key: Key, uploadId: UploadId }));
  }

  async abort(uploads: readonly Unfinished[]): Promise<void> {
    for (const { key, uploadId } of uploads) {
      const input = { Bucket: this.bucket, Key: key, UploadId: uploadId };
      await this.#ask(`abort an unfinished upload of ${key}`, ({ sdk, s3 }) =>
        s3.send(new sdk.AbortMultipartUploadCommand(input)),
      );
    }
  }

  /** Not by HEAD, which takes the right to read the object. */
  async #lock({ key, versionId }: { key: string; versionId: string }) {
    const at = { Bucket: this.bucket, Key: key, VersionId: versionId };
    const lock = await this.#ask(`look how long ${key} is locked`, ({ sdk, s3 }) =>
      unlessUnlocked(s3.send(new sdk.GetObjectRetentionCommand(at))),
    );
    return lock?.Retention;
  }

  async *#pages() {
    let after: { KeyMarker: string | undefined; VersionIdMarker: string | undefined } | undefined;
    do {
      const input = { Bucket: this.bucket, Prefix: BACKUPS, ...after };
      const page = await this.#ask("list the backups", ({ sdk, s3 }) =>
        s3.send(new sdk.ListObjectVersionsCommand(input)),
      );
      yield page;
      after = page.IsTruncated
        ? { KeyMarker: page.NextKeyMarker, VersionIdMarker: page.NextVersionIdMarker }
        : undefined;
    } while (after !== undefined);
  }

  #versionOf(key: string, versionId: string | undefined): string {
    if (versionId !== undefined && versionId !== "null") return versionId;
    throw new RunbookError(`s3://${this.bucket} keeps no versions: ${key} could be overwritten`, {
      exit: "failed",
      next: "pulumi up --stack platform   # makes the bucket with versions and Object Lock",
    });
  }

  async #ask<T>(what: string, request: (s3: S3) => Promise<T>): Promise<T> {
    try {
      return await request(await this.#open());
    } catch (error) {
      throw this.#failed(what, error);
    }
  }

  #failed(what: string, cause: unknown): RunbookError {
    if (cause instanceof RunbookError) return cause;
    const denied = /AccessDenied|Forbidden|not authorized/i.test(
      `${(cause as Error).name} ${messageOf(cause)}`,
    );
    return new RunbookError(
      `s3://${this.bucket}: can't ${what}: ${messageOf(cause) || (cause as Error).name}`,
      {
        exit: denied ? "permission" : "failed",
        next: denied
          ? `see that AWS_* are those of the IAM role penguinmails-${this.#role}`
          : "see that AWS_* and backup.bucket in recovery.yaml are right, then run this again",
        cause,
      },
    );
  }

  /** At first use. */
  #open(): Promise<S3> {
    // Whoever only looks has nothing to lose by giving up.
    this.#opened ??= this.#role === "drift" ? openS3(this.#env) : openS3(this.#env, PATIENT);
    return this.#opened;
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
