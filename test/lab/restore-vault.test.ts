// `restore-vault` on a Vault whose process and data were destroyed. What is refused leaves the empty Vault empty; what is
// restored is looked at by plain HTTP and by real logins at the mail servers.
import { randomBytes } from "node:crypto";
import { createReadStream, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { z } from "zod";
import { open } from "../../runbooks/lib/seal.ts";
import { recoveryPrivateKey } from "../../runbooks/lib/seal-keys.ts";
import { canLogIn } from "../../scripts/drill/doors.ts";
import { TENANTS } from "../../scripts/lab/tenants.ts";
import { BACKUPS, CANARY, MANIFEST, recordPath, SNAPSHOT } from "../../stacks/names.ts";
import { backUp, bytesOf, events, forget, manifestsOf, put, run, today } from "./backup.ts";
import { addressOf, lab, runbook, vault } from "./lab.ts";
import { passwordOf } from "./rebuilt.ts";
import {
  ask,
  beginRestore,
  isNew,
  logInAgain,
  openNewest,
  restore,
  restorerToken,
  shares,
  turnVault,
  withBucketDoor,
} from "./restores.ts";

vi.setConfig({ testTimeout: 600_000, hookTimeout: 300_000 });

const Secret = z.object({ data: z.object({ secret_id: z.string(), secret_id_accessor: z.string() }) });
const RoleId = z.object({ data: z.object({ role_id: z.string() }) });

let made: Awaited<ReturnType<typeof backUp>>;
/** A login that was taken away after the backup, and is in it. */
const gone = { role_id: "", secret_id: "" };
/** What a tenant's own program reads its password with. */
let reader = "";
const Token = z.object({ auth: z.object({ client_token: z.string() }) });

beforeAll(async () => {
  const secret = Secret.parse(await vault("POST", "auth/approle/role/system/secret-id")).data;
  gone.secret_id = secret.secret_id;
  gone.role_id = RoleId.parse(await vault("GET", "auth/approle/role/system/role-id")).data.role_id;
  const policies = ["tenant-acme"];
  reader = Token.parse(await vault("POST", "auth/token/create-orphan", { policies })).auth.client_token;
  made = await backUp();
  await openNewest();
  const { secret_id_accessor } = secret;
  await vault("POST", "auth/approle/role/system/secret-id-accessor/destroy", { secret_id_accessor });
  await turnVault("lost");
});
// The lab's Vault is everybody's: whatever a test has left is brought back.
afterAll(async () => {
  if (await isNew()) await restore();
  await logInAgain();
});

test("is refused with wrong shares, too few, twice the same one, or the right ones of nobody", async () => {
  const [first = "", second = ""] = shares().split("\n");
  const wrong = Buffer.concat([Buffer.alloc(32, 7), Buffer.from([9])]).toString("base64");
  const refused = await restore([], { input: `${first}\n${wrong}` });
  expect(refused.code, refused.stderr).toBe(4);
  expect(refused.stderr).toContain("key shares");
  expect((await restore([], { input: first })).code).toBe(2);
  expect((await restore([], { input: `${first}\n${first}` })).code).toBe(2);
  expect((await restore([], { input: `${second}\nnot-a-share` })).code).toBe(2);
  expect(refused.stderr).not.toContain(first);
  expect(await isNew()).toBe(true);
});

test("is refused where the bucket says no, and changes nothing", async () => {
  const fates = [/versions/, new RegExp(SNAPSHOT), /audit/];
  for (const denied of fates) {
    const answer = await withBucketDoor(
      (call) => (denied.test(call) ? "denied" : undefined),
      (env) => restore([], { env }),
    );
    expect(answer.code, `${denied}: ${answer.stderr}`).toBe(3);
    expect(await isNew()).toBe(true);
  }
});

/** A manifest of its own for the backup's day, newer than the true one, with an object of its own. */
async function forged(change: Record<string, unknown>, sealed?: Buffer): Promise<string> {
  const Key = `${BACKUPS}${today()}/${SNAPSHOT}`;
  const version_id = await put(Key, sealed ?? (await bytesOf(Key, made.version_id)));
  const written = new Date(Date.parse(made.canary.written) + 1000).toISOString();
  const manifest = { ...made, version_id, canary: { ...made.canary, written }, ...change };
  await put(`${BACKUPS}${today()}/${MANIFEST}`, JSON.stringify(manifest));
  const opened = {
    format: 1,
    date: made.date,
    version_id,
    plain_sha256: made.plain_sha256,
    canary: made.canary,
    key: "a-key",
    run: "a-run",
    at: new Date().toISOString(),
    seconds: 1,
  };
  await put(`${BACKUPS}${today()}/opened-20990101T000000Z.json`, JSON.stringify(opened));
  return version_id;
}

test("is refused for a broken archive and for another version of Vault, older or newer", async () => {
  const whole = await bytesOf(`${BACKUPS}${today()}/${SNAPSHOT}`, made.version_id);
  const flipped = Buffer.from(whole);
  flipped.writeUInt8(flipped.readUInt8(flipped.length - 100) ^ 1, flipped.length - 100);
  const cases: [Record<string, unknown>, Buffer | undefined, number, RegExp][] = [
    [{}, flipped, 1, /can't be restored/],
    [{ sealed_bytes: whole.length - 40 }, whole.subarray(0, whole.length - 40), 1, /ends too early/],
    [{ vault_version: "1.20.4" }, undefined, 4, /version 1\.21.*one of 1\.20\.4/],
    [{ vault_version: "1.22.0" }, undefined, 4, /one of 1\.22\.0/],
  ];
  for (const [change, sealed, code, said] of cases) {
    const version = await forged(change, sealed);
    const answer = await restore();
    await forget(version);
    expect(answer.code, answer.stderr).toBe(code);
    expect(answer.stderr).toMatch(said);
    expect(await isNew()).toBe(true);
  }
  expect((await restore(["--date", "all"])).code).toBe(2);
  expect((await restore(["--date", "2019-01-01"])).code).toBe(2);
});

test("says in a dry run what it would do, and does none of it", async () => {
  const { code, stderr } = await restore(["--dry-run"]);
  expect(code, stderr).toBe(0);
  for (const title of [
    "initialise it with 3 key shares",
    "stream the backup",
    "revoke the tokens",
    "new backup",
  ])
    expect(stderr).toMatch(new RegExp(`would: .*${title}`));
  expect(await isNew()).toBe(true);
});

test("goes on after its bucket was cut off in the middle of the stream", async () => {
  let downloads = 0;
  const cut = await withBucketDoor(
    // The first one goes into the throwaway Vault.
    (call) => (new RegExp(`GET .*${SNAPSHOT}`).test(call) && ++downloads === 2 ? "cut" : undefined),
    (env) => restore([], { env }),
  );
  expect(cut.code, cut.stderr).toBe(5);
  expect(await isNew()).toBe(false);
  const { code, stderr, result } = await restore();
  expect(code, stderr).toBe(0);
  expect(stderr).not.toContain("initialise it");
  expect(result).toMatchObject({ date: today(), version_id: made.version_id, within_rto: true });
  for (const { id } of TENANTS)
    expect(result.tenants).toContainEqual(
      expect.objectContaining({ tenant: id, state: "same", problems: [] }),
    );

  // Who was shut out stays out, and so is everybody else until he has a new login.
  expect((await ask("POST", "auth/approle/login", "", gone)).status).toBe(400);
  for (const token of [lab.operatorToken, lab.rootToken, restorerToken()])
    expect((await ask("GET", "auth/token/lookup-self", token)).status).toBe(403);
  expect((await ask("GET", recordPath(TENANTS[0]?.id ?? CANARY, "admin"), reader)).status).toBe(200);
  const logins = z.array(z.object({ role: z.string(), wrapped: z.string() })).parse(result.new_logins);
  const system = logins.find(({ role }) => role === "system")?.wrapped;
  const unwrapped = await ask("POST", "sys/wrapping/unwrap", system);
  expect((await ask("POST", "auth/approle/login", "", unwrapped.body.data)).status).toBe(200);

  await logInAgain();
  const canary = (
    await ask("GET", `${recordPath(CANARY, "admin")}?version=${made.canary.version}`, lab.rootToken)
  ).body;
  expect(canary).toMatchObject({ data: { data: { nonce: made.canary.nonce, date: made.date } } });
  for (const tenant of TENANTS)
    expect(await canLogIn(await addressOf(tenant.id), tenant, await passwordOf(tenant))).toBe(true);
  // No root token is left but the one just made for looking.
  const accessors = z
    .object({ data: z.object({ keys: z.array(z.string()) }) })
    .parse(await vault("LIST", "auth/token/accessors")).data.keys;
  const policies = await Promise.all(
    accessors.map((accessor) => vault("POST", "auth/token/lookup-accessor", { accessor })),
  );
  expect(policies.filter((one) => JSON.stringify(one).includes('"root"'))).toHaveLength(1);

  expect(events("vault_restored_from_backup").at(-1)).toMatchObject({
    backup_date: made.date,
    restoration_time: expect.any(Number),
    version_id: made.version_id,
  });
  const { code: listed, result: list } = await run(["list-backups"]);
  expect(listed).toBe(0);
  expect(list.backups).toContainEqual(
    expect.objectContaining({ version_id: made.version_id, restored_at: expect.any(String) }),
  );
  const newest = (await manifestsOf(today()))
    .map(({ canary: { written } }) => written)
    .sort()
    .at(-1);
  expect(newest).not.toBe(made.canary.written);
});

test("leaves a living Vault alone unless the operator insists, and keeps what it overwrites", async () => {
  const marker = recordPath(CANARY, "server");
  await vault("POST", marker, { data: { written: "after the backup" }, options: { cas: 0 } });
  const refused = await restore([], { env: { VAULT_TOKEN: restorerToken() } });
  expect(refused.code, refused.stderr).toBe(4);
  expect(refused.stderr).toContain("--over-live");
  expect((await restore([])).code, "without a login").toBe(4);
  const insist = ["--over-live", "--cluster"];
  expect((await restore([...insist, "lab"], { env: { VAULT_TOKEN: lab.rootToken } })).code).toBe(4);
  expect((await restore([...insist, "lab"], { env: { VAULT_TOKEN: lab.operatorToken } })).code).toBe(3);
  const env = { VAULT_TOKEN: restorerToken() };
  expect((await restore([...insist, "another"], { env })).code).toBe(2);
  expect((await restore(["--over-live"], { env })).code).toBe(2);
  expect((await ask("GET", marker, lab.rootToken)).status).toBe(200);

  const file = join(lab.place.dir, `kept-${today()}-${randomBytes(3).toString("hex")}.enc`);
  const done = await restore([...insist, "lab", "--keep", file], { env });
  expect(done.code, done.stderr).toBe(0);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(readFileSync(file).readUInt8(0), "the AWS Encryption SDK's version 2, not gzip").toBe(2);
  const key = recoveryPrivateKey(readFileSync(join(lab.place.dir, "offline-recovery.pem"), "utf8"));
  const plain = await buffer(await open(createReadStream(file), key));
  expect(plain.readUInt16BE(0), "a gzip").toBe(0x1f8b);
  expect(plain.length).toBeGreaterThan(10_000);
  await logInAgain();
  expect((await ask("GET", marker, lab.rootToken)).status).toBe(404);
  const again = await restore([], { env: { VAULT_TOKEN: restorerToken() } });
  expect(again.code, "it has ended").toBe(4);
});

test("ends usable in a Vault that somebody had initialised with one share", async () => {
  await turnVault("lost");
  const init = await ask("PUT", "sys/init", "", { secret_shares: 1, secret_threshold: 1 });
  const [key] = z.object({ keys_base64: z.array(z.string()) }).parse(init.body).keys_base64;
  await ask("PUT", "sys/unseal", "", { key });
  await vi.waitFor(async () => expect((await ask("GET", "sys/health")).status).toBe(200), 20_000);
  const env = { VAULT_TOKEN: String(init.body.root_token) };
  const first = await restore([], { env });
  expect(first.code, first.stderr).toBe(5);
  expect(first.stderr).toContain("systemctl restart vault");
  expect((await restore([], { env })).code, "not restarted yet").toBe(5);
  await turnVault("restarted");
  const { code, stderr, result } = await restore([], { env });
  expect(code, stderr).toBe(0);
  expect(result.version_id).toBe(made.version_id);
  await logInAgain();
  for (const tenant of TENANTS)
    expect(await canLogIn(await addressOf(tenant.id), tenant, await passwordOf(tenant))).toBe(true);
});

test("is finished by the same command wherever it was killed", async () => {
  await turnVault("lost");
  const dry = await restore(["--dry-run"]);
  // The pulumi in the middle has its own tests; a kill in it costs a minute of waiting for its lock.
  const titles = [...dry.stderr.matchAll(/would: (.*)/g)].map(([, title]) => title ?? "");
  expect(titles.length).toBeGreaterThan(9);
  for (const title of titles) {
    // Its shares are in the process's memory until the end of that step: see the next test.
    if (title.startsWith("initialise")) continue;
    const running = beginRestore();
    const met = await running.said(`→ ${title}`).then(
      () => true,
      () => false,
    );
    if (met) running.signal("SIGKILL");
    const { code, stderr } = await running.ended;
    // What the run before had done already isn't done again: it is met on the next one.
    expect(met || code === 0, `${title}: ${stderr}`).toBe(true);
    if (!met) await turnVault("lost");
  }
  const { code, stderr } = await restore();
  // Killed behind its last step it has ended, and a restore over it is another matter.
  expect([0, 4], stderr).toContain(code);
  await logInAgain();
  const metadata = (await ask("GET", `smtp/metadata/${CANARY}/admin`, lab.rootToken)).body;
  expect(metadata).toMatchObject({
    data: { custom_metadata: { restored_from: made.version_id, restore_step: "ended" } },
  });
  for (const tenant of TENANTS)
    expect(await canLogIn(await addressOf(tenant.id), tenant, await passwordOf(tenant))).toBe(true);
  expect((await runbook(["audit", "verify"])).code).toBe(0);
});

test("says what to do about an empty Vault that nobody can look into, and goes on once it is emptied", async () => {
  await turnVault("lost");
  const init = await ask("PUT", "sys/init", "", { secret_shares: 3, secret_threshold: 2 });
  const keys = z.object({ keys_base64: z.array(z.string()) }).parse(init.body).keys_base64;
  const sealed = await restore();
  expect(sealed.code, sealed.stderr).toBe(4);
  expect(sealed.stderr).toContain("empty one");
  for (const key of keys.slice(0, 2)) await ask("PUT", "sys/unseal", "", { key });
  await vi.waitFor(async () => expect((await ask("GET", "sys/health")).status).toBe(200), 20_000);
  const unsealed = await restore();
  expect(unsealed.code, unsealed.stderr).toBe(4);
  expect(unsealed.stderr).toContain("empty one");
  await turnVault("lost");
  const { code, stderr } = await restore();
  expect(code, stderr).toBe(0);
  await logInAgain();
});
