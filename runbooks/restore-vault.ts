// Vault is lost, or what is in it can't be trusted: a backup goes into an empty Vault, or over a live one. Archive and key
// shares are proven in a throwaway Vault before anything is touched; of a Vault that opens itself, the archive alone. It
// has ended only when every tenant's password was tried at its mail server; until then the same command goes on, here or
// on another machine.
import { z } from "zod";
import type { CatalogEntry } from "./lib/backup-catalog.ts";
import { RunbookError } from "./lib/errors.ts";
import { backupDateFlag } from "./lib/flag-types.ts";
import { opensItself, readKeyShares } from "./lib/key-shares.ts";
import type { Result } from "./lib/report.ts";
import type { NewLogin } from "./lib/restore-access.ts";
import { chooseBackup, reach, unfinishedIn } from "./lib/restore-choice.ts";
import { confirm, mayOverwrite, mustFit, openIfSealed, prove, withVault } from "./lib/restore-gate.ts";
import { readHistory } from "./lib/restore-history.ts";
import { bringInLine, type InLine, THEN } from "./lib/restore-in-line.ts";
import { keptSnapshot, putBackup } from "./lib/restore-put.ts";
import type { Reconciled } from "./lib/restore-reconcile.ts";
import { lookAtTarget, lookByLogin } from "./lib/restore-target.ts";
import { defineRunbook, type Run } from "./lib/runbook.ts";
import { requireThrowawayVault } from "./lib/throwaway-vault.ts";

const flags = z.object({
  date: backupDateFlag.describe("a day (UTC) such as 2026-02-28, or latest: the newest opened backup"),
  reconcile: z
    .boolean()
    .default(false)
    .describe("set new passwords for tenants whose restored one the mail server refuses"),
  overLive: z
    .boolean()
    .default(false)
    .describe("restore into a Vault that holds data: all that it has learnt since the backup is lost"),
  cluster: z
    .string()
    .optional()
    .describe("name of the cluster to overwrite, to confirm that where nobody can be asked"),
  keep: z
    .string()
    .optional()
    .describe("file for the sealed snapshot of what is overwritten (default: beside the audit log)"),
  breakGlass: z.boolean().default(false).describe("overwrite a live Vault with a root token (audited)"),
});
type RestoreRun = Run<z.output<typeof flags>>;

/** Seconds that the promise gives. */
const RTO_S = 30 * 60;

export default defineRunbook({
  name: "restore-vault",
  summary: "restore a backup of Vault and bring it in line with the mail servers",
  example: "npx runbook restore-vault --date latest --reconcile",
  flags,
  run: async (run) => {
    const began = new Date();
    const settings = await run.settings();
    const { asked, catalog, store, openedOf } = await chooseBackup(run, settings, run.flags.date);
    const { sealed, hasLogin } = await reach(settings, run.env);
    const looking = { settings, sealed, env: run.env, hasLogin, dryRun: run.dryRun };
    await run.check(`look at Vault at ${sealed.access.addr}`, async () => {
      await mustFit(sealed, asked.manifest);
      // Nobody is to type key shares for what is refused anyway.
      const seen = await lookByLogin({ ...looking, shares: [], manifest: asked.manifest });
      if (seen?.state === "live" && seen.contents.halfRestored === undefined) mayOverwrite(run, sealed, seen);
    });
    const { initialized } = await sealed.status();
    if (!initialized && !opensItself(asked.manifest)) await requireThrowawayVault(run, asked.manifest);
    const shares = await readKeyShares(run, asked.manifest);
    await openIfSealed(run, sealed, asked.manifest, shares);
    const look = ({ manifest }: CatalogEntry) => lookAtTarget({ ...looking, shares, manifest });
    let backup = asked;
    let target = await run.check("look what it holds", () => look(asked));
    const unfinished = unfinishedIn(target, catalog, run.flags.date);
    if (unfinished !== undefined) {
      await run.note(`the restore of the backup of ${unfinished.day} hasn't ended: going on with it`);
      backup = unfinished;
      target = await run.check("look how far it is", () => look(unfinished));
    }
    const { manifest } = backup;
    const history = await run.check("read what happened since, from the audit log and the stacks", () =>
      readHistory(settings, run.env, new Date(manifest.canary.written)),
    );
    if (target.state !== "restored") {
      if (target.state === "live")
        target = mayOverwrite(run, sealed, await withVault(run, target, { sealed, shares, manifest }));
      const archive = openedOf(backup);
      await prove(run, { manifest, shares, archive });
      await confirm(run, backup, sealed, target);
      const keep = { settings, file: run.flags.keep ?? keptSnapshot(settings, began) };
      await putBackup(run, { sealed, target, manifest, shares, archive, keep });
    }
    if (run.dryRun) {
      for (const title of Object.values(THEN)) await run.change(title, () => {});
      return { date: backup.day, version_id: manifest.version_id, target: target.state };
    }
    return conclude(
      run,
      backup,
      await bringInLine(run, { settings, store, sealed, shares, backup, history, began }),
    );
  },
  render,
});

function conclude(run: RestoreRun, backup: CatalogEntry, done: InLine): Result {
  const { seconds, tenants, logins, outstanding } = done;
  const result = {
    date: backup.day,
    version_id: backup.manifest.version_id,
    as_of: backup.manifest.canary.written,
    seconds,
    rto_seconds: RTO_S,
    within_rto: seconds <= RTO_S,
    tenants,
    new_logins: logins,
    outstanding,
  };
  if (outstanding.length === 0) return result;
  throw new RunbookError(`Vault is restored, but: ${outstanding.join("; ")}`, {
    exit: "incomplete",
    next: `npx runbook restore-vault --date ${backup.day}${run.flags.overLive ? " --over-live" : ""} --reconcile   # goes on from there`,
    result,
  });
}

function render(result: Result): string {
  const { date, as_of, seconds, tenants, new_logins } = result as {
    date: string;
    as_of?: string;
    seconds?: number;
    tenants?: Reconciled[];
    new_logins?: NewLogin[];
  };
  if (seconds === undefined) return `the backup of ${date} can be restored`;
  const minutes = (seconds / 60).toFixed(1);
  return [
    `Vault is as of ${as_of}, restored in ${minutes} minutes (promised: ${RTO_S / 60})`,
    ...(tenants ?? []).map(
      ({ tenant, state, onboarded, moved, marked }) =>
        `  ${tenant}: ${state}${onboarded ? ", taken in again" : ""}${moved ? ", at its new host" : ""}${marked.length > 0 ? `, marked: ${marked.join(", ")}` : ""}`,
    ),
    "New logins, each to be fetched once within an hour, where the program runs:",
    ...(new_logins ?? []).map(({ role, unwrap }) => `  ${role}: ${unwrap}`),
  ].join("\n");
}
