// The IAM roles as a server enforces them: each with its own policy, its own keys and a client of the test's own. What a
// condition asks for (TLS, the caller's role) no lab can enforce; KMS is looked at in the policies alone.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  CreateAccessKeyCommand,
  CreateUserCommand,
  IAMClient,
  PutUserPolicyCommand,
} from "@aws-sdk/client-iam";
import {
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  GetObjectRetentionCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  PutObjectRetentionCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { REPOSITORY } from "../../../scripts/toolchain/paths.ts";
import { BACKUP_ROLES, type BackupRole, roleName } from "../../../stacks/platform/account.ts";
import { permissions } from "../../../stacks/platform/iam.ts";
import { Moto } from "../../runbooks/lib/fixtures/moto.ts";
import { Running } from "../../runbooks/lib/fixtures/process.ts";
import { partsOf, seedSome } from "../../runbooks/lib/fixtures/seeded-backup.ts";

const at = {
  backupName: "backups",
  auditName: "audit",
  wrappingKey: "arn:aws:kms:eu-central-1:123456789012:key/wrapping",
  bucketKey: "arn:aws:kms:eu-central-1:123456789012:key/bucket",
};
const DAY = "backups/2026-02-28";
const OBJECTS = {
  snapshot: `${DAY}/vault-snapshot.enc`,
  manifest: `${DAY}/manifest.json`,
  opened: `${DAY}/opened-20260228T030000Z.json`,
  restored: `${DAY}/restored-20260228T040000Z.json`,
};
const folder = mkdtempSync(join(tmpdir(), "iam-"));
let moto: Moto;
let some: Awaited<ReturnType<typeof seedSome>>;
const versions = new Map<string, string>();
const keys = new Map<string, Record<string, string>>();

beforeAll(async () => {
  moto = await Moto.start();
  for (const bucket of [at.backupName, at.auditName]) await moto.makeBucket(bucket);
  for (const Key of Object.values(OBJECTS)) versions.set(Key, await put(at.backupName, Key));
  for (const Key of ["tombstones/acme.json", "audit/chain/1.json"]) await put(at.auditName, Key);
  for (const role of BACKUP_ROLES) await makeUser(roleName(role), permissions(role, at));
  const noSnapshots = { Effect: "Deny", Action: ["s3:DeleteObjectVersion"], Resource: "arn:aws:s3:::*.enc" };
  const { Version, Statement } = permissions("pruner", at);
  await makeUser("halfway", { Version, Statement: [...Statement, noSnapshots] });
  const nothing = { Effect: "Deny", Action: ["s3:*"], Resource: "*" };
  await makeUser("nobody", { Version: "2012-10-17", Statement: [nothing] });
  some = await seedSome(async (Key, body, day) => ({
    Key,
    VersionId: await put(at.backupName, Key, body, day),
  }));
  // From here on every request needs a right.
  await fetch(`${moto.env.AWS_ENDPOINT_URL}/moto-api/reset-auth`, { method: "POST", body: "0" });
});
afterAll(async () => {
  await moto.down();
  rmSync(folder, { recursive: true });
});

async function put(Bucket: string, Key: string, Body = "{}", uploaded?: string): Promise<string> {
  const Metadata = uploaded === undefined ? {} : { "lab-uploaded": `${uploaded}T02:10:00` };
  return (await moto.s3.send(new PutObjectCommand({ Bucket, Key, Body, Metadata }))).VersionId ?? "";
}

async function makeUser(UserName: string, policy: object): Promise<void> {
  const credentials = { accessKeyId: "test", secretAccessKey: "test" };
  const iam = new IAMClient({ endpoint: moto.env.AWS_ENDPOINT_URL ?? "", region: "us-east-1", credentials });
  await iam.send(new CreateUserCommand({ UserName }));
  const PolicyDocument = JSON.stringify(policy);
  await iam.send(new PutUserPolicyCommand({ UserName, PolicyName: "own", PolicyDocument }));
  const { AccessKey } = await iam.send(new CreateAccessKeyCommand({ UserName }));
  keys.set(UserName, {
    AWS_ACCESS_KEY_ID: AccessKey?.AccessKeyId ?? "",
    AWS_SECRET_ACCESS_KEY: AccessKey?.SecretAccessKey ?? "",
  });
}

function clientOf(role: BackupRole): S3Client {
  const { AWS_ACCESS_KEY_ID: accessKeyId = "", AWS_SECRET_ACCESS_KEY: secretAccessKey = "" } =
    keys.get(roleName(role)) ?? {};
  return new S3Client({
    endpoint: moto.env.AWS_ENDPOINT_URL ?? "",
    region: "eu-central-1",
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
  });
}

/** Whether the server lets it; any other refusal fails the test. */
async function may(role: BackupRole, act: (s3: S3Client) => Promise<unknown>): Promise<boolean> {
  try {
    await act(clientOf(role));
    return true;
  } catch (error) {
    expect((error as Error).name, String(error)).toMatch(/AccessDenied|NoSuchObjectLockConfiguration/);
    return (error as Error).name === "NoSuchObjectLockConfiguration";
  }
}

const read = (Bucket: string, Key: string) => (s3: S3Client) =>
  s3.send(new GetObjectCommand({ Bucket, Key, VersionId: versions.get(Key) }));
const write = (Key: string) => (s3: S3Client) =>
  s3.send(new PutObjectCommand({ Bucket: at.backupName, Key, Body: "{}" }));
const locks = (Key: string) => (s3: S3Client) =>
  s3.send(new GetObjectRetentionCommand({ Bucket: at.backupName, Key, VersionId: versions.get(Key) }));

describe("the roles, as enforced", () => {
  const { snapshot, manifest, opened, restored } = OBJECTS;
  const all = [...BACKUP_ROLES];
  test.each<[string, (s3: S3Client) => Promise<unknown>, BackupRole[]]>([
    ["list by version", (s3) => s3.send(new ListObjectVersionsCommand({ Bucket: at.backupName })), all],
    ["read a manifest", read(at.backupName, manifest), all],
    ["read a mark", read(at.backupName, opened), all],
    ["read a snapshot", read(at.backupName, snapshot), ["backup", "verifier", "restorer", "drift"]],
    ["ask for a lock", locks(snapshot), ["verifier", "pruner", "drift"]],
    ["store a snapshot", write(snapshot), ["backup"]],
    ["store a manifest", write(manifest), ["backup"]],
    ["say that it was opened", write(opened), ["verifier"]],
    ["say that it was restored", write(restored), ["verifier", "restorer"]],
    ["store what is foreign", write("backups/notes.txt"), []],
    ["read a tombstone", read(at.auditName, "tombstones/acme.json"), ["restorer"]],
    ["read the audit log", read(at.auditName, "audit/chain/1.json"), all.filter((role) => role !== "drift")],
    [
      "change a tombstone",
      (s3) =>
        s3.send(new PutObjectCommand({ Bucket: at.auditName, Key: "tombstones/acme.json", Body: "{}" })),
      [],
    ],
    [
      "lock for longer",
      (s3) =>
        s3.send(
          new PutObjectRetentionCommand({
            Bucket: at.backupName,
            Key: restored,
            VersionId: versions.get(restored),
            Retention: { Mode: "GOVERNANCE", RetainUntilDate: new Date(Date.now() + 86_400_000) },
          }),
        ),
      ["verifier"],
    ],
    [
      "delete a version",
      (s3) =>
        s3.send(
          new DeleteObjectCommand({
            Bucket: at.backupName,
            Key: snapshot,
            VersionId: versions.get(snapshot),
          }),
        ),
      ["pruner"],
    ],
    [
      "hide one",
      (s3) => s3.send(new DeleteObjectCommand({ Bucket: at.backupName, Key: snapshot })),
      ["pruner"],
    ],
    [
      "delete versions together",
      async (s3) => {
        const Objects = [{ Key: opened, VersionId: versions.get(opened) }];
        const done = await s3.send(new DeleteObjectsCommand({ Bucket: at.backupName, Delete: { Objects } }));
        for (const { Code, Message } of done.Errors ?? [])
          throw Object.assign(new Error(Message), { name: Code });
      },
      ["pruner"],
    ],
  ])("may %s", async (_what, act, allowed) => {
    const found: BackupRole[] = [];
    for (const role of BACKUP_ROLES) if (await may(role, act)) found.push(role);
    expect(found).toEqual(allowed);
  });
});

describe("prune-backups", () => {
  const names = (all: { Key?: string | undefined; VersionId?: string | undefined }[]) =>
    all.map((one) => `${one.Key} ${one.VersionId}`);
  const there = async () =>
    names(
      (await clientOf("restorer").send(new ListObjectVersionsCommand({ Bucket: at.backupName }))).Versions ??
        [],
    );
  async function prune(who: string): Promise<{ code: number | null; stderr: string }> {
    const [settings, log] = [join(folder, "recovery.yaml"), join(folder, "audit.jsonl")];
    const text = `vault: {addr: "http://127.0.0.1:1"}\naudit: {log: ${log}}\nbackup: {bucket: ${at.backupName}}\n`;
    writeFileSync(settings, text);
    const env = { ...moto.env, ...keys.get(who), RECOVERY_CONFIG: settings };
    const run = new Running(join(REPOSITORY, "runbooks", "main.ts"), ["prune-backups", "--yes", "--json"], {
      env,
    });
    const { code } = await run.ended();
    return { code, stderr: run.stderr };
  }

  test.each(["nobody", roleName("backup"), roleName("verifier")])(
    "as %s is exit 3, says whose role it takes, and deletes nothing",
    async (who) => {
      const before = await there();
      const { code, stderr } = await prune(who);
      expect(code, stderr).toBe(3);
      expect(stderr).toContain("IAM role penguinmails-pruner");
      expect(await there()).toEqual(before);
    },
  );

  test("that may delete no snapshot deletes what it may, says so, and is completed by who may", async () => {
    const halfway = await prune("halfway");
    expect(halfway.code, halfway.stderr).toBe(3);
    expect(halfway.stderr).toContain("refused to delete 4 versions");
    const parts = some.go.flatMap(partsOf);
    const snapshots = names([...some.go.map(({ snapshot }) => snapshot), some.left]);
    const left = await there();
    expect(left).toEqual(expect.arrayContaining([...snapshots, ...names(some.stay.flatMap(partsOf))]));
    for (const gone of names(parts).filter((one) => !snapshots.includes(one)))
      expect(left).not.toContain(gone);

    const whole = await prune(roleName("pruner"));
    expect(whole.code, whole.stderr).toBe(0);
    const now = await there();
    for (const gone of [...names(parts), ...snapshots]) expect(now).not.toContain(gone);
    expect(now).toEqual(expect.arrayContaining(names(some.stay.flatMap(partsOf))));
  });
});
