// What lies in the bucket of the backups and is a whole one no more; and how a finding about backups begins.
import type { Catalog } from "./backup-catalog.ts";
import type { Finding } from "./findings.ts";

export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;

/** What mends most of them. */
export const MAKE = "npx runbook backup-vault && npx runbook verify-backup";

export const finding = (
  bucket: string,
  kind: string,
  which: string,
  what: string,
  mend: string,
): Finding => ({
  check: "backups",
  kind,
  about: bucket,
  which,
  what,
  mend,
});

/** What no dead run leaves, and no pruning. */
export function damages(bucket: string, { broken }: Catalog): Finding[] {
  return broken
    .filter(({ object, unclear }) => unclear || object.kind === "manifest")
    .map(({ object, why }) =>
      finding(
        bucket,
        "backup-damaged",
        `${object.key} ${object.versionId}`,
        `The backup of ${object.day} is damaged: ${object.key}: ${why}`,
        MAKE,
      ),
    );
}

export const damagedDays = ({ broken }: Catalog): string[] =>
  broken
    .filter(({ object, unclear }) => object.kind === "manifest" || (unclear && object.kind === "snapshot"))
    .map(({ object }) => object.day);
