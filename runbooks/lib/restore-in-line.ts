// From the moment that the snapshot is in: nobody but us may log in, every tenant is verified and tried, the world is told.
// All of it may be repeated, and is, when a run dies on the way.
import { backupKey, CANARY, markName } from "../../stacks/names.ts";
import type { CatalogEntry } from "./backup-catalog.ts";
import type { Restored } from "./backup-records.ts";
import type { BackupStore } from "./backup-store.ts";
import { Canary } from "./canary.ts";
import { RunbookError } from "./errors.ts";
import type { IncidentId } from "./flag-types.ts";
import { namesOf } from "./key-shares.ts";
import { Outbox } from "./outbox.ts";
import { inParallel } from "./parallel.ts";
import {
  destroySecretIds,
  enterRestored,
  leave,
  type NewLogin,
  newLogins,
  revokeTokens,
} from "./restore-access.ts";
import { backUpAgain, refreshPlatform, tellOfRestore } from "./restore-end.ts";
import { findTenants, type History } from "./restore-history.ts";
import { noteProgress, type Progress, progressOf, type Step } from "./restore-progress.ts";
import { notInstalled } from "./restore-put.ts";
import { type Reconciled, reconcileTenant } from "./restore-reconcile.ts";
import type { Run } from "./runbook.ts";
import type { SealedVault } from "./sealed-vault.ts";
import type { Settings } from "./settings.ts";
import type { Vault } from "./vault.ts";
import { verifyTenants } from "./verify-tenants.ts";

type LineRun = Run<{ reconcile: boolean; overLive: boolean; breakGlass: boolean }>;

/** What follows once the snapshot is in; a dry run can but name it. */
export const THEN = {
  note: "note in it that it is being restored, and revoke left root tokens",
  revoke: "revoke the tokens and secret ids of automation and people",
  platform: "run the stack platform with refresh",
  reconcile: "try every tenant's password at its mail server, and settle what differs",
  logins: "make new logins for automation",
  backup: "make a new backup",
  tell: "audit it and tell the security team",
  end: "note in it, and beside the backup, that the restore has ended",
};

export interface Restoring {
  settings: Settings;
  store: BackupStore;
  sealed: SealedVault;
  shares: readonly string[];
  backup: CatalogEntry;
  history: History;
  began: Date;
}

export interface InLine {
  /** From the first run's beginning to here. */
  readonly seconds: number;
  readonly tenants: readonly Reconciled[];
  readonly logins: readonly NewLogin[];
  /** What is left to do, in sentences; none: the restore has ended. */
  readonly outstanding: readonly string[];
}

/** @throws RunbookError failed (1) where the restored Vault isn't what its backup promised. */
export async function bringInLine(run: LineRun, restoring: Restoring): Promise<InLine> {
  const { settings, sealed, shares, backup, history } = restoring;
  const { day, manifest } = backup;
  const vault = await run.check(`go in by the ${namesOf(manifest)}`, () => enterRestored(sealed, shares));
  run.onExit(() => leave(vault));
  const progress = await run.check(`see that it is the backup of ${day}, by its canary`, () =>
    readProgress(run, vault, restoring),
  );
  const note = (step: Step) => noteProgress(vault, { ...progress, step });
  await run.change(THEN.note, async () => {
    if (progress.step === "restored") await note("restored");
    await revokeTokens(vault, "root");
  });
  if (progress.step === "restored") {
    await run.change(THEN.revoke, async () => {
      await revokeTokens(vault, "everybody");
      await destroySecretIds(vault);
      await note("revoked");
    });
  }
  const past = await run.check("list the tenants, also from the stacks, the log and the tombstones", () =>
    findTenants(vault, settings, run.env, history),
  );
  await run.check("verify every tenant: each secret is there and can be decrypted", () =>
    mustVerify(
      vault,
      run,
      past.filter(({ records }) => records.includes("admin")).map(({ tenant }) => tenant),
    ),
  );

  const outstanding: string[] = [];
  const stack = await run.change(THEN.platform, () => refreshPlatform(run, settings, vault));
  if (stack !== undefined) outstanding.push(stack);

  const outbox = new Outbox(settings, run.env);
  const all = await run.change(THEN.reconcile, () =>
    inParallel(past, AT_ONCE, async (one) => {
      const { check, change, note: quiet } = run.quietly(one.tenant);
      const tools = { check, change, note: quiet, onExit: run.onExit, runId: run.runId };
      return reconcileTenant({ ...tools, settings, vault, audit: run.audit, outbox }, one, {
        rotate: run.flags.reconcile,
        incident: `restore-${day}` as IncidentId,
        run: progress.run,
      });
    }),
  );
  const tenants = (all ?? []).filter(({ state }) => state !== "gone");
  for (const { tenant, state, problems } of tenants) {
    if (state === "rotated-since")
      outstanding.push(`the mail server of ${tenant} has another password than Vault: add --reconcile`);
    outstanding.push(...problems.map((problem) => `${tenant}: ${problem}`));
  }
  const logins = await run.change(THEN.logins, () => newLogins(vault));
  const backedUp = await run.change(THEN.backup, () => backUpAgain(run, vault));
  if (backedUp !== undefined) outstanding.push(backedUp);
  const seconds = Math.round((Date.now() - Date.parse(progress.began)) / 100) / 10;
  const { overLive, breakGlass } = run.flags;
  const told = { backup, seconds, progress, tenants, vault, overLive, breakGlass };
  outstanding.push(...((await run.change(THEN.tell, () => tellOfRestore(run, outbox, told))) ?? []));
  if (outstanding.length === 0) {
    await run.change(THEN.end, async () => {
      await markRestored(
        run,
        restoring,
        seconds,
        tenants.map(({ tenant }) => tenant),
      );
      await note("ended");
    });
  }
  return { seconds, tenants, logins: logins ?? [], outstanding };
}

/** Beside the backup, where `list-backups` shows that it was restored for good. */
async function markRestored(
  run: LineRun,
  { store, backup: { day, manifest } }: Restoring,
  seconds: number,
  tenants: readonly string[],
): Promise<void> {
  const at = new Date();
  const mark: Restored = {
    format: 1,
    date: day,
    version_id: manifest.version_id,
    run: run.runId,
    at: at.toISOString(),
    seconds,
    tenants: [...tenants],
  };
  await store.putJson(backupKey(day, markName("restored", at)), mark);
}

/** Tenants at a time: each is a few logins. */
const AT_ONCE = 16;

async function readProgress(
  run: LineRun,
  vault: Vault,
  { backup: { manifest }, began }: Restoring,
): Promise<Progress> {
  const now = await vault.record(CANARY, "admin", Canary);
  const before = progressOf(now?.customMetadata);
  const { version, nonce, date } = manifest.canary;
  const there = await vault.record(CANARY, "admin", Canary, version);
  if (there?.data.nonce !== nonce || there.data.date !== date) {
    throw failedVerification([
      `its canary is ${there === undefined ? "not there" : `that of ${there.data.date}`}`,
    ]);
  }
  if (before?.backup === manifest.version_id && before.step !== "ended") return before;
  // Vault itself has the canary of the backup too, as an older one: only in the snapshot it is the newest.
  if (now?.version !== version) throw notInstalled(vault.addr, "it holds what it held before");
  return { backup: manifest.version_id, step: "restored", run: run.runId, began: began.toISOString() };
}

async function mustVerify(
  vault: Vault,
  run: LineRun,
  tenants: Parameters<typeof verifyTenants>[1],
): Promise<void> {
  const verified = await verifyTenants(vault, tenants, (done) =>
    run.progress(`  ${done} of ${tenants.length} tenants verified`),
  );
  const problems = verified.flatMap((one) => one.problems.map((problem) => `${one.tenant}: ${problem}`));
  if (problems.length > 0) throw failedVerification(problems);
}

const failedVerification = (problems: readonly string[]): RunbookError =>
  new RunbookError(`Vault restoration verification failed: ${problems.join("; ")}`, {
    exit: "failed",
    next: "npx runbook list-backups   # another backup may be whole: npx runbook restore-vault --date … --over-live",
    result: { problems },
  });
