// What is in the objects of the backups' bucket: how it gets there, and how one version of an object is read.
import type { Readable } from "node:stream";
import { messageOf, RunbookError } from "./errors.ts";
import { Meter } from "./piped.ts";
import { openS3, PATIENT, type S3 } from "./s3-client.ts";

/** What was stored, as it left. */
export interface Stored {
  versionId: string;
  bytes: number;
  sha256: string;
}

/** S3 takes 10,000 parts: of this size, 80 GiB. Four are under way at a time. */
const PART_BYTES = 8 * 1_048_576;

export class BackupObjects {
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
    const done = await this.ask(`store ${key}`, ({ sdk, s3 }) =>
      s3.send(new sdk.PutObjectCommand({ ...input, Body })),
    );
    return this.#versionOf(key, done.VersionId);
  }

  /** The stream of one version. @throws RunbookError (exit 1). */
  async read({ key, versionId }: { key: string; versionId: string }): Promise<Readable> {
    const at = { Bucket: this.bucket, Key: key, VersionId: versionId };
    const found = await this.ask(`read ${key}`, ({ sdk, s3 }) => s3.send(new sdk.GetObjectCommand(at)));
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

  #versionOf(key: string, versionId: string | undefined): string {
    if (versionId !== undefined && versionId !== "null") return versionId;
    throw new RunbookError(`s3://${this.bucket} keeps no versions: ${key} could be overwritten`, {
      exit: "failed",
      next: "pulumi up --stack platform   # makes the bucket with versions and Object Lock",
    });
  }

  protected async ask<T>(what: string, request: (s3: S3) => Promise<T>): Promise<T> {
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
