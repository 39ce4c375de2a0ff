// contain: a leaked account is shut by ssh alone while Vault can't be asked. Here nobody listens where Vault should be,
// and whoever knocks there all the same is counted.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ImapFlow } from "imapflow";
import { createTransport } from "nodemailer";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { askMailu, canLogIn, decrypt, readRecord, tls } from "../../scripts/drill/doors.ts";
import { ACME, GLOBEX, type LabTenant } from "../../scripts/lab/tenants.ts";
import { adminAddress } from "../../stacks/names.ts";
import { auditLog, onHost } from "./door.ts";
import { withFaults } from "./faults.ts";
import { killedAt } from "./killed.ts";
import { addressOf, hosts, lab, program, runbook } from "./lab.ts";
import { passwordOf } from "./rebuilt.ts";

const knocks: string[] = [];
const nobody = createServer((socket) => {
  knocks.push(socket.remoteAddress ?? "");
  socket.destroy();
});
const scratch = mkdtempSync(join(tmpdir(), "contain-"));
let env: Record<string, string | undefined>;
beforeAll(async () => {
  await new Promise<void>((resolve) => nobody.listen(0, "127.0.0.1", resolve));
  const addr = `http://127.0.0.1:${(nobody.address() as AddressInfo).port}`;
  const settings = join(lab.place.dir, "no-vault.yaml");
  const own = readFileSync(join(lab.place.dir, "recovery.yaml"), "utf8");
  writeFileSync(settings, own.replace(lab.place.vaultAddr, addr));
  mkdirSync(join(scratch, ".ssh"), { mode: 0o700 });
  // A home of its own: the operator's known_hosts is looked into.
  env = { RECOVERY_CONFIG: settings, VAULT_ADDR: undefined, VAULT_TOKEN: undefined, HOME: scratch };
  await enableBoth();
});
afterEach(async () => {
  expect(knocks, "nobody asked Vault").toEqual([]);
  await enableBoth();
});
afterAll(() => {
  nobody.close();
  rmSync(scratch, { recursive: true });
  rmSync(join(lab.place.dir, "no-vault.yaml"), { force: true });
});

const ARGS = ["contain", "--incident", "INC-9", "--reason", "it's on a paste site", "--json"];
const contain = (...more: string[]) => runbook([...ARGS, "--yes", ...more], { env });
const containTenant = (tenant: LabTenant, ...more: string[]) => contain("--tenant", tenant.id, ...more);

/** One call of Mailu's API with the tenant's own token. */
async function mailu(tenant: LabTenant, method: string, path: string, body?: unknown): Promise<unknown> {
  const token = await decrypt(lab, tenant, (await readRecord(lab, tenant, "mailu")).fields.api_token);
  const answer = await askMailu(await addressOf(tenant.id), tenant, token, method, path, body);
  expect(answer.status, answer.body).toBe(200);
  return JSON.parse(answer.body) as unknown;
}

const userPath = (tenant: LabTenant) => `user/${adminAddress(tenant.domain)}`;
const enableBoth = () =>
  Promise.all(
    [ACME, GLOBEX].map((tenant) =>
      mailu(tenant, "PATCH", userPath(tenant), { enabled: true, global_admin: true }),
    ),
  );
const isEnabled = async (tenant: LabTenant) =>
  z.object({ enabled: z.boolean() }).parse(await mailu(tenant, "GET", userPath(tenant))).enabled;
const logsIn = async (tenant: LabTenant, password: string) =>
  canLogIn(await addressOf(tenant.id), tenant, password);

/** Connections of real clients that have logged in and stay. */
async function connections(tenant: LabTenant, pass: string) {
  const host = await addressOf(tenant.id);
  const user = adminAddress(tenant.domain);
  const common = { host, secure: true, auth: { user, pass }, tls: tls(tenant) };
  const imap = new ImapFlow({ ...common, port: 993, logger: false });
  imap.on("error", () => {});
  const imapEnded = new Promise<void>((resolve) => imap.once("close", () => resolve()));
  await imap.connect();
  const pool = createTransport({ ...common, port: 465, pool: true, maxConnections: 1 });
  const send = () => pool.sendMail({ from: user, to: user, subject: "contain", text: "hello" });
  await send();
  return { imapEnded, send, close: () => pool.close() };
}

const Contained = z.looseObject({
  event: z.string(),
  severity: z.string().optional(),
  tenant_id: z.string().optional(),
  details: z.looseObject({ username: z.string().optional() }),
});
/** Events of containments in the audit log, one for each line. */
const containments = async (tenant: LabTenant) =>
  (await auditLog())
    .trim()
    .split("\n")
    .map((line) => Contained.parse(JSON.parse(line)))
    .filter(({ event }) => event === "smtp_account_contained")
    .filter(({ details }) => details.username === adminAddress(tenant.domain));

describe("contain", () => {
  test("shuts the account of a tenant: password, app token and open connections, until a reset", async () => {
    const password = await passwordOf(GLOBEX);
    const app = z
      .object({ token: z.string() })
      .parse(await mailu(GLOBEX, "POST", "token", { email: adminAddress(GLOBEX.domain) })).token;
    expect(await logsIn(GLOBEX, app)).toBe(true);
    const open = await connections(GLOBEX, password);
    const before = await containments(GLOBEX);

    const done = await containTenant(GLOBEX);
    expect(done.code, done.stderr).toBe(0);
    await open.imapEnded;
    await expect(open.send()).rejects.toThrow();
    open.close();
    expect(await logsIn(GLOBEX, password)).toBe(false);
    expect(await logsIn(GLOBEX, app)).toBe(false);
    const result = JSON.parse(done.stdout);
    expect(result).toMatchObject({
      tenant: GLOBEX.id,
      address: await addressOf(GLOBEX.id),
      enabled: false,
      connections_ended: true,
    });
    expect((await containments(GLOBEX)).slice(before.length)).toMatchObject([
      {
        tenant_id: GLOBEX.id,
        severity: "critical",
        details: { incident_id: "INC-9", reason: "it's on a paste site", was_enabled: true },
      },
    ]);

    // What the result says to type, in a shell that has a Vault again.
    const command = /npx (runbook emergency-reset .*?) {3}#/.exec(String(result.next))?.[1] ?? "";
    expect(command).toContain(
      `--tenant ${GLOBEX.id} --incident INC-9 --reason 'it'\\''s on a paste site' --again`,
    );
    const reset = await program("sh", ["-c", `${command} --yes --json`]);
    expect(reset.code, reset.stderr).toBe(0);
    expect(await logsIn(GLOBEX, await passwordOf(GLOBEX))).toBe(true);
    expect(await logsIn(GLOBEX, password)).toBe(false);
    expect(await isEnabled(GLOBEX)).toBe(true);
  });

  test("finds a host by its address, with the key given or from known_hosts, also hashed", async () => {
    const address = await addressOf(ACME.id);
    const key = (await hosts()).find((one) => one.address === address)?.hostKey ?? "";
    const known = join(scratch, ".ssh", "known_hosts");
    const byAddress = (...more: string[]) => contain("--host", address, ...more);

    const unknown = await byAddress();
    expect(unknown.code, unknown.stderr).toBe(4);
    expect(unknown.stderr).toMatch(/Nobody knows the SSH key[\s\S]*next: {2}\S/);
    writeFileSync(known, `@revoked ${address} ${key}\n${address} ${key}\n`);
    expect((await byAddress()).code).toBe(4);
    expect(await isEnabled(ACME)).toBe(true);

    writeFileSync(known, `${address} ${key}\n`);
    await program("ssh-keygen", ["-q", "-H", "-f", known]);
    expect(readFileSync(known, "utf8")).not.toContain(address);
    const hashed = await byAddress();
    expect(hashed.code, hashed.stderr).toBe(0);
    expect(JSON.parse(hashed.stdout)).toMatchObject({ username: adminAddress(ACME.domain) });
    expect(JSON.parse(hashed.stdout).tenant).toBeUndefined();
    expect(await isEnabled(ACME)).toBe(false);
    rmSync(known);

    const again = await byAddress("--host-key", key, "--domain", ACME.domain);
    expect(again.code, again.stderr).toBe(0);
    expect((await containments(ACME)).at(-1)?.details).toMatchObject({ was_enabled: false });
  });

  test("changes nothing in a dry run, and says what it would do", async () => {
    const open = await connections(GLOBEX, await passwordOf(GLOBEX));
    const before = await auditLog();
    const dry = await containTenant(GLOBEX, "--dry-run");
    expect(dry.code, dry.stderr).toBe(0);
    expect(dry.stderr).toContain(`would: disable ${adminAddress(GLOBEX.domain)}`);
    expect(JSON.parse(dry.stdout)).toMatchObject({ enabled: true, connections_ended: false });
    await open.send();
    open.close();
    expect(await isEnabled(GLOBEX)).toBe(true);
    expect(await auditLog()).toBe(before);
  });

  test("says exit 5 when connections can't be ended, with the account shut and the event written; then completes", async () => {
    const before = await containments(GLOBEX);
    const open = await connections(GLOBEX, await passwordOf(GLOBEX));
    const faults = {
      exec: [
        { match: "front doveadm", code: 75 },
        { match: "imap doveadm", code: 75 },
      ],
    };
    const half = await withFaults(GLOBEX, faults, () => containTenant(GLOBEX));
    expect(half.code, half.stderr).toBe(5);
    expect(half.stderr).toMatch(/next: {2}run the same command again/);
    expect(JSON.parse(half.stdout)).toMatchObject({ enabled: false, connections_ended: false });
    expect(await isEnabled(GLOBEX)).toBe(false);
    await open.send();

    const whole = await containTenant(GLOBEX);
    expect(whole.code, whole.stderr).toBe(0);
    await open.imapEnded;
    open.close();
    expect((await containments(GLOBEX)).slice(before.length).map(({ details }) => details)).toMatchObject([
      { was_enabled: true, connections_ended: false },
      { was_enabled: false, connections_ended: true },
    ]);
  });

  const refusals: { what: string; args: () => string[] | Promise<string[]>; code: number; says: RegExp }[] = [
    { what: "neither tenant nor host", args: () => [], code: 2, says: /one of --tenant and --host/ },
    {
      what: "both of them",
      args: () => ["--tenant", GLOBEX.id, "--host", "127.0.0.1"],
      code: 2,
      says: /one of --tenant and --host/,
    },
    {
      what: "a tenant without a stack",
      args: () => ["--tenant", "missing"],
      code: 1,
      says: /Stack tenant-missing can't say[\s\S]*--host ADDRESS/,
    },
    {
      what: "another domain than the host's",
      args: () => ["--tenant", GLOBEX.id, "--domain", "other.example"],
      code: 4,
      says: /is the Mailu of globex\.example, not of other\.example/,
    },
    {
      what: "a stranger's key",
      args: async () => {
        const acme = await addressOf(ACME.id);
        const key = (await hosts()).find(({ address }) => address === acme)?.hostKey ?? "";
        return ["--host", await addressOf(GLOBEX.id), "--host-key", key];
      },
      code: 4,
      says: /another SSH host key/,
    },
    {
      what: "a key that is none",
      args: () => ["--host", "127.0.0.1", "--host-key", "x"],
      code: 2,
      says: /host-key/,
    },
  ];
  test.each(refusals)("refuses $what and leaves the account as it is", async ({ args, code, says }) => {
    const before = await auditLog();
    const done = await contain(...(await args()));
    expect(done.code, done.stderr).toBe(code);
    expect(done.stderr).toMatch(says);
    expect(done.stderr).toMatch(/next: {2}\S/);
    expect(await isEnabled(GLOBEX)).toBe(true);
    expect(await auditLog()).toBe(before);
  });

  test("asks first: without a terminal and --yes nothing is changed", async () => {
    const done = await runbook([...ARGS, "--tenant", GLOBEX.id], { env });
    expect(done.code).toBe(2);
    expect(done.stderr).toMatch(/Nobody is here to say yes/);
    expect(await isEnabled(GLOBEX)).toBe(true);
  });

  test("fails for a host whose Mailu doesn't run, with the next command", async () => {
    const compose = "docker compose -f /opt/mailu/docker-compose.yml";
    await onHost(GLOBEX, `${compose} stop`);
    const done = await containTenant(GLOBEX);
    await onHost(GLOBEX, `${compose} start; ${compose} up -d --wait`);
    expect(done.code, done.stderr).toBe(1);
    expect(done.stderr).toMatch(/can't be asked: .*is not running[\s\S]*next: {2}ssh /);
  });
});

describe("contain, killed", () => {
  const Steps = z.object({ steps: z.array(z.object({ title: z.string(), kind: z.string() })) });
  const STEPS = [
    `→ disable ${adminAddress(GLOBEX.domain)}`,
    "→ end its open connections",
    "→ see that nobody is connected any more",
    "→ write the audit event",
    "✓ write the audit event",
  ];

  test("has no other steps than those at which it is killed below", async () => {
    const dry = await containTenant(GLOBEX, "--dry-run");
    const changes = Steps.parse(JSON.parse(dry.stdout)).steps.filter(({ kind }) => kind === "change");
    expect(changes).toHaveLength(STEPS.length - 1);
    for (const [index, { title }] of changes.entries()) expect(`→ ${title}`).toContain(STEPS[index]);
  });

  // Dying after a step is dying before the next one; the last has its own case.
  test.each(STEPS)("is completed by the same command when it dies at '%s'", async (mark) => {
    const password = await passwordOf(GLOBEX);
    const before = await containments(GLOBEX);
    const open = await connections(GLOBEX, password);
    await killedAt([...ARGS, "--yes", "--tenant", GLOBEX.id], mark, { env });
    const again = await containTenant(GLOBEX);
    expect(again.code, again.stderr).toBe(0);
    await open.imapEnded;
    open.close();
    expect(await logsIn(GLOBEX, password)).toBe(false);
    const last = mark === STEPS.at(-1);
    expect(await containments(GLOBEX)).toHaveLength(before.length + (last ? 2 : 1));
  });
});
