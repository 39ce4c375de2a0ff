// What is wrong is named, with the next command, before anything changes: input, rights, Vault, host, Mailu.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { readRecord } from "../../scripts/drill/doors.ts";
import { endService, type Finished } from "../../scripts/lab/children.ts";
import type { Faults } from "../../scripts/lab/mailu/faults.ts";
import { ACME, GLOBEX, type LabTenant } from "../../scripts/lab/tenants.ts";
import { type LabVault, startVault, vaultCall } from "../../scripts/lab/vault.ts";
import { metadataPath, RECORDS, recordPath, tenantId } from "../../stacks/names.ts";
import { auditLog, onHost, vaultState, writeRecord } from "./door.ts";
import { withFaults } from "./faults.ts";
import { addressOf, lab, runbook, vault } from "./lab.ts";

/** A tenant without a host: records and a key as each test wants them. */
const ORPHAN: LabTenant = { ...GLOBEX, id: tenantId("orphan"), domain: "orphan.example" };
/** Nobody lives there. */
const NOWHERE = "127.0.0.8";

const RECOVER = ["recover-credentials", "--json", "--yes", "--tenant"];
const ONBOARD = ["onboard-tenant", "--json", "--yes", "--domain", "orphan.example", "--tenant"];
const SAVE = ["save-host-state", "--json", "--yes", "--tenant"];
const recover = (tenant: LabTenant, ...more: string[]) => runbook([...RECOVER, tenant.id, ...more]);

const Problem = z.object({
  error: z.object({ message: z.string(), exit_code: z.number(), next: z.string().min(5) }),
});

/** Runs it, expects that exit code, those words and a next command, and that Vault and the audit log are as before. */
async function expectRefusal(code: number, says: RegExp, run: () => Promise<Finished>): Promise<void> {
  const before = [await vaultState(GLOBEX, ACME, ORPHAN), await auditLog()];
  const done = await run();
  expect(done.code, done.stderr).toBe(code);
  expect(done.stderr).toMatch(says);
  expect(done.stderr).toMatch(/next: {2}\S/);
  expect(Problem.parse(JSON.parse(done.stdout)).error.exit_code).toBe(code);
  expect([await vaultState(GLOBEX, ACME, ORPHAN), await auditLog()]).toEqual(before);
}

/** Takes its ten seconds beside the others. */
let hanging: Promise<void>;
beforeAll(() => {
  hanging = withFaults(ACME, { api: [{ hang: true }] }, async () => {
    const done = await recover(ACME);
    expect(done.code, done.stderr).toBe(1);
    expect(done.stderr).toMatch(/no answer to GET [\s\S]*next: {2}\S/);
  });
  hanging.catch(() => {});
});

describe("what is wrong with", () => {
  const cases: {
    what: string;
    args: string[];
    env?: Record<string, string>;
    faults?: Faults;
    code: number;
    says: RegExp;
  }[] = [
    { what: "a tenant", args: [...RECOVER, "nobody"], code: 2, says: /no admin.* record for tenant nobody/ },
    { what: "a path for an id", args: [...RECOVER, "../x"], code: 2, says: /not a tenant id/ },
    { what: "an id in capitals", args: [...RECOVER, "Acme"], code: 2, says: /not a tenant id/ },
    { what: "the canary", args: [...RECOVER, "canary"], code: 2, says: /reserved/ },
    { what: "a path for a new id", args: [...ONBOARD, "../x"], code: 2, says: /not a tenant id/ },
    { what: "a flag", args: [...RECOVER, "globex", "--fast"], code: 2, says: /--fast/ },
    {
      what: "a token",
      args: [...RECOVER, "globex"],
      env: { VAULT_TOKEN: "hvs.wrong" },
      code: 3,
      says: /VAULT_TOKEN is wrong/,
    },
    {
      what: "a Vault that isn't the settings' own",
      args: [...RECOVER, "globex"],
      env: { VAULT_ADDR: "http://127.0.0.9:1" },
      code: 4,
      says: /belongs to/,
    },
    {
      what: "a root token",
      args: [...RECOVER, "globex"],
      env: { VAULT_TOKEN: lab.rootToken },
      code: 4,
      says: /root token[\s\S]*--break-glass/,
    },
    {
      what: "a host key that changed",
      args: [...RECOVER, "globex", "--host-key", `ssh-ed25519 ${"A".repeat(68)}`],
      code: 4,
      says: /another SSH host key/,
    },
    ...([403, 429, 500] as const).map((status) => ({
      what: `a Mailu that answers ${status}`,
      args: [...RECOVER, "globex"],
      faults: { api: [{ status }] },
      code: 1,
      says: new RegExp(`answered ${status}`),
    })),
  ];
  test.each(cases)("$what is named, and nothing changes", ({ args, env, faults, code, says }) => {
    const run = () => runbook(args, { env: env ?? {} });
    return expectRefusal(code, says, () => (faults === undefined ? run() : withFaults(GLOBEX, faults, run)));
  });

  test.each([
    { what: "without Vault's address", text: "vault: {}\n", says: /vault\.addr/ },
    { what: "with an unknown key", text: 'vault: {addr: "http://127.0.0.9:1", adr: 1}\n', says: /adr/ },
    { what: "that is no YAML", text: "vault: [\n", says: /recovery|bad\.yaml/ },
  ])("a recovery.yaml $what is named, and nothing changes", async ({ text, says }) => {
    const RECOVERY_CONFIG = join(lab.place.dir, "bad.yaml");
    await writeFile(RECOVERY_CONFIG, text);
    await expectRefusal(2, says, () => runbook([...RECOVER, "globex"], { env: { RECOVERY_CONFIG } }));
  });

  test.each([RECOVER, ONBOARD, SAVE])("a token without the role is named, for %s", async (...args) => {
    const VAULT_TOKEN = z
      .object({ auth: z.object({ client_token: z.string() }) })
      .parse(await vault("POST", "auth/token/create", { policies: ["default"], ttl: "5m" }))
      .auth.client_token;
    await expectRefusal(3, /Insufficient permissions: .* lacks .*smtp\/data\/globex\//, () =>
      runbook([...args, "globex"], { env: { VAULT_TOKEN } }),
    );
  });

  test("a second tenant on a Mailu that has one is named", async () => {
    const address = await addressOf(ACME.id);
    await expectRefusal(4, /already the Mailu of tenant acme/, () => recover(GLOBEX, "--address", address));
  });

  test("a host with a full disk is named", async () => {
    await onHost(GLOBEX, "mount -t tmpfs -o size=4m full /mailu");
    try {
      await expectRefusal(1, /disk of .* is full[\s\S]*next: {2}ssh/, () => recover(GLOBEX));
    } finally {
      await onHost(GLOBEX, "umount /mailu");
    }
  });

  test("a Mailu that hangs is named", () => hanging);
});

describe("what is wrong with a tenant's secrets", () => {
  const given = ["admin", "mailu", "dkim", "server"] as const;
  const remove = () => Promise.all(RECORDS.map((name) => vault("DELETE", metadataPath(ORPHAN.id, name))));
  /** Gives the orphan globex's records, with `change` made to them; undefined leaves one out. */
  async function records(change: Partial<Record<(typeof given)[number], object | undefined>>): Promise<void> {
    await remove();
    for (const name of given) {
      if (name in change && change[name] === undefined) continue;
      const { fields } = await readRecord(lab, GLOBEX, name);
      const own = name === "server" ? { api_url: `https://${NOWHERE}/api/v1`, vps_ip: NOWHERE } : {};
      await writeRecord(ORPHAN, name, { ...fields, ...own, ...change[name] });
    }
  }
  afterAll(remove);

  test("a missing Transit key is named; onboarding makes none in its place", async () => {
    await records({ admin: { username: "admin@orphan.example" } });
    const says = /can't be decrypted.*key not found[\s\S]*next: {2}vault read smtp-transit\/keys\/orphan/;
    await expectRefusal(1, says, () => recover(ORPHAN));
    await expectRefusal(1, says, () => runbook([...ONBOARD, "orphan"]));
  });

  test("a missing record is named", async () => {
    await records({ dkim: undefined });
    await expectRefusal(2, /no dkim record[\s\S]*next: {2}npx runbook onboard-tenant/, () => recover(ORPHAN));
  });

  test("a deleted record is named, with how to bring it back; onboarding makes no other", async () => {
    await records({ admin: { username: "admin@orphan.example" } });
    await vault("DELETE", recordPath(ORPHAN.id, "mailu"));
    const says =
      /smtp\/orphan\/mailu was deleted[\s\S]*next: {2}vault kv undelete -mount=smtp -versions=1 orphan\/mailu/;
    await expectRefusal(4, says, () => recover(ORPHAN));
    await expectRefusal(4, says, () => runbook([...ONBOARD, "orphan"]));
  });

  test("a missing field, and a field that is no ciphertext, are named", async () => {
    await records({ mailu: { api_token: undefined }, admin: { password: "in the clear" } });
    await expectRefusal(1, /orphan\/(?:mailu in Vault is not usable: api_token|admin.*: password)/, () =>
      recover(ORPHAN),
    );
  });

  test("a damaged ciphertext is named", async () => {
    const mine = await readRecord(lab, GLOBEX, "dkim");
    const whole = String(mine.fields.private_key);
    const middle = whole.length >> 1;
    const damaged = `${whole.slice(0, middle)}${whole[middle] === "A" ? "B" : "A"}${whole.slice(middle + 1)}`;
    await writeRecord(GLOBEX, "dkim", { ...mine.fields, private_key: damaged });
    try {
      await expectRefusal(1, /globex\/dkim private_key can't be decrypted[\s\S]*next: {2}vault /, () =>
        recover(GLOBEX),
      );
    } finally {
      await writeRecord(GLOBEX, "dkim", mine.fields);
    }
  });
});

describe("what is wrong with Vault", () => {
  /** Runs it with settings that belong to the Vault at `addr`. */
  async function against(addr: string, args: string[]): Promise<Finished> {
    const settings = join(lab.place.dir, "other-vault.yaml");
    await writeFile(settings, `vault: {addr: "${addr}"}\naudit: {log: audit.jsonl}\n`);
    return runbook([...args, "globex"], { env: { VAULT_ADDR: addr, RECOVERY_CONFIG: settings } });
  }

  test("is that it can't be reached", async () => {
    await expectRefusal(1, /can't be reached.*\n.*vault status/, () =>
      against("http://127.0.0.9:9", RECOVER),
    );
  });

  test("is that it is sealed", async () => {
    const dir = join(lab.place.dir, "sealed");
    await Promise.all(["vault", "logs"].map((name) => mkdir(join(dir, name), { recursive: true })));
    const address = lab.place.vaultAddr.replace(/^http:\/\/([\d.]+)\.\d+:.*/, "$1.250");
    const program = join(lab.place.toolchain, "vault");
    const sealed: LabVault = await startVault({ dir, address, program, env: lab.env, signal: undefined });
    try {
      await vaultCall(sealed.addr, sealed.rootToken, "PUT", "sys/seal");
      for (const args of [RECOVER, ONBOARD, SAVE]) {
        await expectRefusal(4, /is sealed.*\n.*vault operator unseal/, () => against(sealed.addr, args));
      }
    } finally {
      await endService(sealed.process);
    }
  });
});
