import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { canLogIn, decrypt, readRecord, versions } from "../../scripts/drill/doors.ts";
import { ACME, GLOBEX, type LabTenant } from "../../scripts/lab/tenants.ts";
import { metadataPath, recordPath, TRANSIT_MOUNT } from "../../stacks/names.ts";
import { withFaults } from "./faults.ts";
import { killedAt } from "./killed.ts";
import { addressOf, lab, runbook, vault } from "./lab.ts";

const ARGS = (tenant: LabTenant): string[] => [
  "recover-credentials",
  "--tenant",
  tenant.id,
  "--json",
  "--yes",
];
const recover = (tenant: LabTenant, ...more: string[]) => runbook([...ARGS(tenant), ...more]);
const Steps = z.object({
  steps: z.array(z.object({ title: z.string(), kind: z.enum(["check", "change"]) })),
});

const dryRun = await recover(GLOBEX, "--dry-run");
const CHANGES = Steps.parse(JSON.parse(dryRun.stdout)).steps.filter(({ kind }) => kind === "change");

async function currentPassword(tenant: LabTenant): Promise<string> {
  return decrypt(lab, tenant, (await readRecord(lab, tenant, "admin")).fields.password);
}

async function expectWhole(tenant: LabTenant): Promise<void> {
  expect(await canLogIn(await addressOf(tenant.id), tenant, await currentPassword(tenant))).toBe(true);
  const rotation = (await readRecord(lab, tenant, "rotation")).fields;
  expect(rotation).toMatchObject({ state: "CLEARED", holder: null });
}

describe("recover-credentials, killed", () => {
  test("has steps to be killed at", () => {
    expect(CHANGES.length).toBeGreaterThan(5);
  });

  // Dying after a step is dying before the next one; the last has its own case. Two moments at a time, a tenant each.
  const MOMENTS = [...CHANGES.map(({ title }) => `→ ${title}`), `✓ ${CHANGES.at(-1)?.title}`];
  const pairs = MOMENTS.flatMap((mark, index) =>
    index % 2 === 0 ? [[mark, MOMENTS[index + 1] ?? mark] as const] : [],
  );

  test.each(pairs)("is completed by the same command when it dies at '%s' or at '%s'", async (...marks) => {
    await Promise.all(
      [ACME, GLOBEX].map(async (tenant, index) => {
        const before = await versions(lab, tenant);
        await killedAt(ARGS(tenant), marks[index] ?? "");
        const again = await recover(tenant);
        expect(again.code, again.stderr).toBe(0);
        await expectWhole(tenant);
        expect((await versions(lab, tenant)).admin).toBe(before.admin);
      }),
    );
  });

  test("leaves an audit log in which every link holds", async () => {
    const done = await runbook(["audit", "verify", "--json"]);
    expect(done.code, done.stdout + done.stderr).toBe(0);
  });
});

describe("recover-credentials and a compromised credential", () => {
  let old: string;
  beforeAll(async () => {
    old = await currentPassword(GLOBEX);
  });

  test("installs a new password under a new key version, and keeps what others noted", async () => {
    const before = await readRecord(lab, GLOBEX, "admin");
    const marks = {
      compromised: "true",
      compromised_versions: String(before.version),
      owner: "it-department",
    };
    await vault("POST", metadataPath(GLOBEX.id, "admin"), { custom_metadata: marks });
    const done = await recover(GLOBEX);
    expect(done.code, done.stderr).toBe(0);
    const after = await readRecord(lab, GLOBEX, "admin");
    expect(after.version).toBe(before.version + 1);
    expect(keyVersion(after.fields.password)).toBeGreaterThan(keyVersion(before.fields.password));
    expect(after.fields.username).toBe(before.fields.username);
    await expectWhole(GLOBEX);
    expect(await canLogIn(await addressOf(GLOBEX.id), GLOBEX, old)).toBe(false);
    const metadata = z
      .object({ data: z.object({ custom_metadata: z.unknown() }) })
      .parse(await vault("GET", metadataPath(GLOBEX.id, "admin")));
    expect(metadata.data.custom_metadata).toEqual(marks);
  });

  test("also when it was marked after a run that died had prepared to set it again", async () => {
    await killedAt(ARGS(GLOBEX), "✓ take the tenant's rotation record");
    const before = await readRecord(lab, GLOBEX, "admin");
    const marks = { compromised: "true", compromised_versions: `1,${before.version}` };
    await vault("POST", metadataPath(GLOBEX.id, "admin"), { custom_metadata: marks });
    expect((await recover(GLOBEX)).code).toBe(0);
    expect((await readRecord(lab, GLOBEX, "admin")).version).toBe(before.version + 1);
    await expectWhole(GLOBEX);
  });

  test("doesn't rotate again once the current version is another one", async () => {
    const before = await readRecord(lab, GLOBEX, "admin");
    expect((await recover(GLOBEX)).code).toBe(0);
    expect((await readRecord(lab, GLOBEX, "admin")).version).toBe(before.version);
  });
});

describe("recover-credentials beside others", () => {
  test("sets what Vault holds when somebody stores another credential between its read and its SET", async () => {
    const before = await readRecord(lab, GLOBEX, "admin");
    const password = randomBytes(48).toString("base64");
    const sealed = z.object({ data: z.object({ ciphertext: z.string() }) }).parse(
      await vault("POST", `${TRANSIT_MOUNT}/encrypt/${GLOBEX.id}`, {
        plaintext: Buffer.from(password).toString("base64"),
      }),
    );
    const done = await withFaults(
      GLOBEX,
      { api: [{ match: "PATCH /user/", delay: 2_500, times: 1 }] },
      async () => {
        const running = recover(GLOBEX);
        await untilRotation(GLOBEX, "PREPARED");
        await sleep(500);
        await vault("POST", recordPath(GLOBEX.id, "admin"), {
          data: { ...before.fields, password: sealed.data.ciphertext },
          options: { cas: before.version },
        });
        return running;
      },
    );
    expect(done.code, done.stderr).toBe(0);
    const address = await addressOf(GLOBEX.id);
    expect(await canLogIn(address, GLOBEX, password)).toBe(true);
    expect(await canLogIn(address, GLOBEX, await decrypt(lab, GLOBEX, before.fields.password))).toBe(false);
    await expectWhole(GLOBEX);
  });

  test("is refused while a live run holds the rotation, and says whose it is", async () => {
    await withFaults(GLOBEX, { api: [{ match: "PATCH /user/", delay: 4_000, times: 1 }] }, async () => {
      const first = recover(GLOBEX);
      await untilRotation(GLOBEX, "PREPARED");
      const second = await recover(GLOBEX);
      expect(second.code).toBe(4);
      expect(second.stderr).toMatch(/held by token-operator on .* since 20/);
      expect((await first).code).toBe(0);
    });
    await expectWhole(GLOBEX);
  });
});

/** Waits until a run holds the tenant's rotation in `state`. */
async function untilRotation(tenant: LabTenant, state: string): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const { fields } = await readRecord(lab, tenant, "rotation");
    if (fields.state === state && fields.holder !== null) return;
    await sleep(50);
  }
  throw new Error(`No run brought ${tenant.id}'s rotation to ${state} within 10 s`);
}

const keyVersion = (ciphertext: unknown): number => Number(String(ciphertext).split(":")[1]?.slice(1));
