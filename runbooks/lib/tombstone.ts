// What is kept of a tenant that is gone: which credentials it had (by version and fingerprint, no secret), who ended it
// and why. It lies in the audit store, where Object Lock keeps it, since a backup of Vault brings the tenant back, and
// since an id that had a tenant is not to be given away again by accident.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { TenantId } from "../../stacks/names.ts";
import { canonicalJson } from "./audit-chain.ts";
import { createWhole, readIfThere } from "./durable-file.ts";
import { messageOf, RunbookError } from "./errors.ts";
import { openS3, type S3 } from "./s3-client.ts";
import type { Settings } from "./settings.ts";

const Seen = z.object({ version: z.number().int(), ciphertext_sha256: z.string().nullable() });

/** `tombstones/{tenant}.json`; a later tenant of the same id leaves `{tenant}.2.json`, and so on. */
export const Tombstone = z.looseObject({
  tenant_id: z.string(),
  domain: z.string().nullable(),
  offboarded_at: z.iso.datetime(),
  offboarded_by: z.string(),
  reason: z.string(),
  /** The run that began it; whoever goes on writes the audit events of this one. */
  run_id: z.string(),
  /** When Vault made the tenant's credential: tells this tenant from a later one of the same id. */
  onboarded_at: z.string().nullable(),
  vps_ip: z.string().nullable(),
  /** Whether that was a machine of the operator's, which no stack can take away. */
  own_host: z.boolean(),
  /** What became of the administrator's account in Mailu. */
  account: z.string(),
  /** The records as they were last. */
  records: z.record(z.string(), Seen),
  /** The newest version of the Transit key and when it was made (seconds since 1970). */
  key: z.object({ version: z.number().int(), made: z.number() }).nullable(),
  /** Incidents in which its credential was rotated, and the versions that they ended with. */
  incidents: z.array(z.object({ incident: z.string(), version: z.number().int() })),
});
export type Tombstone = z.infer<typeof Tombstone>;

/** Where tombstones lie; throws failed (1) with what to do when it can't be reached: without them nothing is decided. */
export class Tombstones {
  readonly where: string;
  readonly #place: Place;

  /** In the audit bucket; where there is none, in a folder beside the audit log. Touches nothing yet. */
  constructor(audit: Settings["audit"], env: NodeJS.ProcessEnv) {
    this.#place =
      audit.bucket === undefined ? new Folder(`${audit.log}.tombstones`) : new Bucket(audit.bucket, env);
    this.where = this.#place.where;
  }

  /** All tombstones of the id, the oldest first, each as it was first written. */
  async of(tenant: TenantId): Promise<Tombstone[]> {
    const found: Tombstone[] = [];
    for (;;) {
      const name = nameOf(tenant, found.length + 1);
      const text = await this.#ask(() => this.#place.first(name));
      if (text === undefined) return found;
      found.push(await this.#ask(async () => Tombstone.parse(JSON.parse(text))));
    }
  }

  /** Adds the id's next tombstone; if somebody just did, theirs stays. Returns the one that counts. */
  async add(tenant: TenantId, tombstone: Tombstone): Promise<Tombstone> {
    const before = await this.of(tenant);
    await this.#ask(() => this.#place.create(nameOf(tenant, before.length + 1), canonicalJson(tombstone)));
    return (await this.of(tenant))[before.length] ?? tombstone;
  }

  async #ask<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      throw new RunbookError(`The tombstones in ${this.where} can't be used: ${messageOf(error)}`, {
        exit: "failed",
        next: "mend the audit store (AWS_* and audit.bucket in recovery.yaml), then run this again",
        cause: error,
      });
    }
  }
}

/** Ids hold no dot, so that no other tenant's name is meant. */
const nameOf = (tenant: TenantId, number: number): string =>
  number === 1 ? `${tenant}.json` : `${tenant}.${number}.json`;

interface Place {
  readonly where: string;
  /** What was first stored under a name; undefined when nothing ever was. */
  first(name: string): Promise<string | undefined>;
  /** Stores it unless there is something. */
  create(name: string, text: string): Promise<void>;
}

class Folder implements Place {
  readonly where: string;
  constructor(folder: string) {
    this.where = folder;
  }

  async first(name: string): Promise<string | undefined> {
    return readIfThere(join(this.where, name))?.toString();
  }

  async create(name: string, text: string): Promise<void> {
    mkdirSync(this.where, { recursive: true, mode: 0o700 });
    createWhole(join(this.where, name), text);
  }
}

/** The oldest version counts: a later overwrite or delete marker takes nothing back. */
class Bucket implements Place {
  readonly where: string;
  readonly #bucket: string;
  readonly #env: NodeJS.ProcessEnv;
  #opened: Promise<S3> | undefined;

  constructor(bucket: string, env: NodeJS.ProcessEnv) {
    this.where = `s3://${bucket}/tombstones/`;
    this.#bucket = bucket;
    this.#env = env;
  }

  async first(name: string): Promise<string | undefined> {
    const { sdk, s3 } = await this.#open();
    const at = this.#at(name);
    const listed = await s3.send(new sdk.ListObjectVersionsCommand({ Bucket: at.Bucket, Prefix: at.Key }));
    const oldest = (listed.Versions ?? []).filter(({ Key }) => Key === at.Key).at(-1);
    if (oldest === undefined) return undefined;
    const VersionId = oldest.VersionId === "null" ? undefined : oldest.VersionId;
    return (await s3.send(new sdk.GetObjectCommand({ ...at, VersionId }))).Body?.transformToString();
  }

  async create(name: string, text: string): Promise<void> {
    const { sdk, s3 } = await this.#open();
    const how = { IfNoneMatch: "*", ContentType: "application/json" };
    try {
      await s3.send(new sdk.PutObjectCommand({ ...this.#at(name), ...how, Body: text }));
    } catch (error) {
      if (!(error instanceof sdk.S3ServiceException) || error.$metadata.httpStatusCode !== 412) throw error;
    }
  }

  #at(name: string) {
    return { Bucket: this.#bucket, Key: `tombstones/${name}` };
  }

  #open(): Promise<S3> {
    this.#opened ??= openS3(this.#env);
    return this.#opened;
  }
}
