// The proof of a backup whose Vault opens itself. No throwaway Vault reaches its KMS, so it goes into an empty Vault that
// the operator started where the KMS is reached, and no mail server. That one stays behind as a copy of everything: whoever
// runs this is told at its end, however it ends.
import { CANARY } from "../../stacks/names.ts";
import type { Manifest } from "./backup-records.ts";
import { Canary } from "./canary.ts";
import { mustBeCopy } from "./into-gate.ts";
import { namesOf } from "./key-shares.ts";
import { type Proof, readBack } from "./prove-restore.ts";
import { enterRestored, leave } from "./restore-access.ts";
import { noteProgress, type Progress, progressOf } from "./restore-progress.ts";
import { putBackup } from "./restore-put.ts";
import type { Target } from "./restore-target.ts";
import type { Run } from "./runbook.ts";
import type { SealedVault } from "./sealed-vault.ts";
import type { Restorable } from "./throwaway-vault.ts";
import type { Vault } from "./vault.ts";

/** A Vault that `requireOtherVault` and `lookInto` have approved. */
export interface Into {
  readonly sealed: SealedVault;
  readonly target: Target;
}

type IntoRun = Pick<
  Run<unknown>,
  "change" | "check" | "dryRun" | "note" | "onExit" | "progress" | "runId" | "confirm"
>;

/** Asked while the people with the recovery keys are still there. */
export const confirmInto = (run: IntoRun, { sealed: { access }, target }: Into, manifest: Manifest) =>
  target.state === "restored"
    ? run.note(`  the backup of ${manifest.date} is in there already: going on with its proof`)
    : run.confirm(
        `Restore the backup of ${manifest.date} into the empty Vault at ${access.addr}? It will hold every secret of ${manifest.tenants.length} tenants, and write to ${manifest.audit_paths.join(" and ")} on its machine.`,
      );

/**
 * Restores the backup into it, unless a dead run has done that, goes in by the recovery keys, and hands what was found to
 * `keep`, which judges it and keeps it. Whatever dies before that has ended is finished by the same command. A dry run
 * restores nothing, and has nothing to keep.
 * @throws RunbookError incomplete (5) for whatever goes wrong on the way in, also for wrong recovery keys.
 */
export async function proveInto<T>(
  run: IntoRun,
  { sealed, target }: Into,
  backup: Restorable,
  keep: (proof: Proof) => Promise<T>,
): Promise<T | undefined> {
  const { manifest, shares } = backup;
  const began = new Date();
  if (!run.dryRun) run.onExit(() => run.note(whatIsLeft(sealed.access.addr, manifest)));
  if (target.state !== "restored") await putBackup(run, { sealed, target, ...backup });
  if (run.dryRun) {
    for (const title of THEN) await run.change(title, () => {});
    return undefined;
  }
  await mustBeCopy(sealed, manifest);
  const vault = await run.check(`go in by the ${namesOf(manifest)}`, () => enterRestored(sealed, shares));
  run.onExit(() => leave(vault));
  const progress = await readProgress(run, vault, manifest, began);
  const found = await readBack(run, vault, manifest);
  const seconds = Math.round(Date.now() - Date.parse(progress.began)) / 1000;
  const kept = await keep({ tenants: found, seconds });
  await run.change("note in it that its proof has ended", () =>
    noteProgress(vault, { ...progress, step: "ended" }),
  );
  return kept;
}

/** What a dry run can but name. */
const THEN = [
  "see that its canary is the backup's, and read and decrypt what it has of every tenant",
  "write restored-{time}.json beside the backup",
];

/**
 * Since when it is being proven, which the copy itself knows: the time of the proof is that of both runs. One that died
 * in the moment between the restore and this note has not left it.
 */
async function readProgress(
  run: IntoRun,
  vault: Vault,
  { version_id: backup }: Manifest,
  began: Date,
): Promise<Progress> {
  const before = progressOf((await vault.record(CANARY, "admin", Canary))?.customMetadata);
  if (before?.backup === backup) return before;
  const progress: Progress = { backup, step: "restored", run: run.runId, began: began.toISOString() };
  await run.change("note in it that it is being proven", () => noteProgress(vault, progress));
  return progress;
}

function whatIsLeft(addr: string, { date, audit_paths }: Manifest): string {
  const files = audit_paths.filter((path) => path.startsWith("/"));
  const log = files.length === 0 ? "" : `, and ${files.join(" and ")}`;
  return `Vault at ${addr} may hold every secret of the backup of ${date} now. Destroy it: on its machine, stop it and remove the folder of its storage${log}`;
}
