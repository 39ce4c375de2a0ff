// Recovery on a real Vault and a mail host: killed at every step, in a race with a reset, on a compromised
// credential, and with everything that can be wrong. What it did is seen through Vault's raw HTTP API and by
// logging in with other clients.
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { canLogIn, decrypt, readRecord, versions } from "../../scripts/drill/doors.ts";
import { type Faults, setFaults } from "../../scripts/lab/mailu/faults.ts";
import { ACME, GLOBEX, type LabTenant } from "../../scripts/lab/tenants.ts";
import { REPOSITORY } from "../../scripts/toolchain/paths.ts";
import { metadataPath, recordPath, TRANSIT_MOUNT } from "../../stacks/names.ts";
import { addressOf, hosts, lab, runbook, vault } from "./lab.ts";

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

/** Runs recovery and kills it hard as soon as it prints a line that begins with `mark`. */
async function killedAt(tenant: LabTenant, mark: string): Promise<void> {
  const child = spawn(join(REPOSITORY, "runbooks", "main.ts"), ARGS(tenant), {
    env: lab.env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals | null>();
  child.once("exit", (_code, signal) => resolve(signal));
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
    if (said.includes(mark)) child.kill("SIGKILL");
  });
  expect(await promise, `it was not killed at '${mark}':\n${said}`).toBe("SIGKILL");
}

async function currentPassword(tenant: LabTenant): Promise<string> {
  return decrypt(lab, tenant, (await readRecord(lab, tenant, "admin")).fields.password);
}

async function expectWhole(tenant: LabTenant): Promise<void> {
  expect(await canLogIn(await addressOf(tenant.id), tenant, await currentPassword(tenant))).toBe(true);
  const rotation = (await readRecord(lab, tenant, "rotation")).fields;
  expect(rotation).toMatchObject({ state: "CLEARED", holder: null });
}

async function withFaults<T>(tenant: LabTenant, faults: Faults, work: () => Promise<T>): Promise<T> {
  const address = await addressOf(tenant.id);
  const host = (await hosts()).find((one) => one.address === address);
  const disk = join(lab.place.dir, "hosts", host?.id ?? "", "root");
  setFaults(disk, faults);
  try {
    return await work();
  } finally {
    setFaults(disk, undefined);
  }
}

const auditLog = (): Promise<string> => readFile(join(lab.place.dir, "audit.jsonl"), "utf8");

describe("recover-credentials, killed", () => {
  test("has steps to be killed at", () => {
    expect(CHANGES.length).toBeGreaterThan(5);
  });

  test.each(CHANGES)(
    "is completed by the same command when it dies before or after '$title'",
    async ({ title }) => {
      await Promise.all(
        [
          { tenant: ACME, mark: `→ ${title}` },
          { tenant: GLOBEX, mark: `✓ ${title}` },
        ].map(async ({ tenant, mark }) => {
          const before = await versions(lab, tenant);
          await killedAt(tenant, mark);
          const again = await recover(tenant);
          expect(again.code, again.stderr).toBe(0);
          await expectWhole(tenant);
          expect((await versions(lab, tenant)).admin).toBe(before.admin);
        }),
      );
    },
  );

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

  test("doesn't rotate again once the current version is another one", async () => {
    const before = await readRecord(lab, GLOBEX, "admin");
    expect((await recover(GLOBEX)).code).toBe(0);
    expect((await readRecord(lab, GLOBEX, "admin")).version).toBe(before.version);
  });
});

describe("recover-credentials beside others", () => {
  test("sets what Vault holds when somebody stores another credential between its read and its SET", async () => {
    const before = await readRecord(lab, GLOBEX, "admin");
    const password = "bXV0dWFsIGFncmVlbWVudCBvZiB0d28gd3JpdGVycyBhdCBvbmUgdGltZSE+/+//Aa==";
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
