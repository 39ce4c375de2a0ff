// What a reset finds in the tenant's rotation record: whatever lies there, no tenant is locked out of being reset.
import { describe, expect, test } from "vitest";
import { thisHolder } from "../../runbooks/lib/holder.ts";
import { readRecord } from "../../scripts/drill/doors.ts";
import { GLOBEX } from "../../scripts/lab/tenants.ts";
import { KV_MOUNT, metadataPath, recordPath, tenantId } from "../../stacks/names.ts";
import { awkwardPassword, encrypt, vaultState, writeRecord } from "./door.ts";
import { lab, runbook, vault } from "./lab.ts";
import {
  type Credential,
  credentialOf,
  events,
  expectIncomplete,
  expectReset,
  logsIn,
  newIncident,
  noticesOf,
  pendingRotation,
  reset,
  rotationOf,
} from "./resets.ts";

/** Resets the tenant once the record is as `prepare` leaves it; expects so many new versions. */
async function expectResetOver(
  prepare: (was: Credential) => Promise<unknown>,
  versions = 1,
): Promise<string> {
  const incident = newIncident("RECORD");
  const was = await credentialOf(GLOBEX);
  await prepare(was);
  const done = await reset(GLOBEX, incident);
  expect(done.code, done.stderr).toBe(0);
  await expectReset(GLOBEX, was, incident, { versions });
  return done.stderr;
}
const rotationVersion = async (): Promise<number> => (await readRecord(lab, GLOBEX, "rotation")).version;

describe("a rotation record", () => {
  test("that is empty counts as none", async () => {
    await expectResetOver(() => writeRecord(GLOBEX, "rotation", {}));
  });

  test("that nobody can read counts as none", async () => {
    await expectResetOver(async () =>
      writeRecord(GLOBEX, "rotation", { ...(await pendingRotation(GLOBEX, {})), password: "in the clear" }),
    );
  });

  test("that was deleted is written over, in the same order of versions", async () => {
    const version = await rotationVersion();
    await expectResetOver(() => vault("DELETE", recordPath(GLOBEX.id, "rotation")));
    expect(await rotationVersion()).toBeGreaterThan(version);
  });

  test("that was destroyed is written over, in the same order of versions", async () => {
    const version = await rotationVersion();
    await expectResetOver(() =>
      vault("PUT", `${KV_MOUNT}/destroy/${GLOBEX.id}/rotation`, { versions: [version] }),
    );
    expect(await rotationVersion()).toBeGreaterThan(version);
  });

  test("that was removed with its metadata is begun anew", async () => {
    await expectResetOver(() => vault("DELETE", metadataPath(GLOBEX.id, "rotation")));
  });

  test.each([
    { of: "of an earlier key", change: { state: "SET" } },
    { of: "of an earlier tenant's rebuild", change: { kind: "recovery", rotates: false } },
  ])("$of, whose password nobody can decrypt, is ended with a new one", async ({ change }) => {
    const password = `vault:v1:${Buffer.alloc(80, 7).toString("base64")}`;
    await expectResetOver(async () => {
      await writeRecord(GLOBEX, "rotation", await pendingRotation(GLOBEX, { password, ...change }));
    }, 2);
  });

  test("of long ago, overtaken by versions that nobody told it of, ends in a password that works", async () => {
    const incident = newIncident("STALE");
    const was = await credentialOf(GLOBEX);
    const password = awkwardPassword();
    await writeRecord(
      GLOBEX,
      "rotation",
      await pendingRotation(GLOBEX, {
        incident_id: incident,
        state: "SET",
        password: await encrypt(GLOBEX, password),
        base_version: was.version - 3,
        old_versions: [was.version - 3],
        started: "2024-01-01T00:00:00.000Z",
      }),
    );
    const done = await reset(GLOBEX, incident);
    expectIncomplete(done, /the old password can't be tried: .*too old/);
    const again = await reset(GLOBEX, incident);
    expect(again.code, again.stderr).toBe(0);
    expect((await expectReset(GLOBEX, was, incident)).password).toBe(password);
    expect(await rotationOf(GLOBEX)).toMatchObject({ old_versions: [was.version - 3, was.version] });
  });

  test("of another incident is finished first, under its own incident, run and actor", async () => {
    const [theirs, ours] = [newIncident("THEIRS"), newIncident("OURS")];
    const was = await credentialOf(GLOBEX);
    const password = awkwardPassword();
    const record = await pendingRotation(GLOBEX, {
      incident_id: theirs,
      password: await encrypt(GLOBEX, password),
    });
    await writeRecord(GLOBEX, "rotation", record);
    const done = await reset(GLOBEX, ours);
    expect(done.code, done.stderr).toBe(0);
    expect(done.stderr).toContain(`take over the rotation of incident ${theirs}, left pending (PREPARED)`);
    await expectReset(GLOBEX, was, ours, { versions: 2 });
    expect(await logsIn(GLOBEX, password)).toBe(false);
    const [first, second] = [await events(GLOBEX, theirs), await events(GLOBEX, ours)];
    expect(first.map(({ details }) => details)).toMatchObject([
      { version: was.version + 1, old_versions: [was.version], reset_by: "somebody" },
    ]);
    expect(second.map(({ details }) => details)).toMatchObject([
      { version: was.version + 2, old_versions: [was.version + 1] },
    ]);
    expect(new Set(noticesOf(theirs).map(({ id }) => id)).size).toBe(1);
    expect((await rotationOf(GLOBEX)).history).toEqual(
      expect.arrayContaining([
        { incident: theirs, version: was.version + 1 },
        { incident: ours, version: was.version + 2 },
      ]),
    );
  });

  test("of another incident that can't be ended yet lets none begin, and both end once it can", async () => {
    const [theirs, ours] = [newIncident("BLOCKED"), newIncident("WAITING")];
    const was = await credentialOf(GLOBEX);
    const password = await encrypt(GLOBEX, awkwardPassword());
    await writeRecord(GLOBEX, "rotation", await pendingRotation(GLOBEX, { incident_id: theirs, password }));
    const done = await reset(GLOBEX, ours, { AWS_ENDPOINT_URL: "http://127.0.0.9:9" });
    expectIncomplete(
      done,
      new RegExp(`rotation of incident ${theirs} must be over before another one begins`),
    );
    expect((await credentialOf(GLOBEX)).version).toBe(was.version + 1);
    expect(await rotationOf(GLOBEX)).toMatchObject({ state: "NOTIFIED", incident_id: theirs, holder: null });
    const again = await reset(GLOBEX, ours);
    expect(again.code, again.stderr).toBe(0);
    await expectReset(GLOBEX, was, ours, { versions: 2 });
    expect(await events(GLOBEX, theirs)).toHaveLength(1);
  });

  test("that a process of this machine holds, stopped for minutes, isn't taken from it: it is named, and the alarm is raised", async () => {
    const incident = newIncident("STUCK");
    const was = await credentialOf(GLOBEX);
    const long = new Date(Date.now() - 300_000).toISOString();
    const record = await pendingRotation(GLOBEX, {
      incident_id: incident,
      password: await encrypt(GLOBEX, awkwardPassword()),
    });
    // This very process stands for the stopped one: what counts is that it lives and says nothing.
    const holder = { ...thisHolder("stopped", "somebody"), since: long, heartbeat: long };
    await writeRecord(GLOBEX, "rotation", { ...record, holder });
    const left = await runbook(["resume", "--tenant", GLOBEX.id, "--yes", "--json"]);
    expectIncomplete(left, new RegExp(`globex: process ${process.pid} \\(somebody\\) .* not moved since`));
    expect(left.stderr).toContain(`next:  kill -CONT ${process.pid} `);
    expect((await readRecord(lab, GLOBEX, "rotation")).fields).toMatchObject({ holder });
    expect(
      noticesOf(incident)
        .map(({ text }) => text)
        .join(),
    ).toContain("rotation_interrupted");
    await writeRecord(GLOBEX, "rotation", record);
    const done = await runbook(["resume", "--tenant", GLOBEX.id, "--yes"]);
    expect(done.code, done.stderr).toBe(0);
    await expectReset(GLOBEX, was, incident);
  });

  test("of a tenant that is gone is named, and keeps nobody from finishing the others'", async () => {
    const ghost = { ...GLOBEX, id: tenantId("ghost"), domain: "ghost.example" };
    const incident = newIncident("GHOST");
    const was = await credentialOf(GLOBEX);
    const record = await pendingRotation(GLOBEX, {
      incident_id: incident,
      password: await encrypt(GLOBEX, awkwardPassword()),
    });
    await writeRecord(ghost, "rotation", record);
    try {
      const before = await vaultState(ghost);
      const done = await reset(ghost, incident);
      expect(done.code, done.stderr).toBe(2);
      expect(done.stderr).toMatch(/no admin, no server, no mailu record for tenant ghost\nnext: {2}\S/);
      const alone = await runbook(["resume", "--all", "--yes", "--json"]);
      expectIncomplete(alone, /ghost: Vault has no admin/);
      expect(await vaultState(ghost)).toEqual(before);
      await writeRecord(GLOBEX, "rotation", record);
      const both = await runbook(["resume", "--all", "--yes", "--json"]);
      expectIncomplete(both, /ghost: Vault has no admin/);
      expect(JSON.parse(both.stdout)).toMatchObject({
        finished: ["globex"],
        unfinished: [{ tenant: "ghost" }],
      });
      await expectReset(GLOBEX, was, incident);
    } finally {
      await vault("DELETE", metadataPath(ghost.id, "rotation"));
    }
  });
});
