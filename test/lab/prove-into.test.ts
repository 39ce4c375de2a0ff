// A backup of a Vault that opens itself, proven by restoring it into another Vault that its KMS opens: what is refused
// before anything changes, that it ends wherever it was killed, and what is left of it. Looked at over plain HTTP, with a
// root token of the test's own.
import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { copyFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { z } from "zod";
import { type Manifest, Restored } from "../../runbooks/lib/backup-records.ts";
import { endService } from "../../scripts/lab/children.ts";
import { ACME, TENANTS } from "../../scripts/lab/tenants.ts";
import { newRootToken, vaultCall } from "../../scripts/lab/vault.ts";
import { CANARY, metadataPath, recordPath } from "../../stacks/names.ts";
import { moveBack, moveToKms, OTHER, startOther } from "./auto-unseal.ts";
import { backUp, bytesOf, events, forget, manifestsOf, metrics, run, today, versions } from "./backup.ts";
import { vaultState } from "./door.ts";
import { killedAt } from "./killed.ts";
import { lab, vault } from "./lab.ts";
import { shares } from "./restores.ts";

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

let sealed: { kms: ChildProcess; own: ChildProcess };
let other: ChildProcess;
let made: Manifest;

/** It needs no login. */
const NOBODY = { VAULT_ROLE_ID: "", VAULT_SECRET_ID: "" };
const INTO = ["verify-backup", "--restore", "--into", OTHER.addr];
const prove = (args: string[] = INTO, { env = {}, input = shares() } = {}) =>
  run(args, { ...NOBODY, ...env }, `${input}\n`);

const askOther = (method: string, path: string, token?: string, body?: unknown) =>
  vaultCall(OTHER.addr, token, method, path, body) as Promise<Record<string, unknown>>;
const statusOfOther = () => askOther("GET", "sys/seal-status");
/** By the source's recovery keys. */
async function rootOfOther(): Promise<string> {
  copyFileSync(join(lab.place.dir, "unseal-keys"), join(OTHER.dir, "unseal-keys"));
  return newRootToken(OTHER.dir, OTHER.addr);
}
async function emptyOther(by: Parameters<typeof startOther>[0] = "unseal"): Promise<void> {
  await endService(other, 0);
  other = await startOther(by);
}
/** What is killed has the recovery keys on its standard input. */
const through = ["sh", "-c", `exec "$@" < '${join(lab.place.dir, "unseal-keys")}'`, "sh"];
const marks = async () => (await versions(`backups/${today()}/`)).filter((one) => one.includes("/restored-"));

beforeAll(async () => {
  await backUp();
  sealed = await moveToKms();
  other = await startOther("unseal");
});
afterAll(async () => {
  await endService(other, 0);
  await moveBack(sealed);
  for (const { version_id, seal_type } of await manifestsOf(today()))
    if (seal_type === "transit") await forget(version_id);
});

test("a backup that key shares open is told to go into a throwaway Vault", async () => {
  const { code, stderr } = await prove();
  expect(code, stderr).toBe(4);
  expect(stderr).toMatch(/is opened by key shares.*\nnext: {2}npx runbook verify-backup --restore --date 20/);
  made = await backUp();
  expect(made.seal_type).toBe("transit");
});

test("without --restore, and for what is no address: bad usage", async () => {
  const alone = await prove(["verify-backup", "--into", OTHER.addr]);
  expect(alone.code, alone.stderr).toBe(2);
  expect(alone.stderr).toMatch(/--into .*\nnext: .*--restore/);
  for (const addr of ["vault.example", "http://me:secret@vault.example", "ftp://vault.example"])
    expect((await prove(["verify-backup", "--restore", "--into", addr])).code).toBe(2);
});

test("your own Vault, by whichever name, is refused before anybody types", async () => {
  const { hostname, port } = new URL(lab.place.vaultAddr);
  // What no name tells: a door in front of it.
  const door = createServer((one) => {
    const onward = connect(Number(port), hostname);
    for (const end of [one, onward]) end.on("error", () => end.destroy());
    one.pipe(onward).pipe(one);
  });
  await new Promise<void>((resolve) => door.listen(0, "127.0.0.1", resolve));
  const before = await vaultState(...TENANTS);
  try {
    const through = `http://127.0.0.1:${(door.address() as AddressInfo).port}`;
    for (const addr of [`${lab.place.vaultAddr}/`, `http://[::ffff:${hostname}]:${port}`, through]) {
      const { code, stderr } = await prove(["verify-backup", "--restore", "--into", addr], { input: "" });
      expect(code, addr + stderr).toBe(4);
      expect(stderr).toMatch(/the one of your settings or of VAULT_ADDR.*\nnext: .*an empty Vault/);
    }
  } finally {
    door.close();
  }
  const named = await prove(INTO, { env: { VAULT_ADDR: OTHER.addr }, input: "" });
  expect(named.code, named.stderr).toBe(4);
  expect(named.stderr).toContain("the one of your settings or of VAULT_ADDR");
  expect(await vaultState(...TENANTS)).toEqual(before);
  expect(await statusOfOther()).toMatchObject({ initialized: false });
});

test("one of another seal, and one that somebody has initialised, are refused and left as they are", async () => {
  await emptyOther("shares");
  const shamir = await prove(INTO, { input: "" });
  expect(shamir.code, shamir.stderr).toBe(4);
  expect(shamir.stderr).toMatch(
    /is sealed by shamir, and the one that was backed up by transit\nnext: .*`seal`/,
  );
  expect(await statusOfOther()).toMatchObject({ initialized: false });

  await emptyOther();
  // Also what a run leaves that was killed in the very moment of it.
  const init = await askOther("PUT", "sys/init", undefined, { recovery_shares: 1, recovery_threshold: 1 });
  const token = z.string().parse(init.root_token);
  await vi.waitFor(() => askOther("POST", "sys/mounts/theirs", token, { type: "kv" }), 20_000);
  const audited = events("vault_backup_restored").length;
  for (const more of [[], ["--dry-run"]]) {
    const { code, stderr } = await prove([...INTO, ...more]);
    expect(code, stderr).toBe(4);
    expect(stderr).toMatch(/is initialised, and not by this command.*\nnext: .*remove what is in the folder/);
  }
  expect(await askOther("GET", "sys/mounts/theirs", token)).toMatchObject({ data: { type: "kv" } });
  expect(events("vault_backup_restored")).toHaveLength(audited);
});

test("in a dry run it says what it would do, and touches neither Vault nor bucket", async () => {
  await emptyOther();
  const before = await versions();
  const { code, stderr, result } = await prove([...INTO, "--dry-run"]);
  expect(code, stderr).toBe(0);
  for (const step of ["initialise it with 3 recovery keys", "stream the backup into it", "write restored-"])
    expect(stderr).toContain(`would: ${step}`);
  expect(result).toMatchObject({ restored: null });
  expect(result).not.toHaveProperty("copy");
  expect(await statusOfOther()).toMatchObject({ initialized: false });
  expect(await versions()).toEqual(before);
});

test("what the refusal names proves the backup, tells how to destroy the copy, and leaves the source alone", async () => {
  await emptyOther();
  const [source, before, audited] = [
    await vaultState(...TENANTS),
    await marks(),
    events("vault_backup_restored"),
  ];
  const refused = await prove(["verify-backup", "--restore"], { input: "" });
  const [, next = ""] = /next: {2}npx runbook (.*?) +#/.exec(refused.stderr) ?? [];
  const began = Date.now();
  const { code, stderr, result } = await prove(next.replace("ADDR", OTHER.addr).split(" "));
  expect(code, stderr).toBe(0);

  const added = (await marks()).filter((one) => !before.includes(one));
  expect(added).toHaveLength(1);
  const mark = Restored.parse(JSON.parse((await bytesOf(added[0]?.split(" ")[0] ?? "")).toString()));
  expect(mark).toMatchObject({ date: today(), version_id: made.version_id, tenants: made.tenants });
  expect(mark.tenants).toEqual(expect.arrayContaining(TENANTS.map(({ id }) => id)));
  expect(mark.seconds).toBeGreaterThan(0.5);
  expect(mark.seconds).toBeLessThan((Date.now() - began) / 1000);
  expect(result).toMatchObject({ restored: mark, copy: OTHER.addr });
  expect(result.opened).toContainEqual(
    expect.objectContaining({ version_id: made.version_id, unproven: null }),
  );
  const told = events("vault_backup_restored");
  expect(told).toHaveLength(audited.length + 1);
  expect(told.at(-1)).toMatchObject({ version_id: made.version_id, seconds: mark.seconds });
  expect(metrics()).toMatchObject({ verify_run_success: 1, restore_duration_seconds: mark.seconds });

  expect(stderr).toMatch(
    /at http:\S+ may hold every secret of the backup of 20.*Destroy it: .*stop it and remove/,
  );
  for (const key of shares().split("\n"))
    for (const text of [stderr, JSON.stringify(result)]) expect(text).not.toContain(key);

  // A copy of everything, in which no token of ours is left.
  const token = await rootOfOther();
  expect(await askOther("GET", recordPath(CANARY, "admin"), token)).toMatchObject({
    data: { data: { nonce: made.canary.nonce }, metadata: { version: made.canary.version } },
  });
  expect(await askOther("GET", recordPath(ACME.id, "admin"), token)).toMatchObject({
    data: { data: await vault("GET", recordPath(ACME.id, "admin")).then(fieldsOf) },
  });
  expect(await rootTokens(token)).toBe(1 + (await rootTokens(lab.rootToken, lab.place.vaultAddr)));
  expect(await vaultState(...TENANTS)).toEqual(source);
  expect(JSON.stringify(await vault("GET", metadataPath(CANARY, "admin")))).not.toContain(made.version_id);

  // It is no empty Vault any more.
  const again = await prove();
  expect(again.code, again.stderr).toBe(4);
  expect(again.stderr).toMatch(/holds data: .*acme.*\nnext: .*proven already.*remove what is in the folder/);
  expect(await marks()).toHaveLength(before.length + 1);
});

test("killed wherever it is, the same command ends it, with the time since the first of them", async () => {
  await emptyOther();
  const audited = events("vault_backup_restored").length;
  const began = Date.now();
  for (const mark of [
    "→ stream the backup into it",
    "→ wait until it has opened itself",
    "→ go in by the recovery keys",
    "→ read and decrypt",
    "→ write restored-",
  ])
    await killedAt([...INTO, "--yes"], mark, { env: { ...NOBODY, VAULT_TOKEN: "" }, through });
  const foreign = [7, 9].map((at) => Buffer.concat([randomBytes(32), Buffer.from([at])]).toString("base64"));
  const wrong = await prove(INTO, { input: foreign.join("\n") });
  expect(wrong.code, wrong.stderr).toBe(4);
  expect(wrong.stderr).toMatch(
    /doesn't take these recovery keys.*\nnext: .*same command again, with the recovery keys/,
  );
  for (const key of foreign) expect(wrong.stderr).not.toContain(key);
  const { code, stderr, result } = await prove();
  expect(code, stderr).toBe(0);
  expect(stderr).toContain("is in there already: going on with its proof");
  const { seconds } = Restored.parse(result.restored);
  expect(seconds).toBeGreaterThan(2);
  expect(seconds).toBeLessThan((Date.now() - began) / 1000);
  const told = events("vault_backup_restored").slice(audited);
  expect(told.at(-1)).toMatchObject({ version_id: made.version_id, seconds });
});

test("a copy of an older backup whose proof was killed isn't overwritten: its day goes on with it", async () => {
  await emptyOther();
  await killedAt([...INTO, "--yes"], "→ read and decrypt", { env: { ...NOBODY, VAULT_TOKEN: "" }, through });
  const token = await rootOfOther();
  const path = recordPath(CANARY, "admin");
  const written = new Date(Date.now() - 86_400_000).toISOString();
  const data = { ...fieldsOf(await askOther("GET", path, token)), written };
  await askOther("POST", path, token, { data, options: { cas: made.canary.version } });
  made = await backUp();
  const { code, stderr } = await prove();
  expect(code, stderr).toBe(4);
  expect(stderr).toContain(
    `, or with --date ${written.slice(0, 10)}, which goes on with the copy of that day`,
  );
  expect(fieldsOf(await askOther("GET", path, token))).toEqual(data);
});

test("recovery keys that are typed wrongly are found out behind the restore, and typed again", async () => {
  await emptyOther();
  const foreign = [7, 9].map((at) => Buffer.concat([randomBytes(32), Buffer.from([at])]).toString("base64"));
  const wrong = await prove(INTO, { input: foreign.join("\n") });
  expect(wrong.code, wrong.stderr).toBe(5);
  expect(wrong.stderr).toMatch(
    /doesn't take these recovery keys.*\nnext: .*same command again, with the recovery keys/,
  );
  expect(wrong.stderr).toContain("Destroy it");
  const { code, stderr } = await prove();
  expect(code, stderr).toBe(0);
  expect(stderr).not.toContain("stream the backup");
});

test("a key of the KMS that isn't the backup's is found out by Vault itself, and no mark is written", async () => {
  await emptyOther("another");
  const before = await marks();
  for (const exit of [5, 4]) {
    const { code, stderr } = await prove();
    expect(code, stderr).toBe(exit);
    expect(stderr).toMatch(
      /can't open this backup by its own seal, and changed nothing.*\nnext: .*KMS answers/,
    );
  }
  expect(await marks()).toEqual(before);
});

const Fields = z.object({ data: z.object({ data: z.record(z.string(), z.unknown()) }) });
const fieldsOf = (answer: unknown) => Fields.parse(answer).data.data;

/** How many tokens may do everything. */
async function rootTokens(token: string, addr = OTHER.addr): Promise<number> {
  const call = (method: string, path: string, body?: unknown) => vaultCall(addr, token, method, path, body);
  const Keys = z.object({ data: z.object({ keys: z.array(z.string()) }) });
  const { keys } = Keys.parse(await call("LIST", "auth/token/accessors")).data;
  const Policies = z.object({ data: z.object({ policies: z.array(z.string()) }) });
  const found = await Promise.all(
    keys.map(async (accessor) =>
      Policies.safeParse(
        await call("POST", "auth/token/lookup-accessor", { accessor }).catch(() => undefined),
      ),
    ),
  );
  return found.filter(({ data }) => data?.data.policies.includes("root")).length;
}
