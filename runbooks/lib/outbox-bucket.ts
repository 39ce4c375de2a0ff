// Notices beside the audit copies, where every machine finds them. The bucket keeps old versions and is locked: a
// removed notice leaves a delete marker, so only current objects count.
import { messageOf } from "./errors.ts";
import type { OutboxPlace, StoredBody } from "./outbox-folder.ts";
import { openS3, type S3 } from "./s3-client.ts";

const PREFIX = "outbox/";
/** Milliseconds for which a bucket that failed isn't asked again: an incident must not wait for it at each notice. */
const REST = 15_000;

export class OutboxBucket implements OutboxPlace {
  readonly name: string;
  private readonly bucket: string;
  private readonly env: NodeJS.ProcessEnv;
  private opened: Promise<S3> | undefined;
  private failure: { until: number; error: Error } | undefined;

  constructor(bucket: string, env: NodeJS.ProcessEnv) {
    this.name = `s3://${bucket}/${PREFIX}`;
    this.bucket = bucket;
    this.env = env;
  }

  create(id: string, body: string): Promise<boolean> {
    return this.put(id, body, { IfNoneMatch: "*" }, 412);
  }

  read(id: string): Promise<StoredBody | undefined> {
    return this.ask(async ({ sdk, s3 }) => {
      const found = await s3.send(new sdk.GetObjectCommand(this.at(id)));
      return { body: (await found.Body?.transformToString()) ?? "", tag: found.ETag ?? "" };
    }, 404);
  }

  async ids(): Promise<string[]> {
    return this.ask(async ({ sdk, s3 }) => {
      const found: string[] = [];
      const pages = sdk.paginateListObjectsV2({ client: s3 }, { Bucket: this.bucket, Prefix: PREFIX });
      for await (const page of pages) {
        for (const { Key = "" } of page.Contents ?? []) {
          if (Key.endsWith(".json")) found.push(Key.slice(PREFIX.length, -".json".length));
        }
      }
      return found;
    });
  }

  /** 404: it is gone; 409: somebody else writes at this moment. */
  replace(id: string, body: string, tag: string): Promise<boolean> {
    return this.put(id, body, { IfMatch: tag }, 404, 409, 412);
  }

  async remove(id: string): Promise<void> {
    await this.ask(({ sdk, s3 }) => s3.send(new sdk.DeleteObjectCommand(this.at(id))));
  }

  private async put(
    id: string,
    Body: string,
    condition: { IfNoneMatch: string } | { IfMatch: string },
    ...refused: number[]
  ): Promise<boolean> {
    const input = { ...this.at(id), ...condition, Body, ContentType: "application/json" };
    const done = await this.ask(({ sdk, s3 }) => s3.send(new sdk.PutObjectCommand(input)), ...refused);
    return done !== undefined;
  }

  private at(id: string) {
    return { Bucket: this.bucket, Key: `${PREFIX}${id}.json` };
  }

  private ask<T>(request: (s3: S3) => Promise<T>): Promise<T>;
  private ask<T>(request: (s3: S3) => Promise<T>, ...absent: number[]): Promise<T | undefined>;
  /** @param absent status codes that are an answer: nothing is there, or something else than expected. */
  private async ask<T>(request: (s3: S3) => Promise<T>, ...absent: number[]): Promise<T | undefined> {
    if (this.failure !== undefined && performance.now() < this.failure.until) throw this.failure.error;
    this.opened ??= openS3(this.env);
    const opened = await this.opened;
    try {
      return await request(opened);
    } catch (error) {
      if (answeredWith(opened, error, absent)) return undefined;
      const failure = new Error(`${this.name}: ${messageOf(error)}`, { cause: error });
      this.failure = { until: performance.now() + REST, error: failure };
      throw failure;
    }
  }
}

/** A bucket that doesn't exist is a 404 as well, but no answer about an object. */
function answeredWith({ sdk }: S3, error: unknown, absent: number[]): boolean {
  if (!(error instanceof sdk.S3ServiceException) || error.name === "NoSuchBucket") return false;
  return absent.includes(error.$metadata.httpStatusCode ?? 0);
}
