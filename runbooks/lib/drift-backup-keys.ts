// Whether the keys to which backups are sealed can still be used: the one of automation, and the offline one's public
// half, which must be the one that people keep the private half of.
import type { CatalogEntry } from "./backup-catalog.ts";
import { automationKey, recoveryKeys } from "./backup-settings.ts";
import type { DriftContext } from "./drift-context.ts";
import type { Finding } from "./findings.ts";
import { lookAtKmsKey, RECOVERY_PROVIDER, type SealKey } from "./seal-keys.ts";

/** @param newest the newest backup, which says to which keys it really is sealed. */
export async function keyFindings(c: DriftContext, newest: CatalogEntry | undefined): Promise<Finding[]> {
  const { backup } = c.settings;
  // Throws, and so is told as not looked at, where the settings name none or one that can't be read.
  const recovery = recoveryKeys(c.settings);
  const kms =
    backup.key !== undefined && "kms" in backup.key ? await kmsFindings(c, backup.key.kms) : undefined;
  const automation = kms === undefined ? automationKey(c.settings) : undefined;
  return [...(kms ?? []), ...(newest === undefined ? [] : sealedTo(c, newest, recovery, automation))];
}

async function kmsFindings(c: DriftContext, id: string): Promise<Finding[]> {
  const { enabled, state } = await lookAtKmsKey(id);
  if (enabled) return [];
  return [
    {
      ...about(c, "kms-key-unusable", id),
      what: `The KMS key ${id} is ${state}: no backup can be made or opened with it`,
      declared: "Enabled",
      found: state,
      mend:
        state === "PendingDeletion"
          ? `aws kms cancel-key-deletion --key-id ${id} && aws kms enable-key --key-id ${id}   # an alias is not taken: aws kms describe-key`
          : `aws kms enable-key --key-id ${id}   # an alias is not taken: its key's id is in aws kms describe-key --key-id ${id}`,
    },
  ];
}

/** One finding whatever differs: a key that was replaced is one that is missing and one that nobody knows. */
function sealedTo(
  c: DriftContext,
  { manifest, day }: CatalogEntry,
  recovery: readonly SealKey[],
  automation: SealKey | undefined,
): Finding[] {
  const sealed = manifest.sealed_to;
  const wanted = [...recovery, ...(automation === undefined ? [] : [automation])];
  const missing = wanted.filter(
    (key) => !sealed.some((one) => one.provider === key.provider && one.key === key.id),
  );
  const unknown = sealed.filter(
    (one) => one.provider === RECOVERY_PROVIDER && !recovery.some((key) => key.id === one.key),
  );
  if (missing.length + unknown.length === 0) return [];
  const not = missing.map(({ name }) => `not sealed to ${name}`);
  const beside = unknown.map(
    ({ key }) => `sealed to the recovery key ${key.slice(0, 16)}, which the settings don't name`,
  );
  return [
    {
      ...about(c, "sealed-to-others", ""),
      what: `The newest backup, of ${day}, is ${[...not, ...beside].join(", and ")}`,
      declared: wanted.map(({ id }) => id).join("\n"),
      found: sealed.map(({ key }) => key).join("\n"),
      mend:
        unknown.length === 0
          ? "npx runbook backup-vault && npx runbook verify-backup"
          : `npx runbook backup-keys check   # with the private half that you keep: whose key is the unknown one? Then correct ${c.settings.file}`,
    },
  ];
}

const about = (c: DriftContext, kind: string, which: string) => ({
  check: "backups" as const,
  kind,
  about: c.settings.backup.bucket ?? "",
  which,
});
