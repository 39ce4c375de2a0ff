// Backups that can't be trusted, each way for itself, in buckets of the test's own: made by the runbooks, then changed
// behind their back. What is asked is the report's ids: exactly that finding, and none once it is mended.
import { generateKeyPairSync } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { DescribeKeyCommand, DisableKeyCommand, EnableKeyCommand, KMSClient } from "@aws-sdk/client-kms";
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  PutObjectLockConfigurationCommand,
  PutObjectRetentionCommand,
} from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { z } from "zod";
import { Manifest, Opened, Restored } from "../../runbooks/lib/backup-records.ts";
import { checkBackups } from "../../runbooks/lib/drift-backups.ts";
import { DriftReport, type Finding, findingId, type Unchecked } from "../../runbooks/lib/findings.ts";
import { loadSettings } from "../../runbooks/lib/settings.ts";
import { Vault } from "../../runbooks/lib/vault.ts";
import { awsClient } from "../../scripts/lab/cloud.ts";
import {
  BACKUP_KEY_ALIAS,
  BACKUPS,
  type BackupDay,
  backupKey,
  CANARY,
  dayOf,
  MANIFEST,
  markName,
  metadataPath,
  recordPath,
  SNAPSHOT,
} from "../../stacks/names.ts";
import { canary, run, s3 } from "./backup.ts";
import { checkDrift, READER, settingsFile } from "./drift.ts";
import { lab, vault } from "./lab.ts";
import { withS3Window } from "./s3-window.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
let count = 0;

/** A bucket of its own, and settings that name it. */
class Place {
  readonly Bucket = `drift-${process.pid}-${++count}`;
  readonly env: Record<string, string>;

  private constructor(backup: object) {
    const file = settingsFile(this.Bucket);
    const own = parse(readFileSync(`${lab.place.dir}/recovery.yaml`, "utf8")) as { backup: object };
    const section = {
      ...own.backup,
      bucket: this.Bucket,
      metrics_file: `metrics/${this.Bucket}.prom`,
      ...backup,
    };
    writeFileSync(file, stringify({ ...own, backup: section }));
    this.env = { RECOVERY_CONFIG: file };
  }

  static async make(backup = {}): Promise<Place> {
    const place = new Place(backup);
    const { Bucket } = place;
    await s3.send(new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket: true }));
    const DefaultRetention = { Mode: "GOVERNANCE", Days: 1 } as const;
    await s3.send(
      new PutObjectLockConfigurationCommand({
        Bucket,
        ObjectLockConfiguration: { ObjectLockEnabled: "Enabled", Rule: { DefaultRetention } },
      }),
    );
    return place;
  }

  async put(Key: string, Body: Buffer | string): Promise<string> {
    return (await s3.send(new PutObjectCommand({ Bucket: this.Bucket, Key, Body }))).VersionId ?? "";
  }

  async versions(): Promise<{ Key: string; VersionId: string }[]> {
    const { Versions = [], DeleteMarkers = [] } = await s3.send(
      new ListObjectVersionsCommand({ Bucket: this.Bucket, Prefix: BACKUPS }),
    );
    return [...Versions, ...DeleteMarkers].map(({ Key = "", VersionId = "" }) => ({ Key, VersionId }));
  }

  /** Lets go of a version's lock; moto lets it be shortened, S3 never would. */
  async unlock(at: { Key: string; VersionId: string }): Promise<void> {
    const Retention = { Mode: "GOVERNANCE", RetainUntilDate: new Date(Date.now() - 60_000) } as const;
    const how = { Bucket: this.Bucket, ...at, BypassGovernanceRetention: true };
    await s3.send(new PutObjectRetentionCommand({ ...how, Retention }));
  }

  /** For good. */
  async remove(which: (key: string) => boolean): Promise<void> {
    for (const at of (await this.versions()).filter(({ Key }) => which(Key))) {
      await this.unlock(at).catch(() => {});
      await s3.send(new DeleteObjectCommand({ Bucket: this.Bucket, ...at, BypassGovernanceRetention: true }));
    }
  }

  /** In this process: a runbook of its own for each of thirty looks would take most of the time. */
  async check(): Promise<{ found: string[]; unchecked: Unchecked[]; findings: Finding[] }> {
    const settings = loadSettings({ RECOVERY_CONFIG: this.env.RECOVERY_CONFIG });
    const report = new DriftReport();
    const access = { addr: lab.place.vaultAddr, namespace: undefined, ca: undefined };
    const vault = Vault.withToken({ ...access, token: READER.VAULT_TOKEN });
    await checkBackups({
      ...{ env: process.env, signal: new AbortController().signal, settings, report, progress: () => {} },
      ...{ tenants: [], inVault: undefined, stacks: undefined, platform: true, vault: async () => vault },
    });
    const { findings, unchecked } = report;
    return { found: findings.map(findingId).sort(), unchecked, findings };
  }

  async expectFound(...ids: string[]): Promise<void> {
    const { found, unchecked } = await this.check();
    expect({ found, unchecked }).toEqual({
      found: ids.map((id) => `backups/${id.replace("%", this.Bucket)}`),
      unchecked: [],
    });
  }
}

// The SDK takes its login and endpoint from the process.
Object.assign(process.env, lab.variables);

/** The one real backup that the others are copies of, under other dates. */
let real: { manifest: Manifest; bytes: Buffer };
let place: Place;

async function backUp(at: Place): Promise<void> {
  for (const args of [["backup-vault"], ["verify-backup", "--date", "latest"]]) {
    const { code, stderr } = await run(args, at.env);
    expect(code, stderr).toBe(0);
  }
}

// Vault's canary speaks of the last backup, whichever bucket that is in: it is given back as it was.
const before = await vault("GET", recordPath(CANARY, "admin")).then(
  (answer) =>
    z.object({ data: z.object({ data: z.record(z.string(), z.unknown()) }) }).parse(answer).data.data,
  () => undefined,
);
afterAll(async () => {
  if (before === undefined) await vault("DELETE", metadataPath(CANARY, "admin"));
  else
    await vault("POST", recordPath(CANARY, "admin"), {
      data: before,
      options: { cas: (await canary()).version },
    });
});

beforeAll(async () => {
  place = await Place.make();
  await backUp(place);
  const read = async (Key: string) => {
    const found = await s3.send(new GetObjectCommand({ Bucket: place.Bucket, Key }));
    return Buffer.from((await found.Body?.transformToByteArray()) ?? []);
  };
  const day = dayOf(new Date());
  const manifest = Manifest.parse(JSON.parse((await read(backupKey(day, MANIFEST))).toString()));
  real = { manifest, bytes: await read(backupKey(day, SNAPSHOT)) };
});

interface Like {
  at: Date;
  opened?: boolean;
  restored?: Date;
  manifest?: Partial<Manifest>;
}

async function copy(to: Place, { at, opened = true, restored, manifest = {} }: Like): Promise<string> {
  const date: BackupDay = dayOf(at);
  const object = backupKey(date, SNAPSHOT);
  const version_id = await to.put(object, real.bytes);
  const canary = { ...real.manifest.canary, date, written: at.toISOString() };
  const made = Manifest.parse({ ...real.manifest, date, object, version_id, canary, ...manifest });
  await to.put(backupKey(date, MANIFEST), JSON.stringify(made));
  const mark = { format: 1, date, version_id, run: "copied", seconds: 1 };
  if (opened) {
    const content = { ...mark, plain_sha256: made.plain_sha256, canary, key: "k", at: at.toISOString() };
    await to.put(backupKey(date, markName("opened", at)), JSON.stringify(Opened.parse(content)));
  }
  if (restored !== undefined) {
    const content = Restored.parse({ ...mark, at: restored.toISOString(), tenants: [] });
    await to.put(backupKey(date, markName("restored", restored)), JSON.stringify(content));
  }
  return version_id;
}

const ago = (milliseconds: number): Date => new Date(Date.now() - milliseconds);

test("a backup that was made and opened is no drift, twice, and nothing is written", async () => {
  const before = await place.versions();
  await withS3Window(async (window) => {
    for (const _ of [1, 2]) {
      const { found, unchecked, code, stderr } = await checkDrift(["--only", "backups"], {
        ...place.env,
        ...window.env,
      });
      expect({ found, unchecked, code }, stderr).toEqual({ found: [], unchecked: [], code: 0 });
    }
    const others = window.calls.filter((call) => !/^(?:GET|HEAD) /.test(call));
    // KMS is asked by POST, whatever for.
    expect([...new Set(others)]).toEqual(["POST / TrentService.DescribeKey"]);
    expect(window.calls.length).toBeGreaterThan(5);
  });
  expect(await place.versions()).toEqual(before);
});

describe("a backup", () => {
  test("that somebody deleted for good is missing, until a new one is made", async () => {
    const at = await Place.make();
    await backUp(at);
    await at.expectFound();
    await at.remove(() => true);
    await at.expectFound("backup-missing/%");
    await backUp(at);
    await at.expectFound();
    await at.remove((key) => key.endsWith(SNAPSHOT));
    const key = backupKey(dayOf(new Date()), MANIFEST);
    const [id] = (await at.versions()).filter(({ Key }) => Key === key).map(({ VersionId }) => VersionId);
    await at.expectFound(`backup-damaged/%/${key} ${id}`);
    // From here on Vault's canary is the one of this backup, and so has to be that of the copies.
    real.manifest = { ...real.manifest, canary: await canaryIn(at) };
  });

  test("under a delete marker, or under what somebody put over it, is hidden", async () => {
    const at = await Place.make();
    await copy(at, { at: ago(HOUR) });
    const Key = backupKey(dayOf(ago(HOUR)), SNAPSHOT);
    const marker = await s3.send(new DeleteObjectCommand({ Bucket: at.Bucket, Key }));
    await at.expectFound(`backup-hidden/%/${Key}`);
    await s3.send(new DeleteObjectCommand({ Bucket: at.Bucket, Key, VersionId: marker.VersionId }));
    await at.expectFound();
    const VersionId = await at.put(Key, "junk");
    await at.expectFound(`backup-hidden/%/${Key}`);
    await at.unlock({ Key, VersionId });
    await s3.send(
      new DeleteObjectCommand({ Bucket: at.Bucket, Key, VersionId, BypassGovernanceRetention: true }),
    );
    await at.expectFound();
  });

  test("of other bytes than were stored is corrupted; of another length, damaged", async () => {
    const at = await Place.make();
    const id = await copy(at, { at: ago(HOUR), manifest: { sealed_sha256: "0".repeat(64) } });
    await at.expectFound(`backup-corrupted/%/${backupKey(dayOf(ago(HOUR)), SNAPSHOT)} ${id}`);
    const other = await Place.make();
    await copy(other, { at: ago(HOUR), manifest: { sealed_bytes: real.bytes.length + 1 } });
    const key = backupKey(dayOf(ago(HOUR)), MANIFEST);
    const version = (await other.versions()).find(({ Key }) => Key === key)?.VersionId;
    const { found } = await other.check();
    expect(found).toContain(`backups/backup-damaged/${other.Bucket}/${key} ${version}`);
  });

  test("grown old is too old, and a younger one that nobody opened doesn't count", async () => {
    const at = await Place.make();
    await copy(at, { at: ago(25 * HOUR) });
    await at.expectFound("backup-old/%");
    await copy(at, { at: ago(HOUR), opened: false });
    const { found, findings } = await at.check();
    expect(found).toEqual([`backups/backup-old/${at.Bucket}`]);
    expect(findings[0]?.mend).toBe("npx runbook verify-backup");
    await copy(at, { at: ago(24 * HOUR) });
    await at.expectFound();
  });

  test("that nothing locks is told", async () => {
    const at = await Place.make();
    await copy(at, { at: ago(HOUR) });
    for (const one of await at.versions()) await at.unlock(one);
    const Key = backupKey(dayOf(ago(HOUR)), SNAPSHOT);
    const version = (await at.versions()).find((one) => one.Key === Key)?.VersionId;
    await at.expectFound(`backup-unlocked/%/${Key} ${version}`);
  });
});

test("a restore that is due names the command that proves the newest backup", async () => {
  const at = await Place.make();
  const mend = async () =>
    (await at.check()).findings.find(({ kind }) => kind === "restore-due")?.mend.split(/ +#/)[0];
  await copy(at, { at: ago(36 * DAY), manifest: { seal_type: "awskms" } });
  await copy(at, { at: ago(2 * HOUR) });
  expect(await mend()).toBe("npx runbook verify-backup --restore");
  await copy(at, { at: ago(HOUR), manifest: { seal_type: "awskms" } });
  expect(await mend()).toBe("npx runbook verify-backup --restore --into ADDR");
});

test("a month of backups: a restore that is due, a day without one, and old ones that nobody prunes", async () => {
  const at = await Place.make();
  await Promise.all(Array.from({ length: 37 }, (_, day) => copy(at, { at: ago(day * DAY + HOUR) })));
  await at.expectFound("restore-due/%");
  await copy(at, { at: ago(2 * DAY + 2 * HOUR), restored: ago(34 * DAY) });
  await at.expectFound();
  const gone = dayOf(ago(10 * DAY + HOUR));
  await at.remove((key) => key.includes(gone));
  await at.expectFound("days-missing/%");
  await copy(at, { at: ago(10 * DAY + HOUR) });
  for (const day of [38, 39, 40]) await copy(at, { at: ago(day * DAY + HOUR) });
  await at.expectFound();
  const old = dayOf(ago(39 * DAY + HOUR));
  // The first of a month stays for a year, whichever day that is.
  const days = [38, 39, 40].map((day) => dayOf(ago(day * DAY + HOUR))).filter((day) => !day.endsWith("-01"));
  for (const one of await at.versions())
    if (days.some((day) => one.Key.includes(day)) && !one.Key.includes(`${old.slice(0, 7)}-01`))
      await at.unlock(one);
  await at.expectFound("pruning-due/%");
});

describe("the keys", () => {
  const kms = new KMSClient(awsClient(lab.place.awsEndpoint));
  let KeyId = "";
  beforeAll(async () => {
    KeyId = (await kms.send(new DescribeKeyCommand({ KeyId: BACKUP_KEY_ALIAS }))).KeyMetadata?.KeyId ?? "";
  });
  afterAll(() => kms.send(new EnableKeyCommand({ KeyId })));

  test("a KMS key that is disabled can't be used, until it is enabled", async () => {
    const at = await Place.make();
    await copy(at, { at: ago(HOUR) });
    await kms.send(new DisableKeyCommand({ KeyId }));
    await at.expectFound(`kms-key-unusable/%/${BACKUP_KEY_ALIAS}`);
    await kms.send(new EnableKeyCommand({ KeyId }));
    await at.expectFound();
  });

  test("an offline key that is another one than the backups are sealed to is one finding", async () => {
    const { publicKey } = generateKeyPairSync("rsa", {
      modulusLength: 4096,
      publicKeyEncoding: { type: "spki", format: "pem" },
      privateKeyEncoding: { type: "pkcs8", format: "pem" },
    });
    const at = await Place.make({ recovery_public_keys: [publicKey] });
    await copy(at, { at: ago(HOUR) });
    await at.expectFound("sealed-to-others/%");
  });
});

test("without a bucket, and with one that isn't there, backups are not checked; and Vault away, the rest is", async () => {
  const at = await Place.make();
  const none = await checkDrift(["--only", "backups"], { ...at.env, AWS_ENDPOINT_URL: "http://127.0.0.1:9" });
  expect([none.code, none.found, none.unchecked.map(({ about }) => about)]).toEqual([1, [], ["bucket"]]);
  await copy(at, { at: ago(30 * HOUR) });
  const token = await checkDrift(["--only", "backups"], { ...at.env, VAULT_TOKEN: "hvs.wrong" });
  expect(token.found).toEqual([`backups/backup-old/${at.Bucket}`]);
  expect(token.unchecked.map(({ about }) => about)).toEqual(["canary"]);
  expect(token.code).toBe(7);
});

async function canaryIn(at: Place): Promise<Manifest["canary"]> {
  const Key = backupKey(dayOf(new Date()), MANIFEST);
  const found = await s3.send(new GetObjectCommand({ Bucket: at.Bucket, Key }));
  return Manifest.parse(JSON.parse((await found.Body?.transformToString()) ?? "")).canary;
}
