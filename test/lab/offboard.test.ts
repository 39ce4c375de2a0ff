// A tenant is taken away for good: what can't be undone comes last, whoever finishes it, and its id isn't given away by
// accident.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { GetObjectCommand, ListObjectVersionsCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { z } from "zod";
import { thisHolder } from "../../runbooks/lib/holder.ts";
import { canLogIn, decrypt, dns, readRecord, versions } from "../../scripts/drill/doors.ts";
import { awsClient } from "../../scripts/lab/cloud.ts";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import {
  AUDIT_BUCKET,
  BACKUP_BUCKET,
  mailHost,
  TRANSIT_MOUNT,
  tenantId,
  tenantStack,
} from "../../stacks/names.ts";
import { auditLog, vaultState, writeRecord } from "./door.ts";
import { withFaults } from "./faults.ts";
import { hostless } from "./hostless.ts";
import { begin, killedAt } from "./killed.ts";
import { addressOf, hosts, killVps, lab, pulumi, runbook, vault } from "./lab.ts";
import { living } from "./living.ts";
import { rebuild } from "./rebuilt.ts";
import { withWindow } from "./vault-window.ts";

// Stacks go up and down in most of these tests.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const Token = z.object({ auth: z.object({ client_token: z.string() }) });
const tokenWith = async (...policies: string[]): Promise<string> =>
  Token.parse(await vault("POST", "auth/token/create", { policies, ttl: "60m" })).auth.client_token;
const SHREDDER = { VAULT_TOKEN: await tokenWith("key-shredder") };
/** A person who may do all of it. */
const BOTH = { VAULT_TOKEN: await tokenWith("platform-admin", "key-shredder") };

const args = (tenant: LabTenant, ...more: string[]): string[] => [
  "offboard-tenant",
  "--tenant",
  tenant.id,
  "--reason",
  "contract ended",
  "--json",
  "--yes",
  "--name",
  tenant.id,
  ...more,
];
const offboard = (tenant: LabTenant, env: Record<string, string> = {}) => runbook(args(tenant), { env });
const onboard = (tenant: LabTenant, ...more: string[]) =>
  runbook(["onboard-tenant", "--tenant", tenant.id, "--domain", tenant.domain, "--yes", ...more]);

const s3 = new S3Client({ ...awsClient(lab.place.awsEndpoint), forcePathStyle: true });
afterAll(() => s3.destroy());

/** What lies under a name in the audit bucket. */
async function stored(name: string): Promise<Record<string, unknown>> {
  const found = await s3.send(new GetObjectCommand({ Bucket: AUDIT_BUCKET, Key: `tombstones/${name}` }));
  return JSON.parse((await found.Body?.transformToString()) ?? "");
}
async function tombstonesOf(tenant: LabTenant): Promise<string[]> {
  const Prefix = `tombstones/${tenant.id}.`;
  const found = await s3.send(new ListObjectVersionsCommand({ Bucket: AUDIT_BUCKET, Prefix }));
  return (found.Versions ?? []).map(({ Key }) => Key ?? "").sort();
}

const Event = z.looseObject({ event: z.string(), event_id: z.string(), tenant_id: z.string().optional() });
const events = async (tenant: LabTenant) =>
  (await auditLog())
    .trim()
    .split("\n")
    .map((line) => Event.parse(JSON.parse(line)))
    .filter(({ event, tenant_id }) => /offboarded|deleted/.test(event) && tenant_id === tenant.id);

const keyOf = (tenant: LabTenant): Promise<unknown> => vault("GET", `${TRANSIT_MOUNT}/keys/${tenant.id}`);
async function stackIsEmpty(tenant: LabTenant): Promise<boolean> {
  const exported = await pulumi(["stack", "export", "--stack", tenantStack(tenant.id)]);
  const state = z.object({ deployment: z.object({ resources: z.array(z.unknown()).optional() }) });
  return (state.parse(JSON.parse(exported.stdout)).deployment.resources ?? []).length === 0;
}

describe("a tenant on a host of the operator's own", () => {
  let tenant: LabTenant;
  let address: string;
  let admin: Awaited<ReturnType<typeof readRecord>>;
  let password: string;
  beforeAll(async () => {
    tenant = await living("leaving", "existing");
    address = await addressOf(tenant.id);
    admin = await readRecord(lab, tenant, "admin");
    password = await decrypt(lab, tenant, admin.fields.password);
  });

  test("is kept whole when Mailu takes the change and doesn't do it, or doesn't take it, or somebody is rotating", async () => {
    const { fields } = await readRecord(lab, tenant, "rotation");
    const holder = { ...thisHolder("a-run", "somebody"), pid: process.pid };
    await writeRecord(tenant, "rotation", { ...fields, state: "SET", holder });
    const held = await offboard(tenant);
    expect(held.code).toBe(4);
    expect(held.stderr).toMatch(/held by somebody on .*\nnext: {2}wait/);
    await writeRecord(tenant, "rotation", fields);
    const before = await vaultState(tenant);
    const ignored = await withFaults(tenant, { api: [{ match: "PATCH ", ignore: true }] }, () =>
      offboard(tenant),
    );
    expect(ignored.code).toBe(1);
    expect(ignored.stderr).toMatch(/is still enabled\nnext: {2}\S/);
    const broken = await withFaults(tenant, { api: [{ match: "PATCH ", status: 500 }] }, () =>
      offboard(tenant),
    );
    expect(broken.code).toBe(1);
    expect(broken.stderr).toMatch(/answered 500[\s\S]*next: {2}\S/);
    expect(await canLogIn(address, tenant, password)).toBe(true);
    expect(await tombstonesOf(tenant)).toEqual([]);
    expect(await stackIsEmpty(tenant)).toBe(false);
    expect(await vaultState(tenant)).toEqual(before);
  });

  test("can't be enabled again once its offboarding was begun", async () => {
    await killedAt(args(tenant), "→ leave a tombstone");
    expect(await canLogIn(address, tenant, password)).toBe(false);
    const again = await runbook(["recover-credentials", "--tenant", tenant.id, "--yes"]);
    expect(again.code).toBe(4);
    expect(again.stderr).toContain("it is being offboarded");
  });

  test("loses account, DNS and records; the key waits for a key-shredder, and the answer says so", async () => {
    const done = await offboard(tenant);
    expect(done.code, done.stderr).toBe(5);
    expect(done.stderr).toMatch(
      /next: {2}npx runbook offboard-tenant --tenant leaving --name leaving .*key-shredder/,
    );
    expect(JSON.parse(done.stdout)).toMatchObject({
      account: `admin@${tenant.domain} is disabled`,
      host: expect.stringContaining(`${address} is your own`),
      key: "waits for a key-shredder",
    });
    expect(await canLogIn(address, tenant, password)).toBe(false);
    expect(await dns(lab, tenant, mailHost(tenant.domain), "A")).toEqual([]);
    expect(await stackIsEmpty(tenant)).toBe(true);
    // Of all records the lock alone stays, and nobody takes it for a rotation to be finished.
    expect(Object.keys(await versions(lab, tenant))).toEqual(["rotation"]);
    const rotation = (await readRecord(lab, tenant, "rotation")).fields;
    expect(rotation).toMatchObject({ state: "RETIRED", holder: null, history: [], incident_id: null });
    expect(await decrypt(lab, tenant, admin.fields.password)).toBe(password);
    const sha256 = await crypto.subtle.digest("SHA-256", Buffer.from(String(admin.fields.password)));
    expect(await stored(`${tenant.id}.json`)).toMatchObject({
      tenant_id: tenant.id,
      domain: tenant.domain,
      reason: "contract ended",
      offboarded_by: expect.stringMatching(/\S/),
      vps_ip: address,
      own_host: true,
      records: {
        admin: { version: admin.version, ciphertext_sha256: Buffer.from(sha256).toString("hex") },
      },
      key: { version: 1 },
    });
    expect((await events(tenant)).map(({ event }) => event)).toEqual(["tenant_offboarded"]);
  });

  test("is no tenant any more for what is done to all, and its id isn't given away", async () => {
    const all = await runbook([
      "respond-to-compromise",
      "--incident",
      "INC-9",
      "--details",
      "x",
      "--all",
      "--dry-run",
    ]);
    expect(all.code, all.stderr).toBe(0);
    expect(all.stderr).not.toContain(`smtp/${tenant.id}`);
    const resumed = await runbook(["resume", "--all", "--json", "--yes"]);
    expect(resumed.stdout).not.toContain(tenant.id);
    for (const more of [[], ["--again"]]) {
      const refused = await onboard(tenant, ...more);
      expect(refused.code).toBe(4);
      expect(refused.stderr).toMatch(/leaving was offboarded at .*\nnext: {2}\S/);
    }
  });

  test("is finished by a key-shredder with the same command, and by nobody a second time", async () => {
    const done = await offboard(tenant, SHREDDER);
    expect(done.code, done.stderr).toBe(0);
    expect(JSON.parse(done.stdout)).toMatchObject({ key: "destroyed" });
    await expect(keyOf(tenant)).rejects.toThrow(/404/);
    await expect(decrypt(lab, tenant, admin.fields.password)).rejects.toThrow();
    const before = [await vaultState(tenant), await tombstonesOf(tenant), await events(tenant)];
    const again = await offboard(tenant);
    expect(again.code, again.stderr).toBe(0);
    expect(again.stderr).not.toContain("away for good?");
    expect([await vaultState(tenant), await tombstonesOf(tenant), await events(tenant)]).toEqual(before);
    expect((await events(tenant)).map(({ event }) => event)).toEqual([
      "tenant_offboarded",
      "transit_key_deleted",
    ]);
    expect((await runbook(["audit", "verify"])).code).toBe(0);
  });

  test("gives its id to another only when asked, who shares nothing with it and can leave in turn", async () => {
    expect((await onboard(tenant)).code).toBe(4);
    const done = await onboard(tenant, "--again");
    expect(done.code, done.stderr).toBe(0);
    expect((await onboard(tenant)).code).toBe(0);
    expect((await readRecord(lab, tenant, "rotation")).fields.offboarded).toBeUndefined();
    await expect(decrypt(lab, tenant, admin.fields.password)).rejects.toThrow();
    await rebuild(tenant);
    const second = await readRecord(lab, tenant, "admin");
    const left = await offboard(tenant, BOTH);
    expect(left.code, left.stderr).toBe(0);
    expect(await tombstonesOf(tenant)).toEqual([
      `tombstones/${tenant.id}.2.json`,
      `tombstones/${tenant.id}.json`,
    ]);
    expect(await stored(`${tenant.id}.2.json`)).toMatchObject({
      records: { admin: { version: second.version } },
    });
    expect(await events(tenant)).toHaveLength(4);
    expect((await onboard(tenant)).code).toBe(4);
  });
});

describe("a tenant on EC2", () => {
  test("whose offboarding dies at every step, one after the other, is gone in the end: one tombstone, one event each", async () => {
    const tenant = await living("dying", "ec2");
    const { fields } = await readRecord(lab, tenant, "admin");
    const dry = await runbook(args(tenant, "--dry-run"), { env: BOTH });
    const Steps = z.object({ steps: z.array(z.object({ title: z.string(), kind: z.string() })) });
    const titles = Steps.parse(JSON.parse(dry.stdout)).steps.filter(({ kind }) => kind === "change");
    expect(titles.length).toBeGreaterThan(7);
    const marks = titles.flatMap(({ title }) =>
      title.startsWith("take down")
        ? [`→ ${title}`, "deleting (0s)", " deleted (", `✓ ${title}`]
        : [`→ ${title}`],
    );
    let killed = 0;
    for (const mark of marks) {
      const run = begin(args(tenant), BOTH);
      // A step that takes a few milliseconds may be over before the signal comes.
      const died = await run.said(mark).then(
        () => true,
        () => false,
      );
      run.signal("SIGKILL");
      const ended = await run.ended;
      if (died && ended.code === null) killed += 1;
      else expect(ended.code, ended.stderr).toBe(0);
    }
    expect(killed).toBeGreaterThan(titles.length - 2);
    const done = await offboard(tenant, BOTH);
    expect(done.code, done.stderr).toBe(0);
    expect(await stackIsEmpty(tenant)).toBe(true);
    expect(await dns(lab, tenant, mailHost(tenant.domain), "A")).toEqual([]);
    expect(Object.keys(await versions(lab, tenant))).toEqual(["rotation"]);
    await expect(keyOf(tenant)).rejects.toThrow(/404/);
    await expect(decrypt(lab, tenant, fields.password)).rejects.toThrow();
    expect((await hosts()).filter(({ name, alive }) => alive && name.includes(tenant.id))).toEqual([]);
    expect(await tombstonesOf(tenant)).toEqual([`tombstones/${tenant.id}.json`]);
    expect((await events(tenant)).map(({ event }) => event).sort()).toEqual([
      "tenant_offboarded",
      "transit_key_deleted",
    ]);
  }, 600_000);

  test("whose host is dead goes all the same, and that is said", async () => {
    const tenant = await living("dead", "ec2");
    await killVps(tenant.id, "dead");
    const done = await offboard(tenant, BOTH);
    expect(done.code, done.stderr).toBe(0);
    expect(JSON.parse(done.stdout).account).toMatch(/^not disabled: Mailu on .* can't be asked/);
    expect(await stackIsEmpty(tenant)).toBe(true);
    expect(await stored(`${tenant.id}.json`)).toMatchObject({ own_host: false });
  });
});

describe("a tenant that never had a host", () => {
  test("goes too; what is wrong is named before anything changes; a dry run writes nothing", async () => {
    const tenant = await hostless("hostless");
    const before = [await vaultState(tenant), await auditLog()];
    const prober = { VAULT_TOKEN: await tokenWith("tenant-deployer") };
    const cases: [code: number, says: RegExp, argv: string[], env?: Record<string, string>][] = [
      [2, /--yes alone doesn't say yes to that\nnext: {2}add --name hostless/, args(tenant).slice(0, -2)],
      [2, /--name is acme, and not hostless/, args(tenant).with(-1, "acme")],
      [2, /Nobody is here to say yes/, args(tenant).toSpliced(6, 1)],
      [2, /Nothing is known of a tenant nobody/, args({ ...tenant, id: tenantId("nobody") })],
      [2, /--reason: takes a text/, args(tenant).with(4, " ")],
      [3, /Insufficient permissions: .* lacks .*delete on smtp\/metadata\/hostless\//, args(tenant), prober],
      [0, /would: delete mailu, dkim, admin from Vault/, args(tenant, "--dry-run")],
    ];
    for (const [code, says, argv, env = {}] of cases) {
      const done = await runbook(argv, { env });
      expect(done.code, done.stderr).toBe(code);
      expect(done.stderr).toMatch(says);
    }
    const calls = await withWindow(async ({ env, calls }) => {
      await runbook(args(tenant, "--dry-run"), { env });
      return calls;
    });
    expect(calls.filter((call) => !/^GET |^POST sys\/capabilities-self$/.test(call))).toEqual([]);
    expect([await vaultState(tenant), await auditLog(), await tombstonesOf(tenant)]).toEqual([...before, []]);
    const done = await offboard(tenant, BOTH);
    expect(done.code, done.stderr).toBe(0);
    expect(JSON.parse(done.stdout).account).toBe("there was no host, as far as Vault knows");
    expect(await versions(lab, tenant)).toEqual({});
  });

  test("is told how long backups hold it", async () => {
    const put = (day: string, until: number) =>
      s3.send(
        new PutObjectCommand({
          Bucket: BACKUP_BUCKET,
          Key: `backups/${day}/vault-snapshot.enc`,
          Body: "sealed",
          ObjectLockMode: "GOVERNANCE",
          ObjectLockRetainUntilDate: new Date(until),
        }),
      );
    // What other tests have stored in this lab is counted too.
    const listed = new ListObjectVersionsCommand({ Bucket: BACKUP_BUCKET, Prefix: "backups/" });
    const snapshots = async () =>
      (await s3.send(listed)).Versions?.filter(({ Key }) => Key?.endsWith("/vault-snapshot.enc")).length ?? 0;
    const before = await snapshots();
    const last = Date.UTC(2040, 0, 2, 3, 4, 5);
    await put("2026-01-01", last);
    // The same day once more: the older version is the one that holds longest.
    await put("2026-01-01", Date.UTC(2039, 0, 1));
    await put("2026-01-02", Date.UTC(2038, 0, 1));
    const done = await offboard(await hostless("held"), BOTH);
    expect(done.code, done.stderr).toBe(0);
    expect(JSON.parse(done.stdout).backups).toBe(
      `the last of ${before + 3} backups in s3://${BACKUP_BUCKET} is locked until ${new Date(last).toISOString()}`,
    );
  });

  test("is finished on another machine, which has nothing of the first but the audit store", async () => {
    const tenant = await hostless("moved");
    await killedAt(args(tenant), "→ delete mailu", { env: BOTH });
    const own = await readFile(join(lab.place.dir, "recovery.yaml"), "utf8");
    const RECOVERY_CONFIG = join(lab.place.dir, "other-machine.yaml");
    await writeFile(RECOVERY_CONFIG, own.replace("audit.jsonl", "other-machine/audit.jsonl"));
    const done = await offboard(tenant, { ...BOTH, RECOVERY_CONFIG });
    expect(done.code, done.stderr).toBe(0);
    expect(await tombstonesOf(tenant)).toHaveLength(1);
    const list = ["audit", "list", "--tenant", tenant.id, "--json"];
    const listed = await runbook(list, { env: { RECOVERY_CONFIG } });
    const { events: seen } = z.object({ events: z.array(Event) }).parse(JSON.parse(listed.stdout));
    expect(seen.map(({ event }) => event).sort()).toEqual(["tenant_offboarded", "transit_key_deleted"]);
  });

  test("leaves its tombstone beside the audit log where there is no bucket", async () => {
    const tenant = await hostless("no-bucket");
    const RECOVERY_CONFIG = join(lab.place.dir, "no-bucket.yaml");
    const own = await readFile(join(lab.place.dir, "recovery.yaml"), "utf8");
    const local = own.replace(/^ {2}bucket: .*\n/m, "").replace("audit.jsonl", "no-bucket/audit.jsonl");
    expect(local).not.toContain(AUDIT_BUCKET);
    await writeFile(RECOVERY_CONFIG, local);
    const done = await offboard(tenant, { ...BOTH, RECOVERY_CONFIG });
    expect(done.code, done.stderr).toBe(0);
    const file = join(lab.place.dir, "no-bucket", "audit.jsonl.tombstones", "no-bucket.json");
    expect(JSON.parse(await readFile(file, "utf8"))).toMatchObject({ tenant_id: "no-bucket" });
    const refused = await runbook(
      ["onboard-tenant", "--tenant", tenant.id, "--domain", tenant.domain, "--yes"],
      { env: { RECOVERY_CONFIG } },
    );
    expect(refused.code).toBe(4);
  });

  test("stays as it is while the audit store can't be reached", async () => {
    const tenant = await hostless("unreachable");
    const before = await vaultState(tenant);
    for (const run of [offboard(tenant, { AWS_ENDPOINT_URL: "http://127.0.0.9:9" })]) {
      const done = await run;
      expect(done.code, done.stderr).toBe(1);
      expect(done.stderr).toMatch(
        /tombstones in s3:\/\/.* can't be used[\s\S]*next: {2}mend the audit store/,
      );
    }
    expect(await vaultState(tenant)).toEqual(before);
  });
});
