// Backups as tests look at them: the runbooks run as automation runs them, and the bucket is seen through a client of
// the test's own.
import { createHash } from "node:crypto";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  PutObjectRetentionCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { expect } from "vitest";
import { parse, stringify } from "yaml";
import { z } from "zod";
import { readMetrics } from "../../runbooks/lib/backup-metrics.ts";
import { Manifest } from "../../runbooks/lib/backup-records.ts";
import { awsClient } from "../../scripts/lab/cloud.ts";
import { BACKUP_BUCKET, BACKUPS, CANARY, dayOf, recordPath } from "../../stacks/names.ts";
import { begin, type Running } from "./killed.ts";
import { lab, runbook, vault } from "./lab.ts";

export const s3 = new S3Client({ ...awsClient(lab.place.awsEndpoint), forcePathStyle: true });
export const Bucket = BACKUP_BUCKET;
export const today = () => dayOf(new Date());

/** Automation's own login; an empty token counts as none. */
export const AUTOMATION = {
  VAULT_TOKEN: "",
  VAULT_ROLE_ID: lab.backupRoleId,
  VAULT_SECRET_ID: lab.backupSecretId,
};

export interface Ended {
  code: number;
  stderr: string;
  /** The JSON document. */
  result: Record<string, unknown>;
}

/** Runs one of the backups' runbooks as automation. */
export async function run(args: string[], env: Record<string, string> = {}, input?: string): Promise<Ended> {
  const options = { env: { ...AUTOMATION, ...env }, ...(input === undefined ? {} : { input }) };
  const { code, stdout, stderr } = await runbook([...args, "--json", "--yes"], options);
  return { code, stderr, result: stdout === "" ? {} : (JSON.parse(stdout) as Record<string, unknown>) };
}

/** Starts `backup-vault`. */
export const beginBackup = (env: Record<string, string> = {}): Running =>
  begin(["backup-vault", "--yes"], { ...AUTOMATION, ...env });

/** Makes a backup, which must succeed; returns its manifest as it lies in the bucket. */
export async function backUp(env: Record<string, string> = {}): Promise<Manifest> {
  const { code, stderr, result } = await run(["backup-vault"], env);
  expect(code, stderr).toBe(0);
  const manifests = await manifestsOf(z.string().parse(result.date));
  const made = manifests.find(({ version_id }) => version_id === result.version_id);
  if (made === undefined) throw new Error("the backup has no manifest");
  return made;
}

/** Every version of every object under `backups/`, the newest first; `Key VersionId`. */
export async function versions(prefix: string = BACKUPS): Promise<string[]> {
  const page = await s3.send(new ListObjectVersionsCommand({ Bucket, Prefix: prefix }));
  return (page.Versions ?? []).map(({ Key, VersionId }) => `${Key} ${VersionId}`);
}

export const unfinished = async (): Promise<number> =>
  ((await s3.send(new ListMultipartUploadsCommand({ Bucket }))).Uploads ?? []).length;

export async function bytesOf(Key: string, VersionId?: string): Promise<Buffer> {
  const found = await s3.send(new GetObjectCommand({ Bucket, Key, VersionId }));
  return Buffer.from((await found.Body?.transformToByteArray()) ?? []);
}

export async function put(Key: string, Body: Buffer | string): Promise<string> {
  return (await s3.send(new PutObjectCommand({ Bucket, Key, Body }))).VersionId ?? "";
}

/** All manifests of a day, each with an object that is there: a manifest without one fails here. */
export async function manifestsOf(day: string): Promise<Manifest[]> {
  const all = await versions(`${BACKUPS}${day}/`);
  const keys = all.map((one) => one.split(" ")).filter(([key]) => key?.endsWith("/manifest.json"));
  const found = await Promise.all(
    keys.map(async ([key = "", id]) => Manifest.parse(JSON.parse((await bytesOf(key, id)).toString()))),
  );
  for (const one of found)
    expect(all, "a manifest without its object").toContain(`${one.object} ${one.version_id}`);
  return found;
}

/**
 * Takes a backup's manifests and marks away: no other test is to come upon it. moto lets a lock be shortened; S3 never
 * would.
 */
export async function forget(version: string, day: string = today()): Promise<void> {
  for (const one of await versions(`${BACKUPS}${day}/`)) {
    const [Key, VersionId] = one.split(" ");
    if (!Key?.endsWith(".json")) continue;
    const found = JSON.parse((await bytesOf(Key, VersionId)).toString()) as { version_id: string };
    if (found.version_id !== version) continue;
    const Retention = { Mode: "GOVERNANCE", RetainUntilDate: new Date(Date.now() - 60_000) } as const;
    await s3.send(new PutObjectRetentionCommand({ Bucket, Key, VersionId, Retention }));
    await s3.send(new DeleteObjectCommand({ Bucket, Key, VersionId, BypassGovernanceRetention: true }));
  }
}

const Canary = z.object({
  data: z.object({
    data: z.object({
      date: z.string(),
      nonce: z.string(),
      written: z.string(),
      holder: z.record(z.string(), z.unknown()).nullable(),
    }),
    metadata: z.object({ version: z.number() }),
  }),
});

/** The canary as Vault has it. */
export async function canary() {
  const { data } = Canary.parse(await vault("GET", recordPath(CANARY, "admin")));
  return { ...data.data, version: data.metadata.version };
}

const METRICS = join(lab.place.dir, "metrics", "vault-backup.prom");
export const metrics = () => readMetrics(readFileSync(METRICS, "utf8"));
export const forgetMetrics = () => rmSync(METRICS, { force: true });

/** Details of the audit log's events of that name, in order. */
export function events(name: string): Record<string, unknown>[] {
  const lines = readFileSync(join(lab.place.dir, "audit.jsonl"), "utf8").trim().split("\n");
  return lines
    .map((line) => JSON.parse(line) as { event: string; details: Record<string, unknown> })
    .filter(({ event }) => event === name)
    .map(({ details }) => details);
}

/** The lab's settings with another `backup` section; undefined takes a key away. */
export function settingsWith(changes: Record<string, unknown>): Record<string, string> {
  const name = createHash("sha256").update(Object.entries(changes).flat().join()).digest("hex").slice(0, 8);
  const file = join(lab.place.dir, `recovery-${name}.yaml`);
  const document = parse(readFileSync(join(lab.place.dir, "recovery.yaml"), "utf8")) as {
    backup: Record<string, unknown>;
  };
  writeFileSync(file, stringify({ ...document, backup: { ...document.backup, ...changes } }));
  return { RECOVERY_CONFIG: file };
}
