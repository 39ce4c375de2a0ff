// A tenant that never had a host is taken away: what is refused, what backups still hold, and where its tombstone is
// left and found.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ListObjectVersionsCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { versions } from "../../scripts/drill/doors.ts";
import { AUDIT_BUCKET, BACKUP_BUCKET, tenantId } from "../../stacks/names.ts";
import { s3 } from "./backup.ts";
import { auditLog, vaultState } from "./door.ts";
import { hostless } from "./hostless.ts";
import { killedAt } from "./killed.ts";
import { lab, runbook } from "./lab.ts";
import { BOTH, Event, offboard, offboardArgs, tokenWith, tombstonesOf } from "./offboarded.ts";
import { withWindow } from "./vault-window.ts";

describe("a tenant that never had a host", () => {
  test("goes too; what is wrong is named before anything changes; a dry run writes nothing", async () => {
    const tenant = await hostless("hostless");
    const before = [await vaultState(tenant), await auditLog()];
    const prober = { VAULT_TOKEN: await tokenWith("tenant-deployer") };
    const cases: [code: number, says: RegExp, argv: string[], env?: Record<string, string>][] = [
      [
        2,
        /--yes alone doesn't say yes to that\nnext: {2}add --name hostless/,
        offboardArgs(tenant).slice(0, -2),
      ],
      [2, /--name is acme, and not hostless/, offboardArgs(tenant).with(-1, "acme")],
      [2, /Nobody is here to say yes/, offboardArgs(tenant).toSpliced(6, 1)],
      [2, /Nothing is known of a tenant nobody/, offboardArgs({ ...tenant, id: tenantId("nobody") })],
      [2, /--reason: takes a text/, offboardArgs(tenant).with(4, " ")],
      [
        3,
        /Insufficient permissions: .* lacks .*delete on smtp\/metadata\/hostless\//,
        offboardArgs(tenant),
        prober,
      ],
      [0, /would: delete mailu, dkim, admin from Vault/, offboardArgs(tenant, "--dry-run")],
    ];
    for (const [code, says, argv, env = {}] of cases) {
      const done = await runbook(argv, { env });
      expect(done.code, done.stderr).toBe(code);
      expect(done.stderr).toMatch(says);
    }
    const calls = await withWindow(async ({ env, calls }) => {
      await runbook(offboardArgs(tenant, "--dry-run"), { env });
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
    await killedAt(offboardArgs(tenant), "→ delete mailu", { env: BOTH });
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
