// The rotation record in the hands of recover-credentials: compromised credentials, dead, stopped and living rivals,
// resets that cross its way. What counts at the end is always the same: only Vault's current password logs in.
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { canLogIn, decrypt, readRecord, versions } from "../../scripts/drill/doors.ts";
import { ACME, GLOBEX, type LabTenant } from "../../scripts/lab/tenants.ts";
import { metadataPath, TRANSIT_MOUNT } from "../../stacks/names.ts";
import {
  awkwardPassword,
  encrypt,
  mailuCalls,
  markCompromised,
  onHost,
  recoveries,
  setInMailu,
  writeRecord,
  writesOf,
} from "./door.ts";
import { withFaults, withGate } from "./faults.ts";
import { begin, killedAt } from "./killed.ts";
import { addressOf, lab, runbook, vault } from "./lab.ts";
import { withWindow } from "./vault-window.ts";

const ARGS = (tenant: LabTenant): string[] => [
  "recover-credentials",
  "--tenant",
  tenant.id,
  "--json",
  "--yes",
];
const recover = (tenant: LabTenant, ...more: string[]) => runbook([...ARGS(tenant), ...more]);
const TAKEN = "✓ take the tenant's rotation record";

/** Starts before the others and ends after them: a minute's silence is watched meanwhile. */
let patient: ReturnType<typeof recover>;
beforeAll(async () => {
  await writeRecord(ACME, "rotation", await pending(ACME, { holder: elsewhere() }));
  patient = recover(ACME);
});

describe("a compromised credential", () => {
  test("is replaced under a new key version, is refused, and what others noted is kept", async () => {
    const before = await readRecord(lab, GLOBEX, "admin");
    const old = await decrypt(lab, GLOBEX, before.fields.password);
    const marks = await markCompromised(GLOBEX);
    const done = await recover(GLOBEX);
    expect(done.code, done.stderr).toBe(0);
    const after = await readRecord(lab, GLOBEX, "admin");
    expect(after.version).toBe(before.version + 1);
    expect(keyVersion(after.fields.password)).toBe((await latestKey(GLOBEX)) ?? 0);
    expect(keyVersion(after.fields.password)).toBeGreaterThan(keyVersion(before.fields.password));
    expect(after.fields).toEqual({
      ...before.fields,
      password: after.fields.password,
      last_rotated: expect.not.stringContaining(String(before.fields.last_rotated)),
    });
    await expectOnlyCurrent(GLOBEX, old);
    const metadata = z
      .object({ data: z.object({ custom_metadata: z.unknown() }) })
      .parse(await vault("GET", metadataPath(GLOBEX.id, "admin")));
    expect(metadata.data.custom_metadata).toEqual(marks);
    const again = await recover(GLOBEX);
    expect(again.code, again.stderr).toBe(0);
    expect((await readRecord(lab, GLOBEX, "admin")).version).toBe(after.version);
  });

  test("also when it was marked after a run that died had prepared to set it again", async () => {
    const old = await currentPassword(GLOBEX);
    await killedAt(ARGS(GLOBEX), TAKEN);
    const { version } = await readRecord(lab, GLOBEX, "admin");
    await markCompromised(GLOBEX, "1, %");
    expect((await recover(GLOBEX)).code).toBe(0);
    expect((await readRecord(lab, GLOBEX, "admin")).version).toBe(version + 1);
    await expectOnlyCurrent(GLOBEX, old);
  });

  test("is replaced once, by a prepared password, though Mailu fails and Vault's answer is lost", async () => {
    const old = await currentPassword(GLOBEX);
    const before = await versions(lab, GLOBEX);
    const audited = (await recoveries(GLOBEX)).length;
    await markCompromised(GLOBEX);
    const failed = await withFaults(GLOBEX, { api: [{ match: "PATCH /user/", status: 500 }] }, () =>
      recover(GLOBEX),
    );
    expect(failed.code).toBe(1);
    expect(failed.stderr).toMatch(/answered 500 to PATCH[\s\S]*next: {2}\S/);
    expect(await currentPassword(GLOBEX)).toBe(old);
    expect(await canLogIn(await addressOf(GLOBEX.id), GLOBEX, old)).toBe(true);
    const prepared = (await readRecord(lab, GLOBEX, "rotation")).fields;
    expect(prepared).toMatchObject({ state: "PREPARED", rotates: true, holder: null });
    const key = await latestKey(GLOBEX);

    const done = await withWindow(
      (window) => begin(ARGS(GLOBEX), window.env).ended,
      (call) => (/^(?:POST|PUT) smtp\/data\/globex\/admin$/.test(call) ? "lost" : undefined),
    );
    expect(done.code, done.stderr).toBe(0);
    const after = await readRecord(lab, GLOBEX, "admin");
    expect(after.version).toBe((before.admin ?? 0) + 1);
    expect(after.fields.password).toBe(prepared.password);
    expect(await latestKey(GLOBEX)).toBe(key);
    expect((await recoveries(GLOBEX)).length).toBe(audited + 1);
    await expectOnlyCurrent(GLOBEX, old);
  });
});

describe("a reset of the same tenant", () => {
  test("that commits between the recovery's first read and its record is what logs in", async () => {
    const old = await currentPassword(GLOBEX);
    const password = awkwardPassword();
    const done = await withGate(GLOBEX, "GET /domain/", async (gate) => {
      const run = begin(ARGS(GLOBEX));
      await gate.arrived();
      await resetByHand(GLOBEX, password);
      gate.open();
      return run.ended;
    });
    expect(done.code, done.stderr).toBe(0);
    expect(await currentPassword(GLOBEX)).toBe(password);
    await expectOnlyCurrent(GLOBEX, old);
  });

  test("that commits while the recovery's SET is on its way is what logs in", async () => {
    const old = await currentPassword(GLOBEX);
    const password = awkwardPassword();
    const done = await withGate(GLOBEX, "PATCH /user/", async (gate) => {
      const run = begin(ARGS(GLOBEX));
      await gate.arrived();
      await resetByHand(GLOBEX, password, { takingTheRecord: false });
      gate.open();
      return run.ended;
    });
    expect(done.code, done.stderr).toBe(0);
    expect(await currentPassword(GLOBEX)).toBe(password);
    await expectOnlyCurrent(GLOBEX, old);
  });

  test("that died is brought to its own password and left to its own runbook", async () => {
    const old = await currentPassword(GLOBEX);
    const { version } = await readRecord(lab, GLOBEX, "admin");
    const password = awkwardPassword();
    const reset = {
      kind: "reset",
      rotates: true,
      incident_id: "INC-7",
      password: await encrypt(GLOBEX, password),
    };
    await writeRecord(GLOBEX, "rotation", await pending(GLOBEX, reset));
    for (const _ of ["first", "again"]) {
      const done = await recover(GLOBEX);
      expect(done.code, done.stderr).toBe(0);
      expect(JSON.parse(done.stdout).unfinished).toMatch(/reset .* waits .*npx runbook resume/);
      expect((await readRecord(lab, GLOBEX, "admin")).version).toBe(version + 1);
      expect(await currentPassword(GLOBEX)).toBe(password);
      const rotation = (await readRecord(lab, GLOBEX, "rotation")).fields;
      expect(rotation).toMatchObject({ ...reset, state: "COMMITTED", holder: null, actor: "somebody" });
    }
    const { fields } = await readRecord(lab, GLOBEX, "rotation");
    await writeRecord(GLOBEX, "rotation", { ...fields, state: "CLEARED" });
    await expectOnlyCurrent(GLOBEX, old);
  });
});

describe("another run", () => {
  test("that lives on this machine is not disturbed, and named", async () => {
    await withGate(GLOBEX, "PATCH /user/", async (gate) => {
      const first = begin(ARGS(GLOBEX));
      await gate.arrived();
      const second = await recover(GLOBEX);
      gate.open();
      expect(second.code).toBe(4);
      expect(second.stderr).toMatch(/held by token-operator on .* since 20[\s\S]*next: {2}.*--take-over/);
      expect((await first.ended).code).toBe(0);
    });
    await expectOnlyCurrent(GLOBEX);
  });

  test("that lives elsewhere is not disturbed, and named; with --take-over it is", async () => {
    const holder = elsewhere();
    await writeRecord(GLOBEX, "rotation", await pending(GLOBEX, { holder }));
    let beating = true;
    const beats = (async () => {
      while (beating) {
        await sleep(300);
        await writeRecord(GLOBEX, "rotation", await pending(GLOBEX, { holder }));
      }
    })();
    const refused = await recover(GLOBEX);
    beating = false;
    await beats;
    expect(refused.code).toBe(4);
    expect(refused.stderr).toContain(`held by somebody on far-away (run far-run) since ${holder.since}`);
    const taken = await recover(GLOBEX, "--take-over");
    expect(taken.code, taken.stderr).toBe(0);
    await expectOnlyCurrent(GLOBEX);
  });

  test("that was stopped before its SET and overtaken doesn't touch Mailu again when it goes on", async () => {
    const old = await currentPassword(GLOBEX);
    const goOn = Promise.withResolvers<void>();
    // What it learned before it was stopped says that the record is its own: the last look is held back.
    let looks = 0;
    const fate = (call: string) =>
      call === "GET smtp/data/globex/rotation" && ++looks > 3 ? goOn.promise : undefined;
    const stopped = await withWindow(async (window) => {
      const run = begin(ARGS(GLOBEX), window.env);
      await run.said("→ set the password");
      await until(() => looks > 3);
      run.signal("SIGSTOP");
      await resetByHand(GLOBEX, awkwardPassword());
      const before = writesOf(await mailuCalls(GLOBEX));
      run.signal("SIGCONT");
      goOn.resolve();
      const ended = await run.ended;
      expect(writesOf(await mailuCalls(GLOBEX))).toEqual(before);
      return ended;
    }, fate);
    expect(stopped.code, stopped.stderr).toBe(4);
    expect(stopped.stderr).toMatch(/took over its rotation[\s\S]*next: {2}run this again/);
    await expectOnlyCurrent(GLOBEX, old);
  });

  test("that was overtaken while its SET was on its way puts right what it did too late", async () => {
    const old = await currentPassword(GLOBEX);
    const stopped = await withGate(GLOBEX, "PATCH /user/", async (gate) => {
      const run = begin(ARGS(GLOBEX));
      await gate.arrived();
      run.signal("SIGSTOP");
      const patched = (await mailuCalls(GLOBEX)).length;
      // By hand, since what takes longer than the run waits for an answer would be told to it as no answer.
      await resetByHand(GLOBEX, awkwardPassword());
      gate.open();
      await until(async () => (await mailuCalls(GLOBEX)).slice(patched).filter(isPatch).length === 2);
      expect(await canLogIn(await addressOf(GLOBEX.id), GLOBEX, old), "its SET came last").toBe(true);
      run.signal("SIGCONT");
      return run.ended;
    });
    expect(stopped.code, stopped.stderr).toBe(4);
    await expectOnlyCurrent(GLOBEX, old);
  });

  test("that starts at the same moment waits for its turn on the host, and leaves it whole", async () => {
    // What a killed run began goes on at the host without it: nobody works there meanwhile.
    const token = "/opt/mailu/secrets/api_token";
    const busy = onHost(
      GLOBEX,
      `rm ${token}; flock /opt/mailu sh -c 'sleep 4; ls ${token} 2>/dev/null || echo untouched'`,
    );
    const [one, other, seen] = await Promise.all([recover(GLOBEX), recover(GLOBEX), busy]);
    expect([one.code, other.code].sort().join(), one.stderr + other.stderr).toMatch(/^0,[04]$/);
    expect(seen).toBe("untouched\n");
    await expectOnlyCurrent(GLOBEX);
  });

  test("that has been silent elsewhere for a minute is taken over", async () => {
    const done = await patient;
    expect(done.code, done.stderr).toBe(0);
    expect(done.ms).toBeGreaterThan(60_000);
    await expectOnlyCurrent(ACME);
  });
});

async function currentPassword(tenant: LabTenant): Promise<string> {
  return decrypt(lab, tenant, (await readRecord(lab, tenant, "admin")).fields.password);
}

/** Vault's current password logs in, `old` is answered with 535, and nothing is left to be done. */
async function expectOnlyCurrent(tenant: LabTenant, old?: string): Promise<void> {
  const address = await addressOf(tenant.id);
  expect(await canLogIn(address, tenant, await currentPassword(tenant))).toBe(true);
  if (old !== undefined) expect(await canLogIn(address, tenant, old)).toBe(false);
  const rotation = (await readRecord(lab, tenant, "rotation")).fields;
  expect(rotation).toMatchObject({ state: "CLEARED", holder: null });
}

/** A reset from its record to its end: Mailu, then Vault. */
async function resetByHand(
  tenant: LabTenant,
  password: string,
  how = { takingTheRecord: true },
): Promise<void> {
  const { fields } = await readRecord(lab, tenant, "admin");
  const ciphertext = await encrypt(tenant, password);
  const reset = { kind: "reset", rotates: true, password: ciphertext };
  if (how.takingTheRecord) await writeRecord(tenant, "rotation", await pending(tenant, reset));
  await setInMailu(tenant, password);
  await writeRecord(tenant, "admin", { ...fields, password: ciphertext });
  if (how.takingTheRecord) {
    await writeRecord(tenant, "rotation", { ...(await pending(tenant, reset)), state: "CLEARED" });
  }
}

/** A rotation that somebody began and didn't finish. */
async function pending(tenant: LabTenant, change: Record<string, unknown>): Promise<Record<string, unknown>> {
  const { version, fields } = await readRecord(lab, tenant, "admin");
  return {
    state: "PREPARED",
    kind: "recovery",
    password: fields.password,
    rotates: false,
    incident_id: null,
    reason: "a test",
    details: {},
    run: "far-run",
    actor: "somebody",
    started: new Date().toISOString(),
    base_version: version,
    base_sha256: "0".repeat(64),
    displayed: false,
    holder: null,
    history: [],
    ...change,
  };
}

function elsewhere() {
  const since = new Date().toISOString();
  return {
    run: "far-run",
    machine: "far-away boot pid:[1]",
    pid: 1,
    process_start: "1",
    user: "somebody",
    since,
    heartbeat: since,
  };
}

async function until(happened: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    if (await happened()) return;
    await sleep(50);
  }
  throw new Error("What was waited for did not happen within 20 s");
}

const isPatch = (call: string): boolean => call.startsWith("PATCH ");
const keyVersion = (ciphertext: unknown): number => Number(String(ciphertext).split(":")[1]?.slice(1));

async function latestKey(tenant: LabTenant): Promise<number> {
  const answer = await vault("GET", `${TRANSIT_MOUNT}/keys/${tenant.id}`);
  return z.object({ data: z.object({ latest_version: z.number() }) }).parse(answer).data.latest_version;
}
