// Which backup is to be restored, and where the Vault is that it goes into.
import { readFile } from "node:fs/promises";
import type { BackupDay } from "../../stacks/names.ts";
import { type Catalog, type CatalogEntry, readCatalog, restorable } from "./backup-catalog.ts";
import { automationKey, backupBucket } from "./backup-settings.ts";
import { BackupStore } from "./backup-store.ts";
import { RunbookError } from "./errors.ts";
import { opener } from "./open-backup.ts";
import type { Target } from "./restore-target.ts";
import type { Run } from "./runbook.ts";
import { SealedVault } from "./sealed-vault.ts";
import { assertOwnVault, type Settings, vaultPlace } from "./settings.ts";

type ChoiceRun = Pick<Run<unknown>, "check" | "note" | "env">;

/**
 * The backup that is asked for, shown among the others with their marks.
 * @throws RunbookError: exit 2 when there is none such, 3 when the bucket says no.
 */
export async function chooseBackup(run: ChoiceRun, settings: Settings, date: BackupDay | "latest" | "all") {
  if (date === "all") {
    throw new RunbookError("--date all: one backup can be restored, and not all of them", {
      exit: "usage",
      next: "npx runbook list-backups   # then: npx runbook restore-vault --date 2026-02-28, or latest",
    });
  }
  const store = new BackupStore(backupBucket(settings), "restorer", run.env);
  const key = automationKey(settings);
  const catalog = await run.check(`read which backups lie in s3://${store.bucket}`, () => readCatalog(store));
  const asked = restorable(catalog, date, store.bucket);
  for (const one of catalog.backups.slice(0, 10)) {
    const marks = [
      one.opened.length > 0 ? "opened" : "NOT OPENED",
      ...(one.restored.length > 0 ? ["restored before"] : []),
    ];
    await run.note(
      `  ${one === asked ? "→" : " "} ${one.day}, as of ${one.manifest.canary.written}: ${marks.join(", ")}`,
    );
  }
  return { asked, catalog, store, openedOf: (backup: CatalogEntry) => opener(store, key, backup) };
}

/**
 * The backup whose restore hasn't ended in there. By the end of it a newer backup may be the newest opened one, or the
 * newest of its day, and the same command still means the one that it began with.
 */
export function unfinishedIn(
  target: Target,
  { backups }: Catalog,
  date: BackupDay | "latest" | "all",
): CatalogEntry | undefined {
  const version = target.state === "live" ? target.contents.halfRestored : undefined;
  const found = backups.find(({ object }) => object.versionId === version);
  return date === "latest" || date === found?.day ? found : undefined;
}

/** The settings' own Vault and no other, whether it lives or not. */
export async function reach(settings: Settings, env: NodeJS.ProcessEnv) {
  const { addr = settings.vault.addr, namespace, caCert, hasLogin } = vaultPlace(env);
  assertOwnVault(settings, addr);
  const ca = caCert === undefined ? undefined : await readFile(caCert);
  return { sealed: new SealedVault({ addr: addr.replace(/\/+$/, ""), namespace, ca }), hasLogin };
}
