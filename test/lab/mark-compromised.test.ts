// A version that strangers know is marked in Vault and in the audit log, once, whatever dies on the way; the credential
// itself stays as it is until a reset or a rebuild.
import { expect, test } from "vitest";
import { z } from "zod";
import { canLogIn, decrypt, readRecord } from "../../scripts/drill/doors.ts";
import { GLOBEX, type LabTenant } from "../../scripts/lab/tenants.ts";
import { metadataPath, tenantId } from "../../stacks/names.ts";
import { auditLog, encrypt, vaultState, writeRecord } from "./door.ts";
import { hostless } from "./hostless.ts";
import { killedAt } from "./killed.ts";
import { addressOf, lab, runbook, vault } from "./lab.ts";
import { withWindow } from "./vault-window.ts";

const INCIDENT = "INC-2024-001";
const args = (tenant: LabTenant, ...more: string[]): string[] => [
  "mark-compromised",
  "--tenant",
  tenant.id,
  "--incident",
  INCIDENT,
  "--reason",
  "a laptop was stolen",
  "--json",
  "--yes",
  ...more,
];

/** A tenant that has credentials and no host; `versions` of its password. */
async function onboarded(id: string, versions = 1): Promise<LabTenant> {
  const tenant = await hostless(id);
  for (let version = 1; version < versions; version++) {
    const { fields } = await readRecord(lab, tenant, "admin");
    await writeRecord(tenant, "admin", { ...fields, password: await encrypt(tenant, `password ${version}`) });
  }
  return tenant;
}

const Metadata = z.object({
  data: z.object({ custom_metadata: z.record(z.string(), z.string()).nullable() }),
});
const marks = async (tenant: LabTenant): Promise<Record<string, string>> =>
  Metadata.parse(await vault("GET", metadataPath(tenant.id, "admin"))).data.custom_metadata ?? {};
const setMarks = (tenant: LabTenant, custom_metadata: Record<string, string>): Promise<unknown> =>
  vault("POST", metadataPath(tenant.id, "admin"), { custom_metadata });

const Event = z.looseObject({ event: z.string(), tenant_id: z.string().optional() });
const events = async (tenant: LabTenant) =>
  (await auditLog())
    .trim()
    .split("\n")
    .map((line) => Event.parse(JSON.parse(line)))
    .filter(
      ({ event, tenant_id }) => event === "smtp_credentials_marked_compromised" && tenant_id === tenant.id,
    );

/** A token with one policy alone. */
async function tokenWith(policy: string): Promise<string> {
  const made = await vault("POST", "auth/token/create", { policies: [policy], ttl: "10m" });
  return z.object({ auth: z.object({ client_token: z.string() }) }).parse(made).auth.client_token;
}

test("marks the current version with who, when and why, keeps other people's metadata, and is audited once", async () => {
  const tenant = await onboarded("marked");
  await setMarks(tenant, { owner: "it-department" });
  const before = await readRecord(lab, tenant, "admin");
  const done = await runbook(args(tenant));
  expect(done.code, done.stderr).toBe(0);
  expect(JSON.parse(done.stdout)).toMatchObject({ version: 1, current_version: 1, already_marked: false });
  const first = await marks(tenant);
  expect(first).toEqual({
    owner: "it-department",
    compromised: "true",
    incident_id: INCIDENT,
    reset_by: expect.stringMatching(/\S/),
    reset_at: expect.stringMatching(/^\d{4}-.*Z$/),
    compromised_versions: "1",
  });
  const again = await runbook(args(tenant));
  expect(again.code, again.stderr).toBe(0);
  expect(JSON.parse(again.stdout)).toMatchObject({ already_marked: true });
  expect(await marks(tenant)).toEqual(first);
  expect(await readRecord(lab, tenant, "admin")).toEqual(before);
  const sha256 = await crypto.subtle.digest("SHA-256", Buffer.from(String(before.fields.password)));
  expect(await events(tenant)).toEqual([
    expect.objectContaining({
      severity: "high",
      details: {
        incident_id: INCIDENT,
        reason: "a laptop was stolen",
        version: 1,
        ciphertext_sha256: Buffer.from(sha256).toString("hex"),
      },
    }),
  ]);
});

test.each(["→ mark version 2", "✓ mark version 2", "→ write the audit event", "✓ write the audit event"])(
  "is completed by the same command when it dies at '%s', with one mark and one event",
  async (mark) => {
    const tenant = await onboarded(
      `dying-${mark.startsWith("→") ? "before" : "after"}-${mark.slice(2, 6)}`.trim(),
      2,
    );
    await killedAt(args(tenant), mark);
    const before = await marks(tenant);
    const done = await runbook(args(tenant));
    expect(done.code, done.stderr).toBe(0);
    const after = await marks(tenant);
    expect(after).toMatchObject({ ...before, compromised: "true", compromised_versions: "2" });
    expect(await events(tenant)).toHaveLength(1);
  },
);

test("marks an older version beside the current one, and versions of two incidents beside each other", async () => {
  const tenant = await onboarded("older", 4);
  const older = await runbook(args(tenant, "--version", "2"));
  expect(older.code, older.stderr).toBe(0);
  expect(older.stderr).toContain("uses version 4 now");
  expect(JSON.parse(older.stdout).next).toBeUndefined();
  expect((await marks(tenant)).compromised_versions).toBe("2");
  const other = await runbook(args(tenant).with(4, "INC-2"));
  expect(other.code, other.stderr).toBe(0);
  expect(await marks(tenant)).toMatchObject({ incident_id: "INC-2", compromised_versions: "2,4" });
  const ids = (await events(tenant)).map(({ event_id }) => event_id);
  expect(new Set(ids).size).toBe(2);
});

test("a mark that somebody made by hand without a list stays, beside that of an older version", async () => {
  const tenant = await onboarded("by-hand", 2);
  await setMarks(tenant, { compromised: "true" });
  expect((await runbook(args(tenant, "--version", "1"))).code).toBe(0);
  expect((await marks(tenant)).compromised_versions).toBe("1,2");
});

test("metadata without room is named with the number of keys that must go; once they are gone it works", async () => {
  const tenant = await onboarded("full");
  const theirs = Object.fromEntries(
    Array.from({ length: 61 }, (_, index) => [`key-${index}`, "x".repeat(512)]),
  );
  await setMarks(tenant, theirs);
  const refused = await runbook(args(tenant));
  expect(refused.code).toBe(5);
  expect(refused.stderr).toMatch(
    /no room.*64 keys, and 2 .*must go\nnext: {2}vault kv metadata get -mount=smtp full\/admin/,
  );
  expect(await marks(tenant)).toEqual(theirs);
  expect(await events(tenant)).toEqual([]);
  const { "key-0": _, "key-1": __, ...rest } = theirs;
  await setMarks(tenant, rest);
  expect((await runbook(args(tenant))).code).toBe(0);
  expect(Object.keys(await marks(tenant))).toHaveLength(64);
});

test("takes an incident-responder, and nobody who may not mark", async () => {
  const tenant = await onboarded("roles");
  const refused = await runbook(args(tenant), { env: { VAULT_TOKEN: await tokenWith("drift-reader") } });
  expect(refused.code).toBe(3);
  expect(refused.stderr).toMatch(
    /Insufficient permissions: .* lacks .*patch on smtp\/metadata\/roles\/admin/,
  );
  const done = await runbook(args(tenant), { env: { VAULT_TOKEN: await tokenWith("incident-responder") } });
  expect(done.code, done.stderr).toBe(0);
});

test("what is wrong is named, and nothing changes", async () => {
  const tenant = await onboarded("wrong", 2);
  await vault("PUT", "smtp/destroy/wrong/admin", { versions: [1] });
  const before = [await vaultState(tenant), await auditLog()];
  for (const [code, says, argv] of [
    [2, /no version 3 .*keeps 2\nnext: {2}vault kv metadata get/, args(tenant, "--version", "3")],
    [2, /no version 1 .*keeps 2/, args(tenant, "--version", "1")],
    [2, /--version/, args(tenant, "--version", "0")],
    [2, /no admin record for tenant nobody\nnext: {2}\S/, args({ ...tenant, id: tenantId("nobody") })],
    [2, /--incident/, args(tenant).with(4, "INC 1")],
    [2, /--reason: takes a text/, args(tenant).with(6, "  ")],
    [2, /--reason: takes one line/, args(tenant).with(6, "a\nb")],
    [2, /Nobody is here to say yes/, args(tenant).slice(0, -1)],
  ] as const) {
    const done = await runbook(argv);
    expect(done.code, done.stderr).toBe(code);
    expect(done.stderr).toMatch(says);
  }
  expect([await vaultState(tenant), await auditLog()]).toEqual(before);
});

test("a dry run writes nothing", async () => {
  const tenant = await onboarded("dry-mark");
  const before = [await vaultState(tenant), await auditLog()];
  const { done, calls } = await withWindow(async ({ env, calls }) => ({
    done: await runbook(args(tenant, "--dry-run"), { env }),
    calls,
  }));
  expect(done.code, done.stderr).toBe(0);
  expect(done.stderr).toContain("would: mark version 1");
  expect(calls.filter((call) => !/^GET |^POST sys\/capabilities-self$/.test(call))).toEqual([]);
  expect([await vaultState(tenant), await auditLog()]).toEqual(before);
});

test("the password works on, and the next rebuild replaces it", async () => {
  const old = await decrypt(lab, GLOBEX, (await readRecord(lab, GLOBEX, "admin")).fields.password);
  const { version } = await readRecord(lab, GLOBEX, "admin");
  const done = await runbook(args(GLOBEX));
  expect(done.code, done.stderr).toBe(0);
  const address = await addressOf(GLOBEX.id);
  expect(await canLogIn(address, GLOBEX, old)).toBe(true);
  const rebuilt = await runbook(["recover-credentials", "--tenant", GLOBEX.id, "--yes"]);
  expect(rebuilt.code, rebuilt.stderr).toBe(0);
  expect((await readRecord(lab, GLOBEX, "admin")).version).toBe(version + 1);
  expect(await canLogIn(address, GLOBEX, old)).toBe(false);
});
