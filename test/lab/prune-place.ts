// A bucket of backups for a test of its own of `runbook prune-backups`, and what lies in it, looked at with a client of the
// test's own.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  CreateBucketCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  PutObjectRetentionCommand,
} from "@aws-sdk/client-s3";
import { parse, stringify } from "yaml";
import { readMetrics } from "../../runbooks/lib/backup-metrics.ts";
import type { BackupDay } from "../../stacks/names.ts";
import {
  ago,
  type Seeded,
  seedBackup,
  seedSome,
  type Version,
} from "../runbooks/lib/fixtures/seeded-backup.ts";
import { events, run, s3 } from "./backup.ts";
import { lab } from "./lab.ts";

const DAY = 86_400_000;
let count = 0;

/** A bucket of its own, as the platform stack makes it, and settings that name it. */
export class Place {
  readonly Bucket = `prune-${process.pid}-${++count}`;
  readonly env: Record<string, string>;
  readonly #metrics: string;

  private constructor() {
    const file = join(lab.place.dir, `recovery-${this.Bucket}.yaml`);
    this.#metrics = join(lab.place.dir, "metrics", `${this.Bucket}.prom`);
    const own = parse(readFileSync(join(lab.place.dir, "recovery.yaml"), "utf8")) as { backup: object };
    const backup = { ...own.backup, bucket: this.Bucket, metrics_file: this.#metrics };
    writeFileSync(file, stringify({ ...own, backup }));
    this.env = { RECOVERY_CONFIG: file };
    rmSync(this.#metrics, { force: true });
  }

  static async make(): Promise<Place> {
    const place = new Place();
    await s3.send(new CreateBucketCommand({ Bucket: place.Bucket, ObjectLockEnabledForBucket: true }));
    return place;
  }

  /** Puts an object that says it was uploaded on that day. */
  put = async (Key: string, Body: string, uploaded: string = ago(0)): Promise<Version> => {
    const Metadata = { "lab-uploaded": `${uploaded}T02:10:00` };
    const { VersionId } = await s3.send(new PutObjectCommand({ Bucket: this.Bucket, Key, Body, Metadata }));
    return { Key, VersionId: VersionId ?? "" };
  };

  backup = (day: BackupDay, hour = 2, opened = true): Promise<Seeded> =>
    seedBackup(this.put, day, hour, opened);
  some = () => seedSome(this.put);

  async versions(): Promise<Version[]> {
    const found: Version[] = [];
    let after = {};
    for (;;) {
      const page = await s3.send(new ListObjectVersionsCommand({ Bucket: this.Bucket, ...after }));
      for (const { Key = "", VersionId = "" } of page.Versions ?? []) found.push({ Key, VersionId });
      if (page.IsTruncated !== true) return found;
      after = { KeyMarker: page.NextKeyMarker, VersionIdMarker: page.NextVersionIdMarker };
    }
  }

  async lock({ Key, VersionId }: Version, days: number): Promise<void> {
    const Retention = { Mode: "COMPLIANCE", RetainUntilDate: new Date(Date.now() + days * DAY) } as const;
    await s3.send(new PutObjectRetentionCommand({ Bucket: this.Bucket, Key, VersionId, Retention }));
  }

  metrics = () => readMetrics(readFileSync(this.#metrics, "utf8"));
  prune = (env: Record<string, string> = {}) => run(["prune-backups"], { ...this.env, ...env });
}

export const names = (versions: Version[]): string[] =>
  versions.map(({ Key, VersionId }) => `${Key} ${VersionId}`).sort();
export const without = (all: Version[], gone: Version[]): string[] => {
  const away = new Set(names(gone));
  return names(all).filter((one) => !away.has(one));
};
export const prunedEvents = (of: Version[]) =>
  events("vault_backup_pruned").filter(({ version_id }) =>
    of.some(({ VersionId }) => VersionId === version_id),
  );
export const isDeletion = (call: string): boolean => /^POST .*[?&]delete/.test(call);

export function fail(): never {
  throw new Error("it is missing");
}
