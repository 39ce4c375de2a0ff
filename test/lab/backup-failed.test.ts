// `runbook backup-vault` where anything goes wrong: it leaves nothing behind, says what to do, and turns the metrics red.
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { beforeAll, describe, expect, test } from "vitest";
import { raftArchive } from "../../scripts/bench/raft-archive.ts";
import {
  backUp,
  canary,
  events,
  forgetMetrics,
  metrics,
  run,
  settingsWith,
  unfinished,
  versions,
} from "./backup.ts";
import { lab } from "./lab.ts";
import { withWindow } from "./vault-window.ts";

beforeAll(forgetMetrics);

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
