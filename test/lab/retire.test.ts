// Old versions of a key are retired once everything current lies under the newest one; nothing current is ever locked
// out, whatever is damaged, dies or happens at the same time.
import { afterEach, describe, expect, test, vi } from "vitest";
import { z } from "zod";
import { RunbookError } from "../../runbooks/lib/errors.ts";
import { retireOldKeyVersions } from "../../runbooks/lib/retire.ts";
import { loadSettings } from "../../runbooks/lib/settings.ts";
import { Vault } from "../../runbooks/lib/vault.ts";
import { decrypt, readRecord, versions } from "../../scripts/drill/doors.ts";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import { TRANSIT_MOUNT } from "../../stacks/names.ts";
import { encrypt, writeRecord } from "./door.ts";
import { hostless } from "./hostless.ts";
import { lab, vault } from "./lab.ts";
import { withWindow } from "./vault-window.ts";

const FIELDS = { admin: "password", mailu: "api_token", dkim: "private_key", tls: "private_key" } as const;
const RECORDS = Object.keys(FIELDS) as (keyof typeof FIELDS)[];

/** A tenant that has all its secrets under version 1 of its key, and no host. */
async function onboarded(id: string): Promise<LabTenant> {
  const tenant = await hostless(id);
  const private_key = await encrypt(tenant, "the key of a certificate");
  await writeRecord(tenant, "tls", { certificate: "a certificate", private_key, not_after: "some day" });
  return tenant;
}

/** What a reset leaves: another password under another version of the key. Returns the old ciphertext. */
async function reset(tenant: LabTenant): Promise<unknown> {
  const { fields } = await readRecord(lab, tenant, "admin");
  await rotate(tenant);
  await writeRecord(tenant, "admin", {
    ...fields,
    password: await encrypt(tenant, `new after ${Date.now()}`),
  });
  return fields.password;
}

const rotate = (tenant: LabTenant): Promise<unknown> =>
  vault("POST", `${TRANSIT_MOUNT}/keys/${tenant.id}/rotate`);
const configure = (tenant: LabTenant, version: number): Promise<unknown> =>
  vault("POST", `${TRANSIT_MOUNT}/keys/${tenant.id}/config`, {
    min_decryption_version: version,
    min_encryption_version: version,
  });

/** The next reset, from its beginning to its end, by another machine. */
async function getFurther(tenant: LabTenant): Promise<void> {
  await reset(tenant);
  for (const record of ["mailu", "dkim", "tls"] as const) {
    const { fields } = await readRecord(lab, tenant, record);
    const plaintext = await decrypt(lab, tenant, fields[FIELDS[record]]);
    await writeRecord(tenant, record, { ...fields, [FIELDS[record]]: await encrypt(tenant, plaintext) });
  }
  await configure(tenant, 3);
}

const Key = z.object({
  data: z.object({ min_decryption_version: z.number(), min_encryption_version: z.number() }),
});
async function minimums(tenant: LabTenant): Promise<[decryption: number, encryption: number]> {
  const { data } = Key.parse(await vault("GET", `${TRANSIT_MOUNT}/keys/${tenant.id}`));
  return [data.min_decryption_version, data.min_encryption_version];
}

async function secrets(tenant: LabTenant): Promise<Record<string, string>> {
  const found = await Promise.all(
    RECORDS.map(async (record) => {
      const { fields } = await readRecord(lab, tenant, record);
      return [record, await decrypt(lab, tenant, fields[FIELDS[record]])] as const;
    }),
  );
  return Object.fromEntries(found);
}

/** As a run does it, with the person's token. */
async function retire(tenant: LabTenant, env: Record<string, string> = {}) {
  for (const [name, value] of Object.entries({ ...lab.variables, ...env })) vi.stubEnv(name, value);
  return retireOldKeyVersions(await Vault.connect(loadSettings(), process), tenant.id);
}
afterEach(() => {
  vi.unstubAllEnvs();
});

const isChange = (call: string): boolean => /^(?:POST|PUT) (?:smtp\/data|smtp-transit\/keys)/.test(call);

describe("retiring the old versions of a key", () => {
  test("leaves every secret readable under the newest one, all other fields as they are, and the old password dead", async () => {
    const tenant = await onboarded("retired");
    await writeRecord(tenant, "mailu", {
      ...(await readRecord(lab, tenant, "mailu")).fields,
      note: "somebody's own",
    });
    const old = await reset(tenant);
    const before = await secrets(tenant);
    const fields = await Promise.all(RECORDS.map((record) => readRecord(lab, tenant, record)));
    const counted = await versions(lab, tenant);
    const { done, calls } = await withWindow(async ({ env, calls }) => ({
      done: await retire(tenant, env),
      calls,
    }));
    expect(done).toEqual({
      version: 2,
      rewrapped: ["mailu.api_token", "dkim.private_key", "tls.private_key"],
    });
    expect(await minimums(tenant)).toEqual([2, 2]);
    expect(await secrets(tenant)).toEqual(before);
    for (const [index, record] of RECORDS.entries()) {
      const { fields: now } = await readRecord(lab, tenant, record);
      expect(now).toEqual({
        ...fields[index]?.fields,
        [FIELDS[record]]: expect.stringMatching(/^vault:v2:/),
      });
    }
    await expect(decrypt(lab, tenant, old)).rejects.toThrow(/too old/);
    const { mailu = 0, dkim = 0, tls = 0 } = counted;
    expect(await versions(lab, tenant)).toEqual({
      ...counted,
      mailu: mailu + 1,
      dkim: dkim + 1,
      tls: tls + 1,
    });
    // Both minimums in one call, once everything was seen to decrypt.
    expect(calls.filter(isChange)).toHaveLength(4);
    expect(calls.at(-1)).toBe("POST smtp-transit/keys/retired/config");
    expect(calls.filter((call) => !call.includes("lookup-self"))).toHaveLength(14);
  });

  test("changes nothing the second time, and works again after the next reset", async () => {
    const tenant = await onboarded("retired-twice");
    await reset(tenant);
    await retire(tenant);
    const before = await versions(lab, tenant);
    const { calls } = await withWindow(async ({ env, calls }) => {
      expect(await retire(tenant, env)).toEqual({ version: 2, rewrapped: [] });
      return { calls };
    });
    expect(calls.every((call) => call.startsWith("GET "))).toBe(true);
    expect(await versions(lab, tenant)).toEqual(before);
    const old = await reset(tenant);
    expect((await retire(tenant)).version).toBe(3);
    expect(await minimums(tenant)).toEqual([3, 3]);
    await expect(decrypt(lab, tenant, old)).rejects.toThrow(/too old/);
  });

  test("of a tenant that never had a reset changes nothing", async () => {
    const tenant = await onboarded("never-reset");
    const before = await versions(lab, tenant);
    expect(await retire(tenant)).toEqual({ version: 1, rewrapped: [] });
    expect(await versions(lab, tenant)).toEqual(before);
    expect(await minimums(tenant)).toEqual([1, 0]);
  });

  test("raises nothing while a secret is damaged, names it, and brings the others along", async () => {
    const tenant = await onboarded("damaged");
    await reset(tenant);
    const { fields } = await readRecord(lab, tenant, "dkim");
    const whole = String(fields.private_key);
    const broken = `${whole.slice(0, 60)}${whole[60] === "A" ? "B" : "A"}${whole.slice(61)}`;
    await writeRecord(tenant, "dkim", { ...fields, private_key: broken });
    const error = await retire(tenant).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(RunbookError);
    expect(error).toMatchObject({
      exitCode: 5,
      message: expect.stringMatching(/smtp\/damaged\/dkim private_key can't be rewrapped: .*authentication/),
      next: expect.stringMatching(
        /^vault kv metadata get -mount=smtp damaged\/dkim .*npx runbook resume --all$/,
      ),
    });
    expect(await minimums(tenant)).toEqual([1, 0]);
    expect((await readRecord(lab, tenant, "mailu")).fields.api_token).toMatch(/^vault:v2:/);
    await writeRecord(tenant, "dkim", fields);
    expect(await retire(tenant)).toEqual({ version: 2, rewrapped: ["dkim.private_key"] });
    expect(await minimums(tenant)).toEqual([2, 2]);
  });

  test("sees a damaged secret under the newest version too", async () => {
    const tenant = await onboarded("damaged-new");
    await reset(tenant);
    const { fields } = await readRecord(lab, tenant, "admin");
    await writeRecord(tenant, "admin", { ...fields, password: `vault:v2:${"A".repeat(80)}` });
    await expect(retire(tenant)).rejects.toMatchObject({
      exitCode: 5,
      message: expect.stringContaining("smtp/damaged-new/admin password can't be decrypted"),
    });
    expect(await minimums(tenant)).toEqual([1, 0]);
  });

  test("names a record that is missing, or whose field is no ciphertext; a certificate may be missing", async () => {
    const tenant = await onboarded("missing");
    await reset(tenant);
    await vault("DELETE", `smtp/metadata/${tenant.id}/tls`);
    const { fields } = await readRecord(lab, tenant, "dkim");
    await vault("DELETE", `smtp/metadata/${tenant.id}/dkim`);
    await expect(retire(tenant)).rejects.toMatchObject({
      exitCode: 5,
      message: expect.stringContaining("smtp/missing/dkim is not there"),
    });
    await writeRecord(tenant, "dkim", { ...fields, private_key: "in the clear" });
    await expect(retire(tenant)).rejects.toMatchObject({
      exitCode: 5,
      message: expect.stringMatching(/smtp\/missing\/dkim .*private_key: is no Transit ciphertext/),
    });
    expect(await minimums(tenant)).toEqual([1, 0]);
    await writeRecord(tenant, "dkim", fields);
    expect((await retire(tenant)).version).toBe(2);
  });

  test("keeps the version of the credential, and what it needs, though the key is newer", async () => {
    const tenant = await onboarded("spoken-for");
    await reset(tenant);
    await rotate(tenant);
    const before = await readRecord(lab, tenant, "admin");
    expect((await retire(tenant)).version).toBe(2);
    expect(await readRecord(lab, tenant, "admin")).toEqual(before);
    expect(await minimums(tenant)).toEqual([2, 2]);
  });

  test("by two machines at once writes each record once", async () => {
    const tenant = await onboarded("both");
    await reset(tenant);
    const before = await versions(lab, tenant);
    const secret = await secrets(tenant);
    const done = await Promise.all([retire(tenant), retire(tenant), retire(tenant)]);
    expect(done.map(({ version }) => version)).toEqual([2, 2, 2]);
    const { mailu = 0, dkim = 0, tls = 0 } = before;
    expect(await versions(lab, tenant)).toEqual({
      ...before,
      mailu: mailu + 1,
      dkim: dkim + 1,
      tls: tls + 1,
    });
    expect(await secrets(tenant)).toEqual(secret);
  });

  test("begins again when the key gets a version meanwhile, and lowers nothing", async () => {
    const tenant = await onboarded("meanwhile");
    await reset(tenant);
    let written = 0;
    const fate = (call: string): Promise<unknown> | undefined => {
      // Once all three are written, and before anything is raised.
      if (!/^(?:POST|PUT) smtp\/data\//.test(call) || ++written !== 3) return;
      return getFurther(tenant);
    };
    const { done, calls } = await withWindow(
      async ({ env, calls }) => ({ done: await retire(tenant, env), calls }),
      fate,
    );
    expect(done.version).toBe(3);
    expect(await minimums(tenant)).toEqual([3, 3]);
    expect(calls.filter((call) => call.endsWith("/config"))).toEqual([]);
  });

  test("takes for no damage what another machine has retired while it was being read", async () => {
    const tenant = await onboarded("too-late");
    await reset(tenant);
    let read = 0;
    const gate = Promise.withResolvers<unknown>();
    const fate = (call: string): Promise<unknown> | undefined => {
      if (!call.startsWith("GET smtp/data/") || ++read > 4) return;
      // All four are read, and none is rewrapped yet.
      if (read === 4) retire(tenant).then(gate.resolve, gate.reject);
      return gate.promise;
    };
    const done = await withWindow(({ env }) => retire(tenant, env), fate);
    expect(done).toEqual({ version: 2, rewrapped: [] });
    expect(await minimums(tenant)).toEqual([2, 2]);
  });

  test("puts right what it lowered, when somebody else got further while it was held up", async () => {
    const tenant = await onboarded("held-up");
    await reset(tenant);
    let reads = 0;
    const fate = (call: string): Promise<unknown> | undefined => {
      if (call !== `GET ${TRANSIT_MOUNT}/keys/${tenant.id}` || ++reads !== 2) return;
      return (async () => {
        await reset(tenant);
        for (const record of ["mailu", "dkim", "tls"] as const) {
          const { fields } = await readRecord(lab, tenant, record);
          const plaintext = await decrypt(lab, tenant, fields[FIELDS[record]]);
          await writeRecord(tenant, record, {
            ...fields,
            [FIELDS[record]]: await encrypt(tenant, plaintext),
          });
        }
        await configure(tenant, 3);
      })();
    };
    const done = await withWindow(({ env }) => retire(tenant, env), fate);
    expect(reads).toBeGreaterThan(2);
    expect(done.version).toBe(3);
    expect(await minimums(tenant)).toEqual([3, 3]);
  });
});

test("whatever answer is lost on the way, the next run completes it and nothing is locked out", async () => {
  const tenant = await onboarded("lost");
  const changes = 14;
  for (let lost = 0; lost < changes; lost++) {
    const old = await reset(tenant);
    const before = await secrets(tenant);
    let seen = -1;
    const fate = (call: string): "lost" | undefined => {
      if (call.includes("lookup-self") || ++seen !== lost) return undefined;
      return "lost";
    };
    await withWindow(({ env }) => retire(tenant, env).catch(() => undefined), fate);
    expect(seen, `there was no answer ${lost} to lose`).toBeGreaterThanOrEqual(lost);
    expect(await secrets(tenant)).toEqual(before);
    const { version } = await retire(tenant);
    expect(await minimums(tenant)).toEqual([version, version]);
    expect(await secrets(tenant)).toEqual(before);
    await expect(decrypt(lab, tenant, old)).rejects.toThrow(/too old/);
  }
});
