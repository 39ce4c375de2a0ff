// A tenant is taken away for good: what can't be undone comes last, whoever finishes it, and its id isn't given away by
// accident.
import { beforeAll, describe, expect, test } from "vitest";
import { thisHolder } from "../../runbooks/lib/holder.ts";
import { canLogIn, decrypt, dns, readRecord, versions } from "../../scripts/drill/doors.ts";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import { mailHost } from "../../stacks/names.ts";
import { vaultState, writeRecord } from "./door.ts";
import { withFaults } from "./faults.ts";
import { killedAt } from "./killed.ts";
import { addressOf, lab, runbook } from "./lab.ts";
import { living } from "./living.ts";
import {
  BOTH,
  events,
  keyOf,
  offboard,
  offboardArgs,
  onboard,
  SHREDDER,
  stackIsEmpty,
  stored,
  tombstonesOf,
} from "./offboarded.ts";
import { rebuild } from "./rebuilt.ts";

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
    await killedAt(offboardArgs(tenant), "→ leave a tombstone");
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
