// Which backups there are, by object version: what was overwritten on the same day or deleted is still there to restore.
import { z } from "zod";
import { type CatalogEntry, newest, readCatalog } from "./lib/backup-catalog.ts";
import { backupBucket } from "./lib/backup-settings.ts";
import { BackupStore } from "./lib/backup-store.ts";
import { RunbookError } from "./lib/errors.ts";
import { columns } from "./lib/flags.ts";
import type { Result } from "./lib/report.ts";
import { defineRunbook } from "./lib/runbook.ts";

export default defineRunbook({
  name: "list-backups",
  summary: "show which backups of Vault there are, and which were opened and restored",
  example: "npx runbook list-backups",
  flags: z.object({
    failOlderThan: z
      .number()
      .positive()
      .optional()
      .describe(
        "exit 7 when the newest opened backup is older than so many hours, or there is none; for timers",
      ),
  }),
  run: async (run) => {
    const store = new BackupStore(backupBucket(await run.settings()), "verifier", run.env);
    const catalog = await run.check(`read which backups lie in s3://${store.bucket}`, () =>
      readCatalog(store),
    );
    const opened = newest({ backups: catalog.backups.filter((one) => one.opened.length > 0), broken: [] });
    const result = {
      bucket: store.bucket,
      newest: newest(catalog)?.day ?? null,
      newest_opened: opened?.day ?? null,
      newest_opened_age_seconds: opened === undefined ? null : age(opened),
      backups: catalog.backups.map(rowOf),
      broken: catalog.broken.map(({ object, why }) => ({
        object: object.key,
        version_id: object.versionId,
        uploaded: object.uploaded.toISOString(),
        why,
      })),
    };
    const { failOlderThan: hours } = run.flags;
    if (hours === undefined || (opened !== undefined && age(opened) <= hours * 3600)) return result;
    const found =
      opened === undefined
        ? "No backup was opened"
        : `The newest opened backup is as of ${opened.manifest.canary.written}`;
    throw new RunbookError(`${found}: older than ${hours} hours`, {
      exit: "drift",
      next: "npx runbook backup-vault && npx runbook verify-backup",
      result,
    });
  },
  render,
});

const age = ({ manifest }: CatalogEntry): number =>
  Math.floor((Date.now() - Date.parse(manifest.canary.written)) / 1000);

const rowOf = (backup: CatalogEntry) => ({
  date: backup.day,
  canary_written: backup.manifest.canary.written,
  sealed_bytes: backup.manifest.sealed_bytes,
  opened_at: last(backup.opened.map(({ at }) => at)),
  restored_at: last(backup.restored.map(({ at }) => at)),
  vault_version: backup.manifest.vault_version,
  tenants: backup.manifest.tenants.length,
  sealed_to: backup.manifest.sealed_to,
  object: backup.object.key,
  version_id: backup.object.versionId,
  /** A plain listing of the bucket doesn't show it. */
  hidden: backup.object.hidden || backup.manifestObject.hidden,
});
type Row = ReturnType<typeof rowOf>;

const last = (times: string[]): string | null => times.sort().at(-1) ?? null;

function render(result: Result): string {
  const { bucket, backups, broken, newest_opened, newest_opened_age_seconds } = result as {
    bucket: string;
    backups: Row[];
    broken: { object: string; version_id: string; why: string }[];
    newest_opened: string | null;
    newest_opened_age_seconds: number | null;
  };
  if (backups.length + broken.length === 0) return `there is no backup in s3://${bucket}`;
  const head = ["as of", "size", "opened", "restored", "version"];
  const rows = backups.map((row) => [
    minute(row.canary_written),
    size(row.sealed_bytes),
    minute(row.opened_at) || "NOT OPENED",
    minute(row.restored_at) || "-",
    `${row.version_id}${row.hidden ? "  (hidden)" : ""}`,
  ]);
  const hours =
    newest_opened_age_seconds === null ? "" : `, ${(newest_opened_age_seconds / 3600).toFixed(1)} hours old`;
  return [
    ...columns([head, ...rows]),
    ...broken.map(({ object, version_id, why }) => `no backup: ${object} ${version_id}: ${why}`),
    newest_opened === null
      ? "none was opened: npx runbook verify-backup"
      : `newest opened: ${newest_opened}${hours}`,
  ].join("\n");
}

const minute = (time: string | null): string =>
  time === null ? "" : `${time.slice(0, 16).replace("T", " ")}Z`;
const size = (bytes: number): string =>
  bytes < 1_048_576 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 1_048_576).toFixed(1)} MiB`;
