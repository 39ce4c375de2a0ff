// Others at the same tenant while it is reset: runs that were held up and overtaken, people who write to Vault, a second
// operator, a second machine, an operator who changes his mind. Only what Vault holds logs in, and each incident
// rotates once.
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { readRecord } from "../../scripts/drill/doors.ts";
import { ACME, GLOBEX } from "../../scripts/lab/tenants.ts";
import { personToken } from "../../scripts/lab/vault.ts";
import {
  auditLog,
  awkwardPassword,
  encrypt,
  mailuCalls,
  setInMailu,
  vaultState,
  writeRecord,
  writesOf,
} from "./door.ts";
import { withFaults, withGate } from "./faults.ts";
import { begin } from "./killed.ts";
import { lab } from "./lab.ts";
import {
  credentialOf,
  events,
  expectIncomplete,
  expectReset,
  logsIn,
  newIncident,
  noticesOf,
  pendingRotation,
  reset,
  resetArgs,
  rotationOf,
  until,
} from "./resets.ts";
import { newMachine } from "./second-machine.ts";
import { withWindow } from "./vault-window.ts";

const READS_RECORD = "GET smtp/data/globex/rotation";
const READS_ADMIN = "GET smtp/data/globex/admin";
const WRITES_RECORD = /^(?:POST|PUT) smtp\/data\/globex\/rotation$/;
const WRITES_ADMIN = /^(?:POST|PUT) smtp\/data\/globex\/admin$/;

test("a run stopped before its SET, overtaken, and by a later incident too, doesn't touch Mailu when it goes on", async () => {
  const [first, later] = [newIncident("STOPPED"), newIncident("LATER")];
  const was = await credentialOf(GLOBEX);
  const goOn = Promise.withResolvers<void>();
  // What it learned before it was stopped says that the record is its own: the look before SET is held back.
  let looks = 0;
  const stopped = await withWindow(
    async ({ env }) => {
      const calls = writesOf(await mailuCalls(GLOBEX));
      const run = begin(resetArgs(GLOBEX, first), env);
      await run.said("→ set the password");
      await until(() => looks === 3);
      run.signal("SIGSTOP");
      expect(writesOf(await mailuCalls(GLOBEX))).toEqual(calls);
      const second = await reset(GLOBEX, first, {}, "--take-over");
      expect(second.code, second.stderr).toBe(0);
      const third = await reset(GLOBEX, later);
      expect(third.code, third.stderr).toBe(0);
      const before = writesOf(await mailuCalls(GLOBEX));
      run.signal("SIGCONT");
      goOn.resolve();
      const ended = await run.ended;
      expect(writesOf(await mailuCalls(GLOBEX))).toEqual(before);
      return ended;
    },
    (call) => (call === READS_RECORD && ++looks === 3 ? goOn.promise : undefined),
  );
  // 5 where it was stopped for longer than it waits for an answer.
  expect([4, 5], stopped.stderr).toContain(stopped.code);
  expect(stopped.stderr).toMatch(/(?:took over its rotation|timeout of 10000ms)[\s\S]*^next: {2}\S/m);
  await expectReset(GLOBEX, was, later, { versions: 2 });
  expect(await events(GLOBEX, first)).toHaveLength(1);
});

test("a run whose SET was on its way for too long, and came after another's, puts right what it did", async () => {
  const [first, later] = [newIncident("SLOW"), newIncident("QUICK")];
  const was = await credentialOf(GLOBEX);
  const stopped = await withGate(GLOBEX, "PATCH /user/", async (gate) => {
    const sets = async () => (await mailuCalls(GLOBEX)).filter((call) => call.startsWith("PATCH ")).length;
    const before = await sets();
    const run = begin(resetArgs(GLOBEX, first));
    await gate.arrived();
    run.signal("SIGSTOP");
    // Overtaken by hand, in no time: finished, and another begun and finished.
    const password = awkwardPassword();
    await setInMailu(GLOBEX, password);
    const { fields } = await readRecord(lab, GLOBEX, "admin");
    const sealed = await encrypt(GLOBEX, password);
    await writeRecord(GLOBEX, "admin", { ...fields, password: sealed });
    const theirs = { incident_id: later, password: sealed, state: "CLEARED" };
    await writeRecord(GLOBEX, "rotation", await pendingRotation(GLOBEX, theirs));
    gate.open();
    await until(async () => (await sets()) === before + 2);
    expect(await logsIn(GLOBEX, password), "its SET came last").toBe(false);
    run.signal("SIGCONT");
    return run.ended;
  });
  expect(stopped.code, stopped.stderr).toBe(4);
  expect(stopped.stderr).toMatch(/took over its rotation/);
  const now = await credentialOf(GLOBEX);
  expect(now.version).toBe(was.version + 1);
  expect(await logsIn(GLOBEX, now.password)).toBe(true);
});

describe("somebody who writes the credential before the reset does", () => {
  /** Resets, and lets `write` happen between the look at the credential and the compare-and-set over it. */
  async function crossed(incident: string, write: () => Promise<unknown>): Promise<void> {
    let written = 0;
    let crossing: Promise<unknown> | undefined;
    const { ended, calls } = await withWindow(
      async ({ env, calls }) => ({ ended: await begin(resetArgs(GLOBEX, incident), env).ended, calls }),
      (call) => {
        if (WRITES_RECORD.test(call)) written += 1;
        // The third write says ACCEPTED; the next look is the one for the compare-and-set.
        if (call !== READS_ADMIN || written < 3 || crossing !== undefined) return undefined;
        crossing = write();
        return crossing;
      },
    );
    expect(ended.code, ended.stderr).toBe(0);
    expect(crossing).toBeDefined();
    expect(calls.filter((call) => WRITES_ADMIN.test(call))).toHaveLength(2);
  }

  test("keeps the fields that he wrote", async () => {
    const incident = newIncident("FIELDS");
    const was = await credentialOf(GLOBEX);
    const note = randomBytes(6).toString("hex");
    await crossed(incident, () => writeRecord(GLOBEX, "admin", { ...was.fields, note }));
    await expectReset(GLOBEX, was, incident, { versions: 2, fields: { note } });
  });

  test("finds his password replaced too, in Vault, in Mailu and among the marked ones", async () => {
    const incident = newIncident("PASSWORD");
    const was = await credentialOf(GLOBEX);
    const theirs = awkwardPassword();
    await crossed(incident, async () => {
      await setInMailu(GLOBEX, theirs);
      await writeRecord(GLOBEX, "admin", { ...was.fields, password: await encrypt(GLOBEX, theirs) });
    });
    await expectReset(GLOBEX, was, incident, { versions: 2 });
    expect(await logsIn(GLOBEX, theirs)).toBe(false);
    expect(await rotationOf(GLOBEX)).toMatchObject({
      old_versions: [was.version, was.version + 1],
      old_proof: "refused",
    });
  });
});

describe("a second operator", () => {
  const operator = () =>
    personToken(
      { addr: lab.place.vaultAddr, rootToken: lab.rootToken },
      `night-${randomBytes(3).toString("hex")}`,
      ["platform-admin"],
    );

  test("learns who is at the tenant and since when, and changes nothing", async () => {
    const [ours, theirs] = [newIncident("DAY"), newIncident("NIGHT")];
    const was = await credentialOf(GLOBEX);
    const VAULT_TOKEN = await operator();
    await withGate(GLOBEX, "PATCH /user/", async (gate) => {
      const run = begin(resetArgs(GLOBEX, ours));
      await gate.arrived();
      const { holder } = await rotationOf(GLOBEX);
      const {
        run: id,
        since,
        machine,
      } = z.object({ run: z.string(), since: z.string(), machine: z.string() }).parse(holder);
      const refused = await reset(GLOBEX, theirs, { VAULT_TOKEN });
      gate.open();
      expect(refused.code, refused.stderr).toBe(4);
      expect(refused.stderr).toContain(
        `held by token-operator on ${machine.split(" ")[0]} (run ${id}) since ${since}`,
      );
      expect(refused.stderr).toMatch(/next: {2}wait for it to end.*--take-over/);
      expect((await run.ended).code).toBe(0);
    });
    await expectReset(GLOBEX, was, ours);
    expect(await events(GLOBEX, theirs)).toEqual([]);
  });

  test("at the very same moment: one wins, the other is told", async () => {
    const incidents = [newIncident("LEFT"), newIncident("RIGHT")];
    const was = await credentialOf(GLOBEX);
    const both = Promise.withResolvers<void>();
    let arrived = 0;
    const busy = { api: [{ match: "PATCH /user/", delay: 6_000, times: 1 }] };
    const ended = await withFaults(GLOBEX, busy, () =>
      withWindow(
        ({ env }) => Promise.all(incidents.map((incident) => begin(resetArgs(GLOBEX, incident), env).ended)),
        undefined,
        (call) => {
          if (!WRITES_RECORD.test(call) || ++arrived > 2) return undefined;
          if (arrived === 2) both.resolve();
          return both.promise;
        },
      ),
    );
    expect(ended.map(({ code }) => code).sort(), ended.map(({ stderr }) => stderr).join("\n")).toEqual([
      0, 4,
    ]);
    const winner = incidents[ended.findIndex(({ code }) => code === 0)] ?? "";
    expect(ended.find(({ code }) => code === 4)?.stderr).toMatch(/held by token-operator on .* since 20/);
    await expectReset(GLOBEX, was, winner);
  });
});

test("two machines that respond to one incident share the tenants: each is rotated once, and told of once", async () => {
  const incident = newIncident("SHARED");
  const tenants = [ACME, GLOBEX];
  const was = await Promise.all(tenants.map(credentialOf));
  const machines = await Promise.all([newMachine(), newMachine()]);
  const args = ["respond-to-compromise", "--incident", incident, "--details", "a test", "--yes", "--json"];
  const slow = { api: [{ match: "PATCH /user/", delay: 3_000, times: 1 }] };
  const ended = await withFaults(ACME, slow, () =>
    withFaults(GLOBEX, slow, () =>
      Promise.all(machines.map((machine) => machine.runbook([...args, "--tenants", "acme,globex"]))),
    ),
  );
  for (const { code, stderr } of ended) expect(code, stderr).toBe(0);
  const done = ended.flatMap(
    ({ stdout }) => z.object({ done: z.array(z.string()) }).parse(JSON.parse(stdout)).done,
  );
  expect(done.sort()).toEqual(["acme", "globex"]);
  for (const [at, tenant] of tenants.entries()) {
    const before = was[at];
    if (before !== undefined) await expectReset(tenant, before, incident, { events: 0 });
  }
  // The alert of the reset, that of the response, and what the tenant is told.
  expect(new Set(noticesOf(incident).map(({ id }) => id)).size).toBe(2 * 3);
  for (const machine of machines) machine.lose();
});

describe("Ctrl-C", () => {
  test("before anything is changed ends at once and leaves nothing", async () => {
    const before = [await vaultState(GLOBEX), await auditLog()];
    const run = begin(resetArgs(GLOBEX, newIncident("EARLY")));
    await run.said("→ read the records");
    run.signal("SIGINT");
    const ended = await run.ended;
    expect(ended.code, ended.stderr).toBe(130);
    expect(ended.stderr).toMatch(/ended before anything was changed/);
    expect([await vaultState(GLOBEX), await auditLog()]).toEqual(before);
  });

  test("ends after the running step and says how to resume; the same command needn't wait", async () => {
    const incident = newIncident("CTRL-C");
    const was = await credentialOf(GLOBEX);
    const run = begin(resetArgs(GLOBEX, incident));
    await run.said("→ set the password");
    run.signal("SIGINT");
    const ended = await run.ended;
    expectIncomplete(ended, /Ending after this step; once more ends at once/);
    expect(ended.stderr).toMatch(/next: {2}the same command again resumes/);
    expect(ended.stderr).not.toContain("→ prove the new password");
    expect(await rotationOf(GLOBEX)).toMatchObject({ state: "SET", holder: null });
    const again = await reset(GLOBEX, incident);
    expect(again.code, again.stderr).toBe(0);
    await expectReset(GLOBEX, was, incident);
  });

  test("in a response to many ends after each tenant's running step, and says how to resume", async () => {
    const incident = newIncident("MANY");
    const was = { acme: await credentialOf(ACME), globex: await credentialOf(GLOBEX) };
    const args = ["respond-to-compromise", "--incident", incident, "--details", "a test", "--all", "--yes"];
    const ended = await withGate(GLOBEX, "PATCH /user/", async (gate) => {
      const run = begin(args);
      await gate.arrived();
      run.signal("SIGINT");
      gate.open();
      return run.ended;
    });
    expectIncomplete(ended, /next: {2}the same command again resumes/);
    expect(await rotationOf(GLOBEX)).toMatchObject({ state: "SET", holder: null });
    const again = await begin(args).ended;
    expect(again.code, again.stderr).toBe(0);
    await expectReset(GLOBEX, was.globex, incident);
    await expectReset(ACME, was.acme, incident);
  });
});
