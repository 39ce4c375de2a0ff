// `verify-backup --restore` as people run it once a month: on the lab's bucket, with the lab's key shares.
import { randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Manifest, Restored } from "../../runbooks/lib/backup-records.ts";
import type { VerifiedTenant } from "../../runbooks/lib/verify-tenants.ts";
import { readRecord } from "../../scripts/drill/doors.ts";
import { ACME, GLOBEX, TENANTS } from "../../scripts/lab/tenants.ts";
import { REPOSITORY } from "../../scripts/toolchain/paths.ts";
import { TRANSIT_MOUNT } from "../../stacks/names.ts";
import { atTerminal } from "./at-terminal.ts";
import { backUp, bytesOf, events, forget, metrics, put, run, today, versions } from "./backup.ts";
import { vaultState, writeRecord } from "./door.ts";
import { lab, program, vault } from "./lab.ts";
import { filesUnder, findings, searchFor, watchProcesses } from "./needles.ts";
import { AUDIT_FILE, SHARES_FILE, shares } from "./throwaway.ts";

const away = mkdtempSync(join(tmpdir(), "restored-"));
afterAll(() => rmSync(away, { recursive: true }));

/** It needs no Vault, and reaches none: it is told of one that isn't there. */
const NO_VAULT = { VAULT_ADDR: "http://127.0.0.1:1", VAULT_ROLE_ID: "", VAULT_SECRET_ID: "", TMPDIR: away };
const restore = (given: string[], ...more: string[]) =>
  run(["verify-backup", "--restore", ...more], NO_VAULT, `${given.join("\n")}\n`);
const marks = async () => (await versions(`backups/${today()}/`)).filter((one) => one.includes("/restored-"));
async function rowOf(version: string) {
  const { result } = await run(["list-backups"]);
  const rows = result.backups as { version_id: string; restored_at: string | null }[];
  return rows.find(({ version_id }) => version_id === version);
}

let latest: Manifest;
beforeAll(async () => {
  latest = await backUp();
}, 300_000);

describe("verify-backup --restore", { timeout: 300_000 }, () => {
  test("proves the newest, says so beside it, in the log, the metrics and the list, and leaves the source alone", async () => {
    expect((await rowOf(latest.version_id))?.restored_at).toBeNull();
    const [source, before] = [await vaultState(...TENANTS), await marks()];
    // From here on nobody may ask Vault anything: its audit device would write of it.
    const audit = readFileSync(AUDIT_FILE);
    const { result: ended, args, environment } = await watchProcesses(() => restore(shares().slice(1)));
    expect(ended.code, ended.stderr).toBe(0);
    expect(readFileSync(AUDIT_FILE).equals(audit), "the source's audit file").toBe(true);
    expect(await vaultState(...TENANTS)).toEqual(source);

    const [name = ""] = (await marks()).filter((one) => !before.includes(one));
    const mark = Restored.parse(JSON.parse((await bytesOf(name.split(" ")[0] ?? "")).toString()));
    expect(mark).toMatchObject({
      date: today(),
      version_id: latest.version_id,
      tenants: latest.tenants,
      seconds: expect.any(Number),
    });
    expect(mark.tenants).toEqual(expect.arrayContaining(TENANTS.map(({ id }) => id)));
    expect(mark.seconds).toBeGreaterThan(0.5);
    expect(ended.result.restored).toEqual(mark);
    expect((await rowOf(latest.version_id))?.restored_at).toBe(mark.at);
    expect(events("vault_backup_restored").at(-1)).toEqual({
      backup_date: today(),
      version_id: latest.version_id,
      canary_version: latest.canary.version,
      tenants: latest.tenants.length,
      seconds: mark.seconds,
    });
    expect(metrics()).toMatchObject({
      verify_run_success: 1,
      last_restored_timestamp_seconds: Math.floor(Date.parse(mark.at) / 1000),
      restore_duration_seconds: mark.seconds,
    });

    const search = searchFor(shares().map((value, index) => ({ what: `share ${index + 1}`, value })));
    for (const text of [args, environment, ended.stderr, JSON.stringify(ended.result)])
      expect(search(text)).toEqual([]);
    const files = filesUnder(lab.place.dir).filter((file) => file !== SHARES_FILE);
    expect(findings(search, files)).toEqual([]);
    expect(readdirSync(away)).toEqual([]);
  });

  test("in a dry run restores it and writes nothing", async () => {
    const before = await versions();
    const { code, stderr } = await restore(shares(), "--dry-run");
    expect(code, stderr).toBe(0);
    expect(stderr).toContain("✓ read and decrypt what it has of every tenant");
    expect(stderr).toMatch(/would: write restored-/);
    expect(await versions()).toEqual(before);
  });

  test("at a terminal asks for one share after another and shows none", async () => {
    const terminal = atTerminal(["verify-backup", "--restore"], NO_VAULT);
    const [one = "", two = ""] = shares();
    await terminal.said("key share 1 of 2 (it isn't shown): ");
    terminal.press(`${one}\r`);
    await terminal.said("key share 2 of 2: ");
    terminal.press(`${one}\r`);
    await terminal.said("key share 2 is key share 1 once more");
    terminal.press(`${two}\r`);
    expect(await terminal.ended, terminal.sent()).toBe(0);
    expect(terminal.sent()).toContain(`${today()} restores: ${latest.tenants.length} tenants are whole, in `);
    for (const share of shares()) expect(terminal.sent()).not.toContain(share);
  });

  test.each<[string, number, string, () => string[]]>([
    ["too few shares", 2, "1 of the 2 key shares that it takes were given", () => shares().slice(1, 2)],
    ["a text that is no share", 2, "key share 2 is neither", () => [shares()[0] ?? "", "correct horse"]],
    ["no shares at all", 2, "nothing was given", () => []],
  ])("%s: exit %i, and nothing is written", async (_what, exit, words, given) => {
    const before = await versions();
    const { code, stderr } = await restore(given());
    expect(code, stderr).toBe(exit);
    expect(stderr).toContain(words);
    expect(await versions()).toEqual(before);
  });

  test("key shares of another Vault: exit 4, no mark, and the metrics say that the run failed", async () => {
    const before = await marks();
    const foreign = shares().map((_, index) =>
      Buffer.concat([randomBytes(32), Buffer.from([index + 1])]).toString("base64"),
    );
    const { code, stderr } = await restore(foreign);
    expect(code, stderr).toBe(4);
    expect(stderr).toContain("isn't opened by these key shares");
    expect(await marks()).toEqual(before);
    expect(metrics().verify_run_success).toBe(0);
    expect(readdirSync(away)).toEqual([]);
  });

  test("takes one backup, not all: exit 2", async () => {
    const { code, stderr } = await restore(shares(), "--date", "all");
    expect(code).toBe(2);
    expect(stderr).toContain("--restore takes one backup");
  });

  test("needs no right to mount where users may make namespaces", async () => {
    const main = join(REPOSITORY, "runbooks", "main.ts");
    const [command = "", ...args] = [
      // Whoever isn't root has none anyway.
      ...(process.geteuid?.() === 0 ? ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"] : []),
      ...[main, "verify-backup", "--restore"],
    ];
    const { code, stderr } = await program(command, args, { env: NO_VAULT, input: shares().join("\n") });
    expect(code, stderr).toBe(0);
    expect(readdirSync(away)).toEqual([]);
  });

  test("where namespaces can't be made says what is missing, asks nobody for shares and starts no Vault", async () => {
    // A user namespace in which no further one may be made, and no capability is left.
    const locked =
      'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all "$0" "$@"';
    const main = join(REPOSITORY, "runbooks", "main.ts");
    const args = ["--user", "--map-root-user", "sh", "-c", locked, main, "verify-backup", "--restore"];
    const { code, stderr } = await program("unshare", args, { env: NO_VAULT, input: "" });
    expect(code, stderr).toBe(1);
    expect(stderr).toContain("can't be cut off from this machine, and is not started without that: unshare");
    expect(stderr).toContain("user.max_user_namespaces");
    expect(stderr).not.toContain("key shares");
  });
});

describe("a backup that isn't as it should be", { timeout: 300_000 }, () => {
  /** Restores a new backup whose manifest says something else. */
  async function forged(change: (one: Manifest) => Partial<Manifest>, given: string[]) {
    const one = await backUp();
    await forget(one.version_id);
    await put(`backups/${today()}/manifest.json`, JSON.stringify({ ...one, ...change(one) }));
    const before = await marks();
    const ended = await restore(given).finally(() => forget(one.version_id));
    expect(await marks()).toEqual(before);
    return ended;
  }

  test("of an older Vault: exit 1 with the version to install, before anybody is asked for shares", async () => {
    const { code, stderr } = await forged(() => ({ vault_version: "1.20.7" }), []);
    expect(code, stderr).toBe(1);
    expect(stderr).toContain("install Vault 1.20.7");
  });

  test("with another canary than its manifest says: exit 1", async () => {
    const later = ({ canary }: Manifest) => ({ canary: { ...canary, version: canary.version + 1 } });
    const { code, stderr } = await forged(later, shares());
    expect(code, stderr).toBe(1);
    expect(stderr).toMatch(/the version of smtp\/canary\/admin is \d+, and not \d+/);
  });

  test("that has lost a tenant of which its manifest speaks: exit 1 that names it", async () => {
    const more = ({ tenants }: Manifest) => ({ tenants: [...tenants, "initech"] });
    const { code, stderr } = await forged(more, shares());
    expect(code, stderr).toBe(1);
    expect(stderr).toContain("initech: the manifest names it, and the backup doesn't have it");
  });

  test("with a tenant whose secrets nothing decrypts: exit 1 that names each, and no mark", async () => {
    const [mailu, dkim] = [await readRecord(lab, GLOBEX, "mailu"), await readRecord(lab, GLOBEX, "dkim")];
    const foreign = (await vault("POST", `${TRANSIT_MOUNT}/encrypt/${ACME.id}`, {
      plaintext: "aGVsbG8=",
    })) as {
      data: { ciphertext: string };
    };
    const before = await marks();
    await writeRecord(GLOBEX, "mailu", { ...mailu.fields, api_token: foreign.data.ciphertext });
    await writeRecord(GLOBEX, "dkim", { ...dkim.fields, dns_txt: "not a key" });
    const made = await backUp();
    await writeRecord(GLOBEX, "mailu", mailu.fields);
    await writeRecord(GLOBEX, "dkim", dkim.fields);
    const { code, stderr, result } = await restore(shares()).finally(() => forget(made.version_id));
    expect(code, stderr).toBe(1);
    expect(stderr).toContain("smtp/globex/mailu api_token can't be decrypted");
    expect(stderr).toContain("smtp/globex/dkim in Vault is not usable: dns_txt");
    const { problems } =
      (result.tenants as VerifiedTenant[]).find(({ tenant }) => tenant === GLOBEX.id) ?? {};
    expect(problems).toHaveLength(2);
    expect(result.tenants).toContainEqual({ tenant: ACME.id, problems: [] });
    expect(await marks()).toEqual(before);
  });
});
