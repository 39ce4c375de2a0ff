// Recovery dies at each of its steps, and is completed by the same command; a dry run asks and changes nothing.
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { canLogIn, decrypt, readRecord, versions } from "../../scripts/drill/doors.ts";
import { ACME, GLOBEX, type LabTenant } from "../../scripts/lab/tenants.ts";
import { auditLog, mailuCalls, recoveries, vaultState } from "./door.ts";
import { killedAt } from "./killed.ts";
import { addressOf, lab, runbook } from "./lab.ts";
import { withWindow } from "./vault-window.ts";

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
const LAST = `✓ ${CHANGES.at(-1)?.title}`;

describe("recover-credentials, killed", () => {
  test("has steps to be killed at", () => {
    expect(CHANGES.length).toBeGreaterThan(5);
  });

  // Dying after a step is dying before the next one; the last has its own case. Two moments at a time, a tenant each.
  const MOMENTS = [...CHANGES.map(({ title }) => `→ ${title}`), LAST];
  const pairs = MOMENTS.flatMap((mark, index) =>
    index % 2 === 0 ? [[mark, MOMENTS[index + 1] ?? mark] as const] : [],
  );

  test.each(pairs)("is completed by the same command when it dies at '%s' or at '%s'", async (...marks) => {
    await Promise.all(
      [ACME, GLOBEX].map(async (tenant, index) => {
        const mark = marks[index] ?? "";
        const before = { versions: await versions(lab, tenant), audited: await recoveries(tenant) };
        await killedAt(ARGS(tenant), mark);
        const again = await recover(tenant);
        expect(again.code, again.stderr).toBe(0);
        await expectWhole(tenant);
        expect((await versions(lab, tenant)).admin).toBe(before.versions.admin);
        // Whoever resumes writes the event of the run that began; only a run that got to its end has its own.
        const audited = (await recoveries(tenant)).slice(before.audited.length);
        expect(audited).toHaveLength(mark === LAST ? 2 : 1);
        expect(new Set([...before.audited, ...audited]).size).toBe(before.audited.length + audited.length);
      }),
    );
  });

  test("leaves an audit log in which every link holds", async () => {
    const done = await runbook(["audit", "verify", "--json"]);
    expect(done.code, done.stdout + done.stderr).toBe(0);
  });
});

describe("a dry run", () => {
  const HARMLESS = /^(?:GET|LIST) |^(?:POST|PUT) (?:sys\/capabilities-self$|smtp-transit\/decrypt\/)/;
  test.each([
    { name: "recover-credentials", args: ARGS(GLOBEX) },
    { name: "save-host-state", args: ["save-host-state", "--tenant", GLOBEX.id, "--json"] },
    {
      name: "onboard-tenant",
      args: ["onboard-tenant", "--tenant", "unborn", "--domain", "unborn.example", "--json"],
    },
  ])("of $name writes nothing: not to Vault, not to Mailu, not to the audit log", async ({ args }) => {
    const before = [await vaultState(GLOBEX), await mailuCalls(GLOBEX), await auditLog()];
    const { done, calls } = await withWindow(async ({ env, calls }) => ({
      done: await runbook([...args, "--dry-run"], { env }),
      calls,
    }));
    expect(done.code, done.stderr).toBe(0);
    expect(done.stderr).toContain("would: ");
    expect(calls.length).toBeGreaterThan(2);
    expect(calls.filter((call) => !HARMLESS.test(call))).toEqual([]);
    expect([await vaultState(GLOBEX), await mailuCalls(GLOBEX), await auditLog()]).toEqual(before);
  });
});

async function expectWhole(tenant: LabTenant): Promise<void> {
  const password = await decrypt(lab, tenant, (await readRecord(lab, tenant, "admin")).fields.password);
  expect(await canLogIn(await addressOf(tenant.id), tenant, password)).toBe(true);
  const rotation = (await readRecord(lab, tenant, "rotation")).fields;
  expect(rotation).toMatchObject({ state: "CLEARED", holder: null });
}
