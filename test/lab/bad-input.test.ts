// What is wrong is named, with the next command, before anything changes: input, rights, Vault, host, Mailu.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { readRecord, versions } from "../../scripts/drill/doors.ts";
import { endService } from "../../scripts/lab/children.ts";
import type { Faults } from "../../scripts/lab/mailu/faults.ts";
import { ACME, GLOBEX, type LabTenant } from "../../scripts/lab/tenants.ts";
import { startVault, vaultCall } from "../../scripts/lab/vault.ts";
import { metadataPath, recordPath, tenantId } from "../../stacks/names.ts";
import { withFaults } from "./faults.ts";
import { addressOf, lab, program, runbook, vault } from "./lab.ts";

const ARGS = (tenant: LabTenant): string[] => [
  "recover-credentials",
  "--tenant",
  tenant.id,
  "--json",
  "--yes",
];
const recover = (tenant: LabTenant, ...more: string[]) => runbook([...ARGS(tenant), ...more]);
const auditLog = (): Promise<string> => readFile(join(lab.place.dir, "audit.jsonl"), "utf8");

describe("recover-credentials and what is wrong", () => {
  const cases: {
    what: string;
    args?: string[];
    env?: Record<string, string>;
    faults?: Faults;
    code: number;
    says: RegExp;
  }[] = [
    {
      what: "an unknown tenant",
      args: ["--tenant", "nobody"],
      code: 2,
      says: /no admin.* record for tenant nobody/,
    },
    { what: "a path for a tenant id", args: ["--tenant", "../x"], code: 2, says: /not a tenant id/ },
    { what: "capitals in a tenant id", args: ["--tenant", "Acme"], code: 2, says: /not a tenant id/ },
    { what: "the canary", args: ["--tenant", "canary"], code: 2, says: /reserved/ },
    { what: "an unknown flag", args: ["--tenant", "globex", "--fast"], code: 2, says: /--fast/ },
    { what: "a wrong token", env: { VAULT_TOKEN: "hvs.wrong" }, code: 3, says: /VAULT_TOKEN is wrong/ },
    {
      what: "another Vault than the settings'",
      env: { VAULT_ADDR: "http://127.0.0.9:1" },
      code: 4,
      says: /belongs to/,
    },
    { what: "a root token", env: { VAULT_TOKEN: lab.rootToken }, code: 4, says: /root token/ },
    {
      what: "a host key that changed",
      args: ["--tenant", "globex", "--host-key", `ssh-ed25519 ${"A".repeat(68)}`],
      code: 4,
      says: /another SSH host key/,
    },
    { what: "Mailu answering 403", faults: { api: [{ status: 403 }] }, code: 1, says: /answered 403/ },
    { what: "Mailu answering 429", faults: { api: [{ status: 429 }] }, code: 1, says: /answered 429/ },
    { what: "Mailu answering 500", faults: { api: [{ status: 500 }] }, code: 1, says: /answered 500/ },
    { what: "Mailu hanging", faults: { api: [{ hang: true }] }, code: 1, says: /no answer/ },
  ];

  test.each(cases)(
    "names the cause and the next command for $what, and changes nothing",
    async ({ args, env, faults, code, says }) => {
      const before = { versions: await versions(lab, GLOBEX), log: await auditLog() };
      const run = () =>
        runbook(["recover-credentials", ...(args ?? ["--tenant", GLOBEX.id]), "--json", "--yes"], {
          env: env ?? {},
        });
      const done = await (faults === undefined ? run() : withFaults(GLOBEX, faults, run));
      expect(done.code, done.stderr).toBe(code);
      expect(done.stderr).toMatch(says);
      expect(done.stderr).toMatch(/next: {2}\S/);
      expect({ versions: await versions(lab, GLOBEX), log: await auditLog() }).toEqual(before);
    },
  );

  test("names the missing rights of a token without the role", async () => {
    const token = z
      .object({ auth: z.object({ client_token: z.string() }) })
      .parse(await vault("POST", "auth/token/create", { policies: ["default"], ttl: "5m" }))
      .auth.client_token;
    const done = await runbook(ARGS(GLOBEX), { env: { VAULT_TOKEN: token } });
    expect(done.code).toBe(3);
    expect(done.stderr).toMatch(/Insufficient permissions: .* lacks .*smtp\/data\/globex\/admin/);
  });

  test("refuses a second tenant on a Mailu that has one", async () => {
    const address = await addressOf(ACME.id);
    const done = await recover(GLOBEX, "--address", address);
    expect(done.code).toBe(4);
    expect(done.stderr).toMatch(/already the Mailu of tenant acme/);
  });

  test("says which field of a record is damaged", async () => {
    const { version, fields } = await readRecord(lab, GLOBEX, "mailu");
    const write = (data: unknown, cas: number) =>
      vault("POST", recordPath(GLOBEX.id, "mailu"), { data, options: { cas } });
    await write({ sanctioned_app_tokens: [] }, version);
    const done = await recover(GLOBEX);
    await write(fields, version + 1);
    expect(done.code).toBe(1);
    expect(done.stderr).toMatch(/smtp\/globex\/mailu in Vault is not usable: api_token/);
  });
});

describe("recover-credentials without what it needs", () => {
  /** Runs it with settings that belong to the Vault at `addr`. */
  async function against(addr: string) {
    const settings = join(lab.place.dir, "other-vault.yaml");
    await writeFile(settings, `vault: {addr: "${addr}"}\naudit: {log: other-audit.jsonl}\n`);
    return runbook(ARGS(GLOBEX), { env: { VAULT_ADDR: addr, RECOVERY_CONFIG: settings } });
  }

  test("says that Vault can't be reached, and how to look", async () => {
    const done = await against("http://127.0.0.9:9");
    expect(done.code).toBe(1);
    expect(done.stderr).toMatch(/can't be reached.*\n.*vault status/);
  });

  test("says that Vault is sealed", async () => {
    const dir = join(lab.place.dir, "sealed");
    await Promise.all(["vault", "logs"].map((name) => mkdir(join(dir, name), { recursive: true })));
    const address = lab.place.vaultAddr.replace(/^http:\/\/([\d.]+)\.\d+:.*/, "$1.250");
    const sealed = await startVault({
      dir,
      address,
      program: join(lab.place.toolchain, "vault"),
      env: lab.env,
      signal: undefined,
    });
    try {
      await vaultCall(sealed.addr, sealed.rootToken, "PUT", "sys/seal");
      const done = await against(sealed.addr);
      expect(done.code).toBe(4);
      expect(done.stderr).toMatch(/is sealed.*\n.*vault operator unseal/);
    } finally {
      await endService(sealed.process);
    }
  });

  test("says that the tenant's Transit key is missing", async () => {
    const orphan = { ...GLOBEX, id: tenantId("orphan") };
    for (const name of ["admin", "mailu", "dkim", "server"] as const) {
      const { fields } = await readRecord(lab, GLOBEX, name);
      const data = name === "server" ? { ...fields, api_url: "https://127.0.0.8/api/v1" } : fields;
      await vault("POST", recordPath(orphan.id, name), { data, options: { cas: 0 } });
    }
    // The last address is nobody's, so that only the key is wrong.
    const done = await recover(orphan, "--address", "127.0.0.8");
    expect(done.code).toBe(1);
    expect(done.stderr).toMatch(
      /can't be decrypted.*key not found[\s\S]*next: {2}vault read smtp-transit\/keys\/orphan/,
    );
    for (const name of ["admin", "mailu", "dkim", "server"] as const)
      await vault("DELETE", metadataPath(orphan.id, name));
  });

  test("says that the host's disk is full before it changes anything", async () => {
    const before = await versions(lab, GLOBEX);
    const address = await addressOf(GLOBEX.id);
    const trust = [
      "-o",
      "StrictHostKeyChecking=no",
      "-o",
      "UserKnownHostsFile=/dev/null",
      "-o",
      "LogLevel=ERROR",
    ];
    const onHost = (command: string) => program("ssh", [...trust, `root@${address}`, command]);
    expect((await onHost("mount -t tmpfs -o size=4m full /mailu")).code).toBe(0);
    const done = await recover(GLOBEX);
    expect((await onHost("umount /mailu")).code).toBe(0);
    expect(done.code).toBe(1);
    expect(done.stderr).toMatch(/disk of .* is full[\s\S]*next: {2}ssh/);
    expect(await versions(lab, GLOBEX)).toEqual(before);
  });
});
