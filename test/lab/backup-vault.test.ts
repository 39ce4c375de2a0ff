// `runbook backup-vault` on a real Vault: what it leaves, and who waits for whom when two are at it.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { CANARY, KV_MOUNT, recordPath } from "../../stacks/names.ts";
import {
  backUp,
  beginBackup,
  bytesOf,
  canary,
  events,
  forget,
  forgetMetrics,
  manifestsOf,
  metrics,
  run,
  settingsWith,
  today,
  versions,
} from "./backup.ts";
import { lab, vault } from "./lab.ts";
import { withWindow } from "./vault-window.ts";

const Listed = z.object({ data: z.object({ keys: z.array(z.string()) }) });

beforeAll(forgetMetrics);

describe("a backup", () => {
  test("is an object that reads back as its manifest says, a canary, an event and green metrics", async () => {
    const before = Date.now();
    const manifest = await backUp();
    const sealed = await bytesOf(manifest.object, manifest.version_id);
    expect(manifest).toMatchObject({
      date: today(),
      object: `backups/${today()}/vault-snapshot.enc`,
      sealed_bytes: sealed.length,
      sealed_sha256: createHash("sha256").update(sealed).digest("hex"),
      cluster_name: "lab",
      vault_version: expect.stringMatching(/^1\./),
      seal_type: "shamir",
      shares: 3,
      threshold: 2,
      // As Vault lists them: of one that was offboarded the rotation record stays.
      tenants: Listed.parse(await vault("LIST", `${KV_MOUNT}/metadata`))
        .data.keys.map((name) => name.replace("/", ""))
        .filter((name) => name !== CANARY),
      audit_paths: expect.arrayContaining(["stdout", join(lab.place.dir, "vault", "audit.log")]),
      sealed_to: [
        { provider: "aws-kms", key: expect.stringContaining(":key/") },
        { provider: "penguinmails-recovery-key", key: expect.stringMatching(/^[0-9a-f]{64}$/) },
      ],
    });
    const live = await canary();
    const { nonce, version, written, raft_index } = manifest.canary;
    expect(live).toMatchObject({ nonce, date: today(), written, holder: null, version: version + 1 });
    expect(Date.parse(written)).toBeGreaterThanOrEqual(before);
    expect(manifest.raft_index).toBeGreaterThanOrEqual(raft_index);
    expect(events("vault_backup_stored").at(-1)).toMatchObject({
      backup_date: today(),
      version_id: manifest.version_id,
      sealed_sha256: manifest.sealed_sha256,
    });
    const green = metrics();
    expect(green).toMatchObject({ backup_run_success: 1, backup_size_bytes: sealed.length });
    expect(green.backup_last_success_timestamp_seconds).toBeGreaterThanOrEqual(Math.floor(before / 1000));
  });

  test("holds nothing of Vault in the clear: neither its object nor anything that the run says or logs", async () => {
    const manifest = await backUp();
    const sealed = await bytesOf(manifest.object, manifest.version_id);
    // The beginnings of a gzip and of a tar's member.
    for (const trace of [Buffer.from([0x1f, 0x8b, 0x08]), Buffer.from("state.bin")])
      expect(sealed.subarray(0, 4096).includes(trace)).toBe(false);
    const log = readFileSync(join(lab.place.dir, "audit.jsonl"), "utf8");
    expect(log).not.toContain(lab.backupSecretId);
  });

  test("of the same day leaves the one before as a version", async () => {
    const [first, second] = [await backUp(), await backUp()];
    expect(second.object).toBe(first.object);
    const ids = (await manifestsOf(today())).map(({ version_id }) => version_id);
    expect(ids).toEqual(expect.arrayContaining([first.version_id, second.version_id]));
  });

  test("in a dry run writes nothing at all", async () => {
    const before = [await versions(), await canary(), metrics()];
    const { code, result } = await run(["backup-vault", "--dry-run"]);
    expect(code).toBe(0);
    expect(result.dry_run).toBe(true);
    expect([await versions(), await canary(), metrics()]).toEqual(before);
  });

  test("is sealed to an AES key in a file where there is no KMS", async () => {
    const file = join(lab.place.dir, "backup.key");
    writeFileSync(file, "ab".repeat(32), { mode: 0o600 });
    const manifest = await backUp(settingsWith({ kms_key: undefined, aes_key_file: "backup.key" }));
    expect(manifest.sealed_to[0]?.provider).toBe("penguinmails-backup-key");
    const env = settingsWith({ kms_key: undefined, aes_key_file: "backup.key" });
    expect((await run(["verify-backup"], env)).code).toBe(0);
    // Without the file's key, this one is for nobody here but the offline key.
    const { code, stderr } = await run(["verify-backup"]);
    expect(code).toBe(1);
    expect(stderr).toContain("isn't sealed to the KMS key");
    await forget(manifest.version_id);
  });
});

describe("two at once", () => {
  test("the second is refused, is no failure, and the first one's backup counts", async () => {
    const { promise: goOn, resolve } = Promise.withResolvers<void>();
    await withWindow(
      async (window) => {
        const first = beginBackup(window.env);
        await first.said("→ stream the snapshot");
        const red = metrics().backup_failures_total;
        const second = await run(["backup-vault"]);
        expect(second.code).toBe(4);
        expect(second.stderr).toContain("Another backup is being made since");
        expect(metrics().backup_failures_total).toBe(red);
        resolve();
        const ended = await first.ended;
        expect(ended.code, ended.stderr).toBe(0);
      },
      undefined,
      undefined,
      async (archive, answer) => {
        await goOn;
        archive.pipe(answer);
        await once(answer, "close");
      },
    );
  });

  test("a holder on another machine counts as dead after an hour, or by --take-over", async () => {
    const holder = {
      run: "other",
      machine: "another-machine boot pid",
      pid: 1,
      process_start: "1",
      user: "backup-operator",
      since: new Date().toISOString(),
      heartbeat: new Date().toISOString(),
    };
    const hold = async (written: Date) => {
      const { version } = await canary();
      const data = { date: today(), nonce: "0".repeat(32), written: written.toISOString(), holder };
      await vault("POST", recordPath(CANARY, "admin"), { data, options: { cas: version } });
    };
    await hold(new Date());
    const refused = await run(["backup-vault"]);
    expect(refused.code).toBe(4);
    expect(refused.stderr).toContain("another-machine");
    expect(refused.stderr).toContain("--take-over");
    expect((await run(["backup-vault", "--take-over"])).code).toBe(0);
    await hold(new Date(Date.now() - 61 * 60_000));
    expect((await run(["backup-vault"])).code).toBe(0);
  });
});
