// Copies of the audit log in a bucket whose Object Lock keeps them from everybody, its owner included. An object
// is created only if absent and read back by its oldest version, so that a later overwrite or delete marker
// neither takes effect nor goes unseen.
import { type AuditEvent, canonicalJson } from "./audit-chain.ts";
import { inParallel } from "./parallel.ts";
import { openS3, type S3 } from "./s3-client.ts";

const PREFIX = "audit/";
const KEY = /^audit\/([^/]+)\/([1-9]\d*)\.json$/;

/** Events fetched at a time. */
const AT_ONCE = 16;

/** Events put at a time, the next ones only after all of these: so far apart can one be that is there and one that isn't. */
export const PUT_AT_ONCE = 32;

export interface CopiedChain {
  chain: string;
  /** By place in the chain. */
  events: Map<number, Buffer>;
  /** What was done to the copies since they were made, the earliest place first. */
  suspicious: { seq: number; deleted: boolean; why: string }[];
}

export class AuditCopies {
  readonly bucket: string;
  private readonly env: NodeJS.ProcessEnv;
  private opened: Promise<S3> | undefined;
  /** What was read before, by key and version: a version never changes, so whoever reads again asks for what is new. */
  private readonly seen = new Map<string, Buffer>();

  /** Takes endpoint, region and credentials from the standard AWS_* variables. */
  constructor(bucket: string, env: NodeJS.ProcessEnv = process.env) {
    this.bucket = bucket;
    this.env = env;
  }

  /** @throws Error when the bucket can't be reached, or has another event at this place. */
  async put(event: AuditEvent): Promise<void> {
    const { sdk, s3 } = await this.open();
    const at = { Bucket: this.bucket, Key: `${PREFIX}${event.chain}/${event.seq}.json` };
    const body = canonicalJson(event);
    try {
      const how = { IfNoneMatch: "*", ContentType: "application/json" };
      await s3.send(new sdk.PutObjectCommand({ ...at, ...how, Body: body }));
    } catch (error) {
      if (!(error instanceof sdk.S3ServiceException) || error.$metadata.httpStatusCode !== 412) throw error;
      const there = await s3.send(new sdk.GetObjectCommand(at));
      if ((await there.Body?.transformToString()) === body) return;
      throw new Error(`s3://${at.Bucket}/${at.Key} holds another event than the log`, { cause: error });
    }
  }

  /** Every chain in the bucket, each event as it was first stored. */
  async read(): Promise<CopiedChain[]> {
    const chains = new Map<string, CopiedChain>();
    const chainOf = (id: string): CopiedChain => {
      const chain = chains.get(id) ?? { chain: id, events: new Map(), suspicious: [] };
      chains.set(id, chain);
      return chain;
    };
    await inParallel([...(await this.histories())], AT_ONCE, async ([key, history]) => {
      const [, id, seq] = KEY.exec(key) ?? [];
      if (id === undefined || seq === undefined) return;
      const chain = chainOf(id);
      const oldest = history.versions.at(-1);
      const touched = history.deleted || history.versions.length > 1;
      if (touched)
        chain.suspicious.push({
          seq: Number(seq),
          deleted: history.deleted,
          why: whatHappened(key, history),
        });
      if (oldest !== undefined) chain.events.set(Number(seq), await this.get(key, oldest));
    });
    for (const chain of chains.values()) chain.suspicious.sort((a, b) => a.seq - b.seq);
    return [...chains.values()];
  }

  private async histories(): Promise<Map<string, History>> {
    const found = new Map<string, History>();
    const at = (key: string) => {
      const history = found.get(key) ?? { versions: [], deleted: false };
      found.set(key, history);
      return history;
    };
    for await (const page of versionPages(await this.open(), this.bucket)) {
      for (const { Key, VersionId } of page.Versions ?? []) at(Key ?? "").versions.push(VersionId ?? "null");
      for (const { Key } of page.DeleteMarkers ?? []) at(Key ?? "").deleted = true;
    }
    return found;
  }

  private async get(key: string, version: string): Promise<Buffer> {
    const known = this.seen.get(`${key} ${version}`);
    if (known !== undefined) return known;
    const { sdk, s3 } = await this.open();
    const VersionId = version === "null" ? undefined : version;
    const found = await s3.send(new sdk.GetObjectCommand({ Bucket: this.bucket, Key: key, VersionId }));
    const body = Buffer.from((await found.Body?.transformToByteArray()) ?? []);
    // In a bucket without versions the same name may get another content.
    if (VersionId !== undefined) this.seen.set(`${key} ${version}`, body);
    return body;
  }

  /** At first use. */
  private open(): Promise<S3> {
    this.opened ??= openS3(this.env);
    return this.opened;
  }
}

/** An object's versions, the newest first, and whether a delete marker lies on it. */
interface History {
  versions: string[];
  deleted: boolean;
}

const whatHappened = (key: string, { deleted, versions }: History): string =>
  deleted ? `${key} was deleted` : `${key} was overwritten ${versions.length - 1} times`;

async function* versionPages({ sdk, s3 }: S3, Bucket: string) {
  let after: { KeyMarker: string | undefined; VersionIdMarker: string | undefined } | undefined;
  do {
    const page = await s3.send(new sdk.ListObjectVersionsCommand({ Bucket, Prefix: PREFIX, ...after }));
    yield page;
    after = page.IsTruncated
      ? { KeyMarker: page.NextKeyMarker, VersionIdMarker: page.NextVersionIdMarker }
      : undefined;
  } while (after !== undefined);
}
