// `runbook backup-vault` on a real Vault: what it leaves, and that it leaves nothing when anything goes wrong.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { beforeAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { z } from "zod";
import { raftArchive } from "../../scripts/bench/raft-archive.ts";
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
  today,
  unfinished,
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

describe("a snapshot that isn't whole is no backup, leaves nothing and turns the metrics red", () => {
  type Cut = Parameters<typeof withWindow>[3];
  const ends =
    (change: (whole: Buffer) => Buffer): Cut =>
    async (archive, answer) => {
      answer.end(change(await buffer(archive)));
    };
  const cases: [string, Cut, string][] = [
    ["empty", ends(() => Buffer.alloc(0)), "it is empty"],
    [
      "cut in the middle, as a success",
      ends((whole) => whole.subarray(0, whole.length / 2)),
      "it ends too early",
    ],
    ["without its gzip trailer", ends((whole) => whole.subarray(0, -8)), "it ends too early"],
    [
      "with a byte that is another one",
      ends((whole) =>
        Buffer.concat([whole.subarray(0, 9000), Buffer.from([~(whole[9000] ?? 0)]), whole.subarray(9001)]),
      ),
      "Vault's snapshot isn't whole",
    ],
    [
      "cut off with its connection",
      async (archive, answer) => {
        const whole = await buffer(archive);
        answer.write(whole.subarray(0, 20_000), () => answer.destroy());
        await once(answer, "close");
      },
      "broke off its answer",
    ],
    [
      "something else altogether",
      ends(() => Buffer.from("<html>504 Gateway Timeout</html>")),
      "its gzip is damaged",
    ],
  ];
  test.each(cases)("%s", async (_what, snapshot, words) => {
    await backUp();
    const [before, stored, green] = [await versions(), events("vault_backup_stored").length, metrics()];
    const ended = await withWindow(
      (window) => run(["backup-vault"], window.env),
      undefined,
      undefined,
      snapshot,
    );
    expect(ended.code, ended.stderr).toBe(1);
    expect(ended.stderr).toContain(words);
    expect(await versions()).toEqual(before);
    expect(await unfinished()).toBe(0);
    expect((await canary()).holder).toBeNull();
    expect(events("vault_backup_stored").length).toBe(stored);
    expect(events("vault_backup_failed").length).toBeGreaterThan(0);
    expect(metrics()).toMatchObject({
      backup_run_success: 0,
      backup_failures_total: (green.backup_failures_total ?? 0) + 1,
      backup_last_success_timestamp_seconds: green.backup_last_success_timestamp_seconds,
    });
  });

  test("an older one, whole as it is, isn't the one that was asked for", async () => {
    const old = await buffer(raftArchive({ stateBytes: 50_000, index: 3 }));
    const manifest = await withWindow(
      (window) => run(["backup-vault"], window.env),
      undefined,
      undefined,
      async (archive, answer) => {
        archive.resume();
        answer.end(old);
      },
    );
    expect(manifest.code).toBe(1);
    expect(manifest.stderr).toContain("older than its canary");
  });
});

describe("refused or failed", () => {
  test("without the right in Vault: names what is missing, and the metrics are red", async () => {
    const { code, stderr } = await run(["backup-vault"], { VAULT_TOKEN: lab.shredderToken });
    expect(code).toBe(3);
    expect(stderr).toContain("read on sys/storage/raft/snapshot");
    expect(metrics().backup_run_success).toBe(0);
  });

  test("a bucket that isn't there", async () => {
    const { code, stderr } = await run(["backup-vault"], settingsWith({ bucket: "no-such-bucket" }));
    expect(code).toBe(1);
    expect(stderr).toContain("s3://no-such-bucket");
    expect(metrics().backup_run_success).toBe(0);
  });

  test("a KMS key that isn't there: nothing is stored", async () => {
    const before = await versions();
    const { code, stderr } = await run(["backup-vault"], settingsWith({ kms_key: "alias/nobody" }));
    expect(code).toBe(1);
    expect(stderr).toContain("alias/nobody");
    expect(await versions()).toEqual(before);
    expect((await canary()).holder).toBeNull();
  });

  test.each([
    ["no offline key", { recovery_public_keys: [] }, "recovery_public_keys is empty"],
    ["no bucket", { bucket: undefined }, "backup.bucket is missing"],
    ["no key of automation", { kms_key: undefined }, "backup.kms_key or backup.aes_key_file is missing"],
  ])("settings with %s: exit 2, and what to write there", async (_what, changes, words) => {
    const { code, stderr } = await run(["backup-vault"], settingsWith(changes));
    expect(code).toBe(2);
    expect(stderr).toContain(words);
  });

  test("a failure is told to the dead-man's switch and pushed; a switch that is down is only a warning", async () => {
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(`${request.method} ${request.url}`);
      request.resume().on("end", () => response.end());
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const told = settingsWith({ ping_url: `${url}/ping/secret-uuid`, push_url: `${url}/metrics/job/vault` });
    await run(["backup-vault"], { ...told, VAULT_TOKEN: lab.shredderToken });
    expect(asked).toEqual(["POST /metrics/job/vault", "GET /ping/secret-uuid/fail"]);
    asked.length = 0;
    await backUp(told);
    const { stderr, code } = await run(["verify-backup"], told);
    expect(code, stderr).toBe(0);
    expect(asked).toEqual(["POST /metrics/job/vault", "POST /metrics/job/vault", "GET /ping/secret-uuid"]);
    server.closeAllConnections();
    server.close();
    await once(server, "close");
    const alone = await run(["verify-backup"], told);
    expect(alone.code).toBe(0);
    expect(alone.stderr).toContain("the dead-man's switch was not reached");
    expect(alone.stderr).not.toContain("secret-uuid");
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

describe("killed, and run again", () => {
  const STEPS = [
    "→ write the canary",
    "✓ write the canary",
    "→ stream the snapshot",
    "✓ stream the snapshot",
    "→ read it back",
    "✓ read it back",
    "→ write its manifest",
    "✓ write its manifest",
  ];
  test.each(STEPS)(
    "at '%s': no manifest without its object, and the next run completes at once",
    async (mark) => {
      const before = await manifestsOf(today());
      const killed = beginBackup();
      await killed.said(mark);
      killed.signal("SIGKILL");
      await killed.ended;
      const left = (await manifestsOf(today())).length - before.length;
      expect(left).toBeLessThanOrEqual(1);
      const begun = performance.now();
      const { version_id } = await backUp();
      expect(performance.now() - begun).toBeLessThan(60_000);
      expect(await unfinished()).toBe(0);
      const all = await manifestsOf(today());
      expect(all.length).toBe(before.length + left + 1);
      // Also of a backup whose run didn't get to say so.
      const told = events("vault_backup_stored").map((one) => one.version_id);
      for (const one of all) expect(told).toContain(one.version_id);
      expect(told).toContain(version_id);
      expect((await run(["verify-backup"])).code).toBe(0);
    },
  );

  test("in the middle of the stream: nothing is there, and the next run completes", async () => {
    const before = await versions();
    await withWindow(
      async (window) => {
        const killed = beginBackup(window.env);
        await killed.said("MiB of the snapshot");
        killed.signal("SIGKILL");
        await killed.ended;
      },
      undefined,
      undefined,
      async (archive, answer) => {
        const whole = await buffer(archive);
        answer.write(whole.subarray(0, 30_000));
        await once(answer, "close");
      },
    );
    expect(await versions()).toEqual(before);
    await backUp();
  });
});

/** The lab's settings with another `backup` section; undefined takes a key away. */
function settingsWith(changes: Record<string, unknown>): Record<string, string> {
  const name = createHash("sha256").update(Object.entries(changes).flat().join()).digest("hex").slice(0, 8);
  const file = join(lab.place.dir, `recovery-${name}.yaml`);
  const document = parse(readFileSync(join(lab.place.dir, "recovery.yaml"), "utf8")) as {
    backup: Record<string, unknown>;
  };
  writeFileSync(file, stringify({ ...document, backup: { ...document.backup, ...changes } }));
  return { RECOVERY_CONFIG: file };
}
