// `verify-backup`, `list-backups` and `backup-keys` on the lab's bucket, and the way in without this project.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DeleteObjectCommand, HeadObjectCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Opened } from "../../runbooks/lib/backup-records.ts";
import { REPOSITORY } from "../../scripts/toolchain/paths.ts";
import { Bucket, backUp, bytesOf, events, forget, metrics, put, run, s3, today, versions } from "./backup.ts";
import { lab, program, runbook } from "./lab.ts";

const away = mkdtempSync(join(tmpdir(), "offline-"));
afterAll(() => rmSync(away, { recursive: true }));
const RECOVERY_KEY = join(lab.place.dir, "offline-recovery.pem");

let latest: Awaited<ReturnType<typeof backUp>>;
beforeAll(async () => {
  latest = await backUp();
});

async function list() {
  const { code, stderr, result } = await run(["list-backups"]);
  expect(code, stderr).toBe(0);
  return result as {
    newest: string | null;
    newest_opened: string | null;
    newest_opened_age_seconds: number;
    backups: { date: string; version_id: string; opened_at: string | null; hidden: boolean }[];
    broken: { object: string; version_id: string; why: string }[];
  };
}
const rowOf = async (version: string) =>
  (await list()).backups.find(({ version_id }) => version_id === version);

describe("verify-backup", () => {
  test("opens the newest, needs no Vault for it, and says so beside it, in the log and in the metrics", async () => {
    expect((await rowOf(latest.version_id))?.opened_at).toBeNull();
    const noVault = { VAULT_ADDR: "http://127.0.0.1:1", VAULT_ROLE_ID: "", VAULT_SECRET_ID: "" };
    const { code, stderr, result } = await run(["verify-backup"], noVault);
    expect(code, stderr).toBe(0);
    expect(result.opened).toMatchObject([{ date: today(), version_id: latest.version_id }]);

    const mark = (await versions(`backups/${today()}/opened-`))
      .map((one) => one.split(" ")[0] ?? "")
      .sort()
      .at(-1);
    expect(Opened.parse(JSON.parse((await bytesOf(mark ?? "")).toString()))).toMatchObject({
      version_id: latest.version_id,
      plain_sha256: latest.plain_sha256,
      canary: latest.canary,
    });
    expect(await rowOf(latest.version_id)).toMatchObject({ opened_at: expect.any(String), hidden: false });
    expect(events("vault_backup_opened").at(-1)).toMatchObject({ version_id: latest.version_id });
    expect(metrics()).toMatchObject({
      verify_run_success: 1,
      newest_opened_canary_timestamp_seconds: Math.floor(Date.parse(latest.canary.written) / 1000),
    });
  });

  test("locks its month's first for a year, and only that one", async () => {
    const opened = (await list()).backups.filter(({ opened_at }) => opened_at !== null);
    const first = opened.at(-1);
    const { ObjectLockRetainUntilDate } = await s3.send(
      new HeadObjectCommand({ Bucket, Key: latest.object, VersionId: first?.version_id }),
    );
    const days = ((ObjectLockRetainUntilDate?.getTime() ?? 0) - Date.parse(today())) / 86_400_000;
    expect(days).toBe(366);
    const next = await backUp();
    const { code, stderr } = await run(["verify-backup"]);
    expect(code, stderr).toBe(0);
    expect(stderr).not.toContain("locked");
    expect(await rowOf(next.version_id)).toMatchObject({ opened_at: expect.any(String) });
  });

  test("in a dry run opens it and writes nothing", async () => {
    const before = await versions();
    expect((await run(["verify-backup", "--dry-run"])).code).toBe(0);
    expect(await versions()).toEqual(before);
  });

  test("with --date all opens every one, and of a broken one says which while the others count", async () => {
    const victim = await backUp();
    const sealed = await bytesOf(victim.object, victim.version_id);
    sealed[5000] = (sealed[5000] ?? 0) ^ 1;
    // As somebody would who may write but not open: an object of the right size, and a manifest that speaks of it.
    const version_id = await put(victim.object, sealed);
    const sealed_sha256 = createHash("sha256").update(sealed).digest("hex");
    const forged = `backups/${today()}/manifest.json`;
    await put(forged, JSON.stringify({ ...victim, version_id, sealed_sha256 }));
    const { code, stderr, result } = await run(["verify-backup", "--date", "all"]);
    expect(code).toBe(1);
    expect(stderr).toContain(`version ${version_id}) can't be restored: it is damaged`);
    expect((result.failed as unknown[]).length).toBe(1);
    expect((result.opened as { version_id: string }[]).map((one) => one.version_id)).toContain(
      victim.version_id,
    );
    expect(metrics().verify_run_success).toBe(0);
    await forget(version_id);
  }, 300_000);

  test("knows a backup under another day's name by its seal", async () => {
    const moved = await put(
      "backups/2026-02-28/vault-snapshot.enc",
      await bytesOf(latest.object, latest.version_id),
    );
    const manifest = {
      ...latest,
      date: "2026-02-28",
      object: "backups/2026-02-28/vault-snapshot.enc",
      version_id: moved,
      canary: { ...latest.canary, date: "2026-02-28" },
    };
    await put("backups/2026-02-28/manifest.json", JSON.stringify(manifest));
    const { code, stderr } = await run(["verify-backup", "--date", "2026-02-28"]);
    expect(code).toBe(1);
    expect(stderr).toContain(`its date is ${today()}, and not 2026-02-28`);
    await forget(moved, "2026-02-28");
  });

  test("finds what a delete marker hides", async () => {
    await s3.send(new DeleteObjectCommand({ Bucket, Key: latest.object }));
    expect(await rowOf(latest.version_id)).toMatchObject({ hidden: true });
    const { code, stderr } = await run(["verify-backup", "--date", today()]);
    expect(code, stderr).toBe(0);
  }, 300_000);

  test.each([
    ["a day that the calendar doesn't have", "2026-02-30", "takes a day such as"],
    ["a day without a backup", "2001-01-01", "There is no backup of 2001-01-01"],
  ])("%s is exit 2", async (_what, date, words) => {
    const { code, stderr } = await run(["verify-backup", "--date", date]);
    expect(code).toBe(2);
    expect(stderr).toContain(words);
  });
});

test("list-backups tells what is no backup, and why", async () => {
  const orphan = await put("backups/2026-01-31/vault-snapshot.enc", "sealed, but its run died");
  await put("backups/2026-01-30/manifest.json", "{");
  const { broken } = await list();
  expect(broken).toEqual(
    expect.arrayContaining([
      expect.objectContaining({
        version_id: orphan,
        why: expect.stringContaining("no manifest speaks of it"),
      }),
      expect.objectContaining({
        object: "backups/2026-01-30/manifest.json",
        why: expect.stringContaining("not a manifest"),
      }),
    ]),
  );
});

describe("backup-keys", () => {
  test("makes a key whose public half joins the settings and whose private half is in one file only", async () => {
    const settings = join(lab.place.dir, "recovery-keys.yaml");
    const own = readFileSync(join(lab.place.dir, "recovery.yaml"), "utf8");
    writeFileSync(settings, `# a comment that stays\n${own}`);
    const env = { RECOVERY_CONFIG: settings };
    const out = join(away, "recovery-key.pem");
    const { code, stderr, result } = await run(["backup-keys", "new", "--out", out], env);
    expect(code, stderr).toBe(0);
    expect(statSync(out).mode & 0o777).toBe(0o600);
    const text = readFileSync(settings, "utf8");
    expect(text).toMatch(/^# a comment that stays/);
    expect(text).toContain("offline-recovery.pub.pem");
    const body = readFileSync(out, "utf8").split("\n")[5] ?? "";
    expect(body.length).toBe(64);
    for (const place of [
      text,
      stderr,
      JSON.stringify(result),
      readFileSync(join(lab.place.dir, "audit.jsonl"), "utf8"),
    ])
      expect(place).not.toContain(body);

    const made = await backUp(env);
    expect(made.sealed_to.map(({ key }) => key)).toContain(result.key);
    const byFile = await run(["backup-keys", "check", "--key-file", out], env);
    expect(byFile.result, byFile.stderr).toMatchObject({ opens: true, key: result.key });
    // The key of before opens it as well, here from standard input.
    const byInput = await run(["backup-keys", "check"], env, readFileSync(RECOVERY_KEY, "utf8"));
    expect(byInput.result, byInput.stderr).toMatchObject({ opens: true, version_id: made.version_id });

    await backUp();
    const tooNew = await run(["backup-keys", "check", "--key-file", out], env);
    expect(tooNew.code).toBe(1);
    expect(tooNew.stderr).toContain("is another one than it is sealed to");
  }, 300_000);

  test.each([
    ["inside the project", join(REPOSITORY, "recovery-key.pem"), "beside what the key is there to replace"],
    [
      "beside the settings",
      join(lab.place.dir, "recovery-key.pem"),
      "beside what the key is there to replace",
    ],
    ["over a file that is there", RECOVERY_KEY.replace(lab.place.dir, away), "exists already"],
  ])("refuses to write the private half %s", async (_where, out, words) => {
    if (out.startsWith(away)) writeFileSync(out, "mine");
    const { code, stderr } = await run(["backup-keys", "new", "--out", out]);
    expect(code).toBe(2);
    expect(stderr).toContain(words);
    expect(out.startsWith(away) ? readFileSync(out, "utf8") : existsSync(out)).toBe(
      out.startsWith(away) ? "mine" : false,
    );
  });

  test("shows the private half to nobody where nobody is", async () => {
    const { code, stderr } = await runbook(["backup-keys", "new", "--yes"]);
    expect(code).toBe(2);
    expect(stderr).toContain("nobody is at a terminal");
  });

  test("a key that is none is exit 2", async () => {
    const { code, stderr } = await run(["backup-keys", "check"], {}, "not a key");
    expect(code).toBe(2);
    expect(stderr).toContain("can't be read");
  });
});

describe("without this project", () => {
  const script = join(REPOSITORY, "docs", "examples", "break-glass", "open-backup.py");
  const open = (sealed: Buffer, key = RECOVERY_KEY) => {
    const file = join(away, "vault-snapshot.enc");
    writeFileSync(file, sealed);
    return program("sh", [
      "-c",
      `break-glass-python '${script}' '${key}' < '${file}' > '${join(away, "opened")}'`,
    ]);
  };

  test("the Python Encryption SDK and the offline key open a backup: the archive that Vault gave", async () => {
    const done = await open(await bytesOf(latest.object, latest.version_id));
    expect(done.code, done.stderr).toBe(0);
    const archive = readFileSync(join(away, "opened"));
    expect(createHash("sha256").update(archive).digest("hex")).toBe(latest.plain_sha256);
    const members = execFileSync("tar", ["-tzf", join(away, "opened")], { encoding: "utf8" });
    expect(members.trim().split("\n")).toEqual(["meta.json", "state.bin", "SHA256SUMS", "SHA256SUMS.sealed"]);
  });

  test("it refuses one that was cut, changed, or added to, and another key", async () => {
    const sealed = await bytesOf(latest.object, latest.version_id);
    const changed = Buffer.from(sealed);
    changed[5000] = (changed[5000] ?? 0) ^ 1;
    for (const bad of [
      sealed.subarray(0, -10),
      changed,
      Buffer.concat([sealed, Buffer.from("x")]),
      Buffer.alloc(0),
    ])
      expect((await open(bad)).code).not.toBe(0);
    const other = join(away, "other.pem");
    execFileSync(
      "openssl",
      ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096", "-out", other],
      {
        stdio: "ignore",
      },
    );
    expect((await open(sealed, other)).code).not.toBe(0);
  });
});
