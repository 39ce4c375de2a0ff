// Old versions of keys are destroyed for good, by the one role that may; automation may not, whatever it tries.
import { expect, test } from "vitest";
import { z } from "zod";
import { decrypt, readRecord } from "../../scripts/drill/doors.ts";
import { ACME, type LabTenant } from "../../scripts/lab/tenants.ts";
import { vaultCall } from "../../scripts/lab/vault.ts";
import { KV_MOUNT, RECORDS, TRANSIT_MOUNT, tenantId } from "../../stacks/names.ts";
import { auditLog, encrypt, vaultState, writeRecord } from "./door.ts";
import { hostless } from "./hostless.ts";
import { begin, killedAt } from "./killed.ts";
import { lab, runbook, vault } from "./lab.ts";
import { withWindow } from "./vault-window.ts";

const Token = z.object({ auth: z.object({ client_token: z.string() }) });
const tokenWith = async (...policies: string[]): Promise<string> =>
  Token.parse(await vault("POST", "auth/token/create", { policies, ttl: "30m" })).auth.client_token;
const SHREDDER = { VAULT_TOKEN: await tokenWith("key-shredder") };

const args = (tenant: LabTenant): string[] => ["shred-keys", "--tenant", tenant.id, "--json", "--yes"];
const shred = (tenant: LabTenant, env: Record<string, string> = SHREDDER) => runbook(args(tenant), { env });

const keyPath = (tenant: LabTenant): string => `${TRANSIT_MOUNT}/keys/${tenant.id}`;
const Key = z.object({
  data: z.object({ min_available_version: z.number(), keys: z.record(z.string(), z.number()) }),
});
const available = async (tenant: LabTenant) => Key.parse(await vault("GET", keyPath(tenant))).data;
const configure = (tenant: LabTenant, decryption: number, encryption = decryption): Promise<unknown> =>
  vault("POST", `${keyPath(tenant)}/config`, {
    min_decryption_version: decryption,
    min_encryption_version: encryption,
  });

/** A tenant without a host, after a reset: everything current is under version 2 of its key. Returns what was old. */
async function afterReset(id: string, retired = true): Promise<{ tenant: LabTenant; old: unknown }> {
  const tenant = await hostless(id);
  const old = (await readRecord(lab, tenant, "admin")).fields.password;
  await vault("POST", `${keyPath(tenant)}/rotate`);
  for (const [record, field] of [
    ["admin", "password"],
    ["mailu", "api_token"],
    ["dkim", "private_key"],
  ] as const) {
    const { fields } = await readRecord(lab, tenant, record);
    const plaintext = await decrypt(lab, tenant, fields[field]);
    await writeRecord(tenant, record, { ...fields, [field]: await encrypt(tenant, plaintext) });
  }
  if (retired) await configure(tenant, 2);
  return { tenant, old };
}

const Event = z.looseObject({ event: z.string(), tenant_id: z.string().optional() });
const events = async (tenant: LabTenant) =>
  (await auditLog())
    .trim()
    .split("\n")
    .map((line) => Event.parse(JSON.parse(line)))
    .filter(({ event, tenant_id }) => event === "transit_key_versions_shredded" && tenant_id === tenant.id);

test("destroys what is retired: the old ciphertext opens for nobody, not even when root lowers the minimum", async () => {
  const { tenant, old } = await afterReset("shredded");
  // Retiring alone can be undone by whoever may retire.
  await configure(tenant, 1);
  expect(await decrypt(lab, tenant, old)).toBe("the password");
  await configure(tenant, 2);
  const done = await shred(tenant);
  expect(done.code, done.stderr).toBe(0);
  expect(done.stderr).toContain("Destroy 1 old version of the key of shredded for good?");
  expect(JSON.parse(done.stdout)).toMatchObject({
    shredded: [{ tenant: tenant.id, versions: 1, below_version: 2 }],
  });
  await expect(decrypt(lab, tenant, old)).rejects.toThrow(/too old/);
  await expect(configure(tenant, 1)).rejects.toThrow(/min available version/);
  await expect(vault("POST", `${keyPath(tenant)}/config`, { min_decryption_version: 1 })).rejects.toThrow();
  await expect(vault("POST", `${keyPath(tenant)}/trim`, { min_available_version: 1 })).rejects.toThrow();
  await expect(decrypt(lab, tenant, old)).rejects.toThrow(/too old/);
  expect(await available(tenant)).toMatchObject({
    min_available_version: 2,
    keys: { "2": expect.any(Number) },
  });
  const { fields } = await readRecord(lab, tenant, "admin");
  expect(await decrypt(lab, tenant, fields.password)).toBe("the password");
  expect(await events(tenant)).toEqual([
    expect.objectContaining({ details: { below_version: 2 }, user_id: expect.stringMatching(/\S/) }),
  ]);
});

test("has nothing to do the second time, or for a tenant that never had a reset", async () => {
  const { tenant } = await afterReset("shred-twice");
  expect((await shred(tenant)).code).toBe(0);
  const before = [await vaultState(tenant), await events(tenant)];
  const again = await shred(tenant);
  expect(again.code, again.stderr).toBe(0);
  expect(JSON.parse(again.stdout)).toMatchObject({ shredded: [], nothing_to_shred: 1 });
  expect(again.stderr).not.toContain("for good?");
  expect([await vaultState(tenant), await events(tenant)]).toEqual(before);
  const none = await shred(await hostless("never-shredded"));
  expect(none.code, none.stderr).toBe(0);
  expect(JSON.parse(none.stdout)).toMatchObject({ shredded: [], nothing_to_shred: 1 });
});

test.each([
  "→ destroy the versions",
  "✓ destroy the versions",
  "→ write the audit event",
  "✓ write the audit event",
])("is completed by the same command when it dies at '%s', with one event", async (mark) => {
  const { tenant, old } = await afterReset(
    `shred-${["→", "✓"].indexOf(mark.slice(0, 1))}-${mark.slice(2, 5)}`.replace(/[^a-z0-9-]/g, ""),
  );
  await killedAt(args(tenant), mark, { env: SHREDDER });
  const done = await shred(tenant);
  expect(done.code, done.stderr).toBe(0);
  expect((await available(tenant)).min_available_version).toBe(2);
  await expect(decrypt(lab, tenant, old)).rejects.toThrow(/too old/);
  expect(await events(tenant)).toHaveLength(1);
});

test("is completed when Vault's answer to the trim is lost", async () => {
  const { tenant } = await afterReset("shred-lost");
  let lost = false;
  await withWindow(
    async ({ env }) => {
      const done = await shred(tenant, { ...env, ...SHREDDER });
      expect(done.code).toBe(1);
      expect(done.stderr).toMatch(/next: {2}vault status/);
    },
    (call) => {
      if (lost || !call.endsWith("/trim")) return undefined;
      lost = true;
      return "lost";
    },
  );
  expect((await available(tenant)).min_available_version).toBe(2);
  expect((await shred(tenant)).code).toBe(0);
  expect(await events(tenant)).toHaveLength(1);
});

test("is refused while anything current needs an old version, and names it", async () => {
  const { tenant, old } = await afterReset("needed", false);
  const cases: [says: RegExp, arrange: () => Promise<unknown>][] = [
    [/needed: its old versions are not retired/, async () => {}],
    [/needed: its old versions are not retired/, () => configure(tenant, 2, 0)],
    [
      /smtp\/needed\/dkim private_key still needs one that would go/,
      async () => {
        await configure(tenant, 2);
        const { fields } = await readRecord(lab, tenant, "dkim");
        await writeRecord(tenant, "dkim", { ...fields, private_key: String(old) });
      },
    ],
    [
      /smtp\/needed\/rotation password still needs one that would go/,
      async () => {
        const { fields } = await readRecord(lab, tenant, "dkim");
        const whole = await encrypt(tenant, "a key");
        await writeRecord(tenant, "dkim", { ...fields, private_key: whole });
        await writeRecord(tenant, "rotation", pending(old));
      },
    ],
  ];
  for (const [says, arrange] of cases) {
    await arrange();
    const before = [await vaultState(tenant), await auditLog()];
    const done = await shred(tenant);
    expect(done.code, done.stderr).toBe(4);
    expect(done.stderr).toMatch(says);
    expect(done.stderr).toMatch(/next: {2}npx runbook resume --all/);
    expect([await vaultState(tenant), await auditLog()]).toEqual(before);
  }
  await writeRecord(tenant, "rotation", { ...pending(old), state: "CLEARED" });
  expect((await shred(tenant)).code).toBe(0);
});

test("all at once destroys what may go, names what may not, and skips what is gone", async () => {
  const [ready, waiting] = [await afterReset("all-ready"), await afterReset("all-waiting", false)];
  await writeRecord({ ...ACME, id: tenantId("all-gone") }, "rotation", {
    ...pending(ready.old),
    state: "CLEARED",
  });
  const done = await runbook(["shred-keys", "--all", "--json", "--yes"], { env: SHREDDER });
  expect(done.code, done.stderr).toBe(4);
  const result = z
    .object({
      shredded: z.array(z.object({ tenant: z.string() })),
      refused: z.array(z.object({ tenant: z.string(), why: z.string() })),
    })
    .parse(JSON.parse(done.stdout));
  expect(result.shredded.map((one) => one.tenant)).toContain("all-ready");
  expect(result.refused).toContainEqual({ tenant: "all-waiting", why: "its old versions are not retired" });
  expect(result.refused.map((one) => one.tenant)).not.toContain("all-gone");
  expect((await available(ready.tenant)).min_available_version).toBe(2);
  expect(await decrypt(lab, waiting.tenant, waiting.old)).toBe("the password");
  await configure(waiting.tenant, 2);
  for (const name of RECORDS) await vault("DELETE", `${KV_MOUNT}/metadata/all-gone/${name}`);
});

test("automation can't: neither by the runbook nor by Vault itself", async () => {
  const { tenant, old } = await afterReset("automation");
  const token = await tokenWith("incident-responder");
  const done = await shred(tenant, { VAULT_TOKEN: token });
  expect(done.code).toBe(3);
  expect(done.stderr).toMatch(/lacks update on smtp-transit\/keys\/automation\/trim\nnext: .*'key-shredder'/);
  const tries: [method: string, path: string, body?: object][] = [
    ["POST", `${keyPath(tenant)}/trim`, { min_available_version: 2 }],
    ["DELETE", keyPath(tenant)],
    ["POST", `${keyPath(tenant)}/config`, { deletion_allowed: true }],
    ["POST", `${keyPath(tenant)}/config`, { min_decryption_version: 2, deletion_allowed: true }],
  ];
  for (const [method, path, body] of tries) {
    await expect(vaultCall(lab.place.vaultAddr, token, method, path, body), path).rejects.toThrow(
      /answers 403/,
    );
  }
  // The versions are all there yet.
  await configure(tenant, 1);
  expect(await decrypt(lab, tenant, old)).toBe("the password");
  // A key-shredder can destroy, and neither read nor bring in a password, nor touch the record that is a lock.
  const { fields } = await readRecord(lab, tenant, "admin");
  for (const [path, body] of [
    [`${TRANSIT_MOUNT}/decrypt/${tenant.id}`, { ciphertext: fields.password }],
    [`${KV_MOUNT}/data/${tenant.id}/admin`, { data: fields, options: { cas: 2 } }],
    [`${KV_MOUNT}/data/${tenant.id}/rotation`, { data: pending(old), options: { cas: 0 } }],
  ] as const) {
    const attempt = vaultCall(lab.place.vaultAddr, SHREDDER.VAULT_TOKEN, "POST", path, body);
    await expect(attempt, path).rejects.toThrow(/answers 403/);
  }
});

test("what is wrong on the command line is named, and a dry run writes nothing", async () => {
  const { tenant } = await afterReset("shred-dry");
  const before = [await vaultState(tenant), await auditLog()];
  for (const [code, says, argv] of [
    [2, /Either --tenant ID or --all/, ["shred-keys", "--yes"]],
    [2, /Either --tenant ID or --all/, ["shred-keys", "--all", "--tenant", tenant.id, "--yes"]],
    [2, /neither a key nor a credential of nobody/, ["shred-keys", "--tenant", "nobody", "--yes"]],
    [2, /Nobody is here to say yes/, ["shred-keys", "--tenant", tenant.id]],
    [0, /would: destroy the versions of the key of shred-dry below 2/, [...args(tenant), "--dry-run"]],
  ] as const) {
    const done = await runbook([...argv], { env: SHREDDER });
    expect(done.code, done.stderr).toBe(code);
    expect(done.stderr).toMatch(says);
  }
  const calls = await withWindow(async ({ env, calls }) => {
    await begin([...args(tenant), "--dry-run"], { ...env, ...SHREDDER }).ended;
    return calls;
  });
  expect(calls.length).toBeGreaterThan(5);
  expect(calls.filter((call) => !/^GET |^POST sys\/capabilities-self$/.test(call))).toEqual([]);
  expect([await vaultState(tenant), await auditLog()]).toEqual(before);
});

/** A rotation that somebody began and didn't finish, with this password. */
const pending = (password: unknown): Record<string, unknown> => ({
  state: "PREPARED",
  kind: "reset",
  password,
  rotates: true,
  incident_id: null,
  reason: "a test",
  details: {},
  run: "a-run",
  actor: "somebody",
  started: new Date().toISOString(),
  base_version: 1,
  base_sha256: "",
  displayed: false,
  holder: null,
});
