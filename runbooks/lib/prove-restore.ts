// The proof that a backup and the key shares at hand bring Vault back: restored into a throwaway Vault, the canary there
// is the backup's, and every tenant is looked at. Only how it went leaves it.
import { backupKey, markName } from "../../stacks/names.ts";
import { recordMetrics } from "./backup-metrics.ts";
import type { Manifest, Restored } from "./backup-records.ts";
import type { BackupStore } from "./backup-store.ts";
import { canaryProblem } from "./canary.ts";
import { RunbookError } from "./errors.ts";
import type { Run } from "./runbook.ts";
import { type Restorable, withThrowawayVault } from "./throwaway-vault.ts";
import type { Vault } from "./vault.ts";
import { type VerifiedTenant, verifyTenants } from "./verify-tenants.ts";

export interface Proof {
  /** From the empty Vault to the last tenant. */
  seconds: number;
  /** Those in the backup; one that the manifest names and the backup hasn't is here with that problem. */
  tenants: VerifiedTenant[];
}

/**
 * Takes what `requireThrowawayVault` has approved. A tenant with problems is the caller's to judge.
 * @throws RunbookError that says which of archive, key shares and canary is wrong.
 */
export async function proveRestore(
  run: Pick<Run<unknown>, "check" | "env" | "onExit" | "progress">,
  backup: Restorable,
): Promise<Proof> {
  const start = performance.now();
  const tenants = await withThrowawayVault(run, backup, (vault) => readBack(run, vault, backup.manifest));
  return { seconds: Math.round(performance.now() - start) / 1000, tenants };
}

/** Looks at all of a Vault that the backup was restored into. @throws RunbookError (exit 1) for another canary. */
export async function readBack(
  run: Pick<Run<unknown>, "check" | "progress">,
  vault: Vault,
  manifest: Manifest,
): Promise<VerifiedTenant[]> {
  await run.check(`see that its canary is the one of ${manifest.canary.written}`, async () => {
    const problem = await canaryProblem(vault, manifest.canary);
    if (problem === undefined) return;
    throw new RunbookError(`The backup of ${manifest.date} isn't what its manifest says: ${problem}`, {
      exit: "failed",
      next: "npx runbook list-backups   # restore from another one; then: npx runbook backup-vault",
    });
  });
  return run.check("read and decrypt what it has of every tenant", async () => {
    const found = await vault.tenants();
    const verified = await verifyTenants(vault, found, (done) =>
      run.progress(`  ${done} of ${found.length} tenants`),
    );
    const missing = manifest.tenants.filter((tenant) => !found.some((one) => one === tenant));
    return [
      ...verified,
      ...missing.map((tenant) => ({
        tenant: tenant as VerifiedTenant["tenant"],
        problems: ["the manifest names it, and the backup doesn't have it"],
      })),
    ];
  });
}

/** Says beside the backup, in the audit log and in the metrics that it was restored. Once in a run. */
export async function keepProof(
  run: Pick<Run<unknown>, "audit" | "change" | "dryRun" | "note" | "runId" | "settings">,
  store: BackupStore,
  { date, version_id, canary }: Manifest,
  { seconds, tenants }: Proof,
): Promise<Restored> {
  const at = new Date();
  const mark: Restored = {
    format: 1,
    date,
    version_id,
    run: run.runId,
    at: at.toISOString(),
    seconds,
    tenants: tenants.map(({ tenant }) => tenant),
  };
  const name = markName("restored", at);
  await run.change(`write ${name} beside it`, () => store.putJson(backupKey(date, name), mark));
  await run.audit.append({
    event: "vault_backup_restored",
    details: {
      backup_date: date,
      version_id,
      canary_version: canary.version,
      tenants: tenants.length,
      seconds,
    },
  });
  if (run.dryRun) return mark;
  const metrics = {
    last_restored_timestamp_seconds: Math.floor(at.getTime() / 1000),
    restore_duration_seconds: seconds,
  };
  for (const problem of await recordMetrics(await run.settings(), metrics)) await run.note(problem);
  return mark;
}
