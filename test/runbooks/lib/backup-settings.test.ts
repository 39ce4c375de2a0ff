import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { metricsText, readMetrics, recordMetrics } from "../../../runbooks/lib/backup-metrics.ts";
import { BackupSection, backupOf } from "../../../runbooks/lib/backup-settings.ts";
import { loadSettings } from "../../../runbooks/lib/settings.ts";

const folder = mkdtempSync(join(tmpdir(), "backup-settings-"));
afterAll(() => rmSync(folder, { recursive: true }));

function load(backup: string) {
  const file = join(folder, "recovery.yaml");
  writeFileSync(file, `vault: {addr: 'http://127.0.0.1:8200'}\nbackup:\n${backup}`);
  return loadSettings({ RECOVERY_CONFIG: file }).backup;
}

describe("the backup section", () => {
  test("takes paths from the file's own folder, and public keys as text or as files", () => {
    const pem = "-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----\\n";
    expect(
      load(
        `  bucket: b\n  aes_key_file: k\n  recovery_public_keys: [keys/a.pem, "${pem}"]\n  metrics_file: m.prom`,
      ),
    ).toMatchObject({
      bucket: "b",
      key: { file: join(folder, "k") },
      recovery: [{ file: join(folder, "keys/a.pem") }, { pem: pem.replaceAll("\\n", "\n") }],
      metricsFile: join(folder, "m.prom"),
    });
  });

  test.each([
    ["two keys of automation", "  kms_key: a\n  aes_key_file: b", "takes one of kms_key and aes_key_file"],
    [
      "a private half",
      '  recovery_public_keys: ["-----BEGIN PRIVATE KEY-----\\nAAAA"]',
      "takes public halves",
    ],
    ["a push over plain HTTP", "  push_url: http://push.example/metrics", "takes an https URL"],
    [
      "a password in a URL",
      "  ping_url: https://user:pw@ping.example/x",
      "takes an https URL without a password",
    ],
    [
      "two ping URLs",
      "  ping_url: https://ping.example/x\n  ping_url_file: y",
      "takes one of ping_url and ping_url_file",
    ],
    ["a misspelt key", "  buket: b", "did you mean bucket?"],
  ])("refuses %s", (_what, yaml, words) => {
    expect(() => load(yaml)).toThrow(words);
  });

  test("never repeats a secret that stands where it doesn't belong", () => {
    expect(() => load('  recovery_public_keys: ["-----BEGIN PRIVATE KEY-----\\nMIISECRET"]')).not.toThrow(
      "MIISECRET",
    );
  });
});

describe("metrics", () => {
  const settings = (more: object) => ({ backup: { ...backupOf(BackupSection.parse({}), String), ...more } });

  test("are read as they were written", () => {
    const metrics = { backup_run_success: 0, backup_failures_total: 3, backup_size_bytes: 1.5 };
    expect(readMetrics(metricsText(metrics))).toEqual(metrics);
    expect(
      readMetrics("foreign 1\npenguinmails_vault_unknown 2\npenguinmails_vault_backup_run_success x"),
    ).toEqual({});
  });

  test("of several runbooks live in one file that the collector can read, and failures are counted", async () => {
    const file = join(folder, "textfile", "vault.prom");
    await recordMetrics(settings({ metricsFile: file }), { backup_run_success: 0 }, [
      "backup_failures_total",
    ]);
    await recordMetrics(settings({ metricsFile: file }), { verify_run_success: 1 });
    await recordMetrics(settings({ metricsFile: file }), { backup_run_success: 0 }, [
      "backup_failures_total",
    ]);
    const text = readFileSync(file, "utf8");
    expect(readMetrics(text)).toEqual({
      backup_run_success: 0,
      verify_run_success: 1,
      backup_failures_total: 2,
    });
    expect(text).toContain("# TYPE penguinmails_vault_backup_failures_total counter");
    expect(statSync(file).mode & 0o777).toBe(0o644);
  });

  test("that can't be written or pushed are told of, and nothing fails for it", async () => {
    const noFolder = join(folder, "recovery.yaml", "x.prom");
    const problems = await recordMetrics(
      settings({ metricsFile: noFolder, pushUrl: "http://127.0.0.1:1/metrics" }),
      { backup_run_success: 1 },
    );
    expect(problems[0]).toContain(`${noFolder} is not up to date`);
    expect(problems[1]).toContain("metrics are not pushed");
  });
});
