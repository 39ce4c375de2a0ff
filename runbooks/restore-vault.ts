// Vault is lost, or what is in it can't be trusted: a backup goes into an empty Vault, or over a live one. Archive and key
// shares are proven in a throwaway Vault before anything is touched. It has ended only when every tenant's password was
// tried at its mail server; until then the same command goes on, here or on another machine.
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { CANARY, PLATFORM_STACK } from "../stacks/names.ts";
import { type Catalog, type CatalogEntry, readCatalog, restorable } from "./lib/backup-catalog.ts";
import type { Manifest } from "./lib/backup-records.ts";
import { automationKey, backupBucket } from "./lib/backup-settings.ts";
import { BackupStore } from "./lib/backup-store.ts";
import { Canary } from "./lib/canary.ts";
import { RunbookError } from "./lib/errors.ts";
import { backupDateFlag, type IncidentId } from "./lib/flag-types.ts";
import { readKeyShares } from "./lib/key-shares.ts";
import { openBackup } from "./lib/open-backup.ts";
import { Outbox } from "./lib/outbox.ts";
import { inParallel } from "./lib/parallel.ts";
import { engineAfterDeadOne, pulumi } from "./lib/pulumi.ts";
import type { Result } from "./lib/report.ts";
import {
  destroySecretIds,
  enter,
  leave,
  type NewLogin,
  newLogins,
  revokeTokens,
} from "./lib/restore-access.ts";
import { backUpAgain, tellOfRestore } from "./lib/restore-end.ts";
import { findTenants, type History, readHistory } from "./lib/restore-history.ts";
import { noteProgress, type Progress, progressOf, type Step } from "./lib/restore-progress.ts";
import { keptSnapshot, mustHaveReadItsSeal, open, putBackup } from "./lib/restore-put.ts";
import { type Reconciled, reconcileTenant } from "./lib/restore-reconcile.ts";
import { lookAtTarget, lookByLogin, type Target, whatItHolds } from "./lib/restore-target.ts";
import { defineRunbook, type Run } from "./lib/runbook.ts";
import { SealedVault } from "./lib/sealed-vault.ts";
import { assertOwnVault, type Settings, vaultPlace } from "./lib/settings.ts";
import { type Restorable, requireThrowawayVault, withThrowawayVault } from "./lib/throwaway-vault.ts";
import type { Vault } from "./lib/vault.ts";
import { verifyTenants } from "./lib/verify-tenants.ts";

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
    const { asked, catalog, openedOf } = await chooseBackup(run, settings);
    const { sealed, hasLogin } = await reach(settings, run);
    const looking = { settings, sealed, hasLogin, dryRun: run.dryRun };
    await run.check(`look at Vault at ${sealed.access.addr}`, async () => {
      await mustFit(sealed, asked.manifest);
      // Nobody is to type key shares for what is refused anyway.
      const seen = await lookByLogin({ ...looking, shares: [], manifest: asked.manifest });
      if (seen?.state === "live" && seen.contents.halfRestored === undefined) mayOverwrite(run, sealed, seen);
    });
    if (asked.manifest.seal_type === "shamir") await requireThrowawayVault(run, asked.manifest);
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
        target = mayOverwrite(run, sealed, await withVault(run, target, looking, shares));
      const archive = openedOf(backup);
      await prove(run, { manifest, shares, archive });
      await confirm(run, backup, sealed, target);
      const keepIn = run.flags.keep ?? keptSnapshot(settings, began);
      await putBackup(run, { settings, sealed, target, manifest, shares, archive, keepIn });
    }
    if (run.dryRun) {
      for (const title of Object.values(THEN)) await run.change(title, () => {});
      return { date: backup.day, version_id: manifest.version_id, target: target.state };
    }
    return bringInLine(run, { settings, sealed, shares, backup, history, began });
  },
  render,
});

/** What follows once the snapshot is in; a dry run can but name it. */
const THEN = {
  note: "note in it that it is being restored, and revoke left root tokens",
  revoke: "revoke the tokens and secret ids of automation and people",
  platform: `run the stack ${PLATFORM_STACK} with refresh`,
  reconcile: "try every tenant's password at its mail server, and settle what differs",
  logins: "make new logins for automation",
  backup: "make a new backup",
  tell: "audit it and tell the security team",
  end: "note in it that the restore has ended",
};

async function chooseBackup(run: RestoreRun, settings: Settings) {
  const { date } = run.flags;
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
  return { asked, catalog, openedOf: (backup: CatalogEntry) => () => openBackup(store, key, backup) };
}

/**
 * The backup whose restore hasn't ended in there. By the end of it a newer backup may be the newest opened one, or the
 * newest of its day, and the same command still means the one that it began with.
 */
function unfinishedIn(
  target: Target,
  { backups }: Catalog,
  date: RestoreRun["flags"]["date"],
): CatalogEntry | undefined {
  const version = target.state === "live" ? target.contents.halfRestored : undefined;
  const found = backups.find(({ object }) => object.versionId === version);
  return date === "latest" || date === found?.day ? found : undefined;
}

/** The settings' own Vault and no other, whether it lives or not. */
async function reach(settings: Settings, run: RestoreRun) {
  const { addr = settings.vault.addr, namespace, caCert, hasLogin } = vaultPlace(run.env);
  assertOwnVault(settings, addr);
  const ca = caCert === undefined ? undefined : await readFile(caCert);
  return { sealed: new SealedVault({ addr: addr.replace(/\/+$/, ""), namespace, ca }), hasLogin };
}

/** A snapshot of another version may not be readable to this one, or make it something that no backup fits any more. */
async function mustFit(sealed: SealedVault, manifest: Manifest): Promise<void> {
  const { version, storage_type } = await sealed.status();
  const refuse = (why: string, next: string) =>
    new RunbookError(`Vault at ${sealed.access.addr} ${why}`, { exit: "refused", next });
  if (version !== manifest.vault_version) {
    throw refuse(
      `has version ${version}, and the backup is one of ${manifest.vault_version}`,
      `install Vault ${manifest.vault_version} there, start it, then run this again; upgrade it afterwards`,
    );
  }
  if (storage_type !== "" && storage_type !== "raft")
    throw refuse(`keeps its data in ${storage_type}, which takes no snapshots`, 'give it `storage "raft"`');
}

/** One that was restored before, or was lost by a restart: nobody can see which before it's open. */
async function openIfSealed(
  run: RestoreRun,
  sealed: SealedVault,
  manifest: Manifest,
  shares: readonly string[],
): Promise<void> {
  const { initialized, sealed: isSealed } = await sealed.status();
  if (!initialized || !isSealed) return;
  if (run.dryRun) {
    throw new RunbookError(`Vault at ${sealed.access.addr} is sealed: a dry run can't see what it holds`, {
      exit: "refused",
      next: "vault operator unseal   # or the same command without --dry-run",
    });
  }
  await mustHaveReadItsSeal(sealed, manifest);
  await run.change("open it with the key shares, to see what it holds", () =>
    open(run, sealed, manifest, shares),
  );
}

type Live = Extract<Target, { state: "live" }>;

function mayOverwrite(run: RestoreRun, sealed: SealedVault, live: Live): Live {
  const { vault, contents } = live;
  const holds = whatItHolds(sealed.access.addr, contents);
  if (!run.flags.overLive) {
    throw new RunbookError(`${holds}: a restore would destroy what it has learnt since the backup`, {
      exit: "refused",
      next: "is it the right Vault? To go back to the backup all the same: the same command with --over-live",
    });
  }
  if (vault === undefined) {
    throw new RunbookError(`${holds}, and no login for it is accepted`, {
      exit: "permission",
      next: "log in to it with the policy 'vault-restorer' and set VAULT_TOKEN, then run this again",
    });
  }
  if (vault.isRoot && !run.flags.breakGlass) {
    throw new RunbookError("VAULT_TOKEN is a root token, which leaves no trace of who acted", {
      exit: "refused",
      next: "use a token of your own with the policy 'vault-restorer'; if there is no other way: --break-glass",
    });
  }
  return live;
}

/** In a half restored Vault everybody's logins are revoked: another backup goes over it by the key shares. */
async function withVault(
  run: RestoreRun,
  live: Live,
  { settings, sealed }: { settings: Settings; sealed: SealedVault },
  shares: readonly string[],
): Promise<Live> {
  if (live.contents.halfRestored === undefined || live.vault !== undefined || run.dryRun) return live;
  const vault = await run.change("go into the half restored Vault by the key shares", () =>
    enter(settings, sealed, shares),
  );
  if (vault !== undefined) run.onExit(() => leave(vault).catch(() => {}));
  return { ...live, vault };
}

/** Wrong shares would be known only when what they were to open is all that is left. */
async function prove(run: RestoreRun, backup: Restorable): Promise<void> {
  if (backup.manifest.seal_type === "shamir") return withThrowawayVault(run, backup, async () => {});
  await run.check("open the backup to its end", async () => {
    for await (const _chunk of await backup.archive());
  });
}

async function confirm(
  run: RestoreRun,
  { day, manifest }: CatalogEntry,
  sealed: SealedVault,
  target: Target,
): Promise<void> {
  const as = `the backup of ${day} (as of ${manifest.canary.written}, ${manifest.tenants.length} tenants)`;
  if (target.state !== "live") {
    await run.confirm(`Restore ${as} into the empty Vault at ${sealed.access.addr}?`);
    return;
  }
  const { cluster_name: name } = await sealed.status();
  await run.check("ask Vault for the rights to overwrite it", () =>
    target.vault?.requireCapabilities(
      {
        "sys/storage/raft/snapshot": ["read"],
        "sys/storage/raft/snapshot-force": ["update"],
      },
      "vault-restorer",
    ),
  );
  await run.confirm(
    `Overwrite the living Vault ${name} with ${as}? ${whatItHolds(sealed.access.addr, target.contents)}.`,
    { word: name, flag: { name: "--cluster", given: run.flags.cluster } },
  );
}

interface Restoring {
  settings: Settings;
  sealed: SealedVault;
  shares: readonly string[];
  backup: CatalogEntry;
  history: History;
  began: Date;
}

/** Everything from the snapshot's being in on: may be repeated. */
async function bringInLine(run: RestoreRun, restoring: Restoring): Promise<Result> {
  const { settings, sealed, shares, backup, history } = restoring;
  const { day } = backup;
  const vault = await run.check("go in by the key shares", () => enter(settings, sealed, shares));
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
  const tenants = await run.change(THEN.reconcile, () =>
    inParallel(past, AT_ONCE, async (one) => {
      const { check, change, note: quiet } = run.quietly(one.tenant);
      const tools = { check, change, note: quiet, onExit: run.onExit, runId: run.runId };
      return reconcileTenant({ ...tools, settings, vault, audit: run.audit, outbox }, one, {
        rotate: run.flags.reconcile,
        incident: `restore-${day}` as IncidentId,
      });
    }),
  );
  for (const { tenant, state, problems } of tenants ?? []) {
    if (state === "rotated-since")
      outstanding.push(`the mail server of ${tenant} has another password than Vault: add --reconcile`);
    outstanding.push(...problems.map((problem) => `${tenant}: ${problem}`));
  }
  const logins = await run.change(THEN.logins, () => newLogins(vault));
  const backedUp = await run.change(THEN.backup, () => backUpAgain(run, vault));
  if (backedUp !== undefined) outstanding.push(backedUp);
  const seconds = Math.round((Date.now() - Date.parse(progress.began)) / 100) / 10;
  const { overLive, breakGlass } = run.flags;
  const told = { backup, seconds, progress, tenants: tenants ?? [], vault, overLive, breakGlass };
  outstanding.push(...((await run.change(THEN.tell, () => tellOfRestore(run, outbox, told))) ?? []));
  if (outstanding.length === 0) await run.change(THEN.end, () => note("ended"));
  return conclude(run, { backup, seconds, tenants: tenants ?? [], logins: logins ?? [], outstanding });
}

/** Tenants at a time: each is a few logins. */
const AT_ONCE = 16;

async function readProgress(
  run: RestoreRun,
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
  return { backup: manifest.version_id, step: "restored", run: run.runId, began: began.toISOString() };
}

async function mustVerify(
  vault: Vault,
  run: RestoreRun,
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

/** Returns what went wrong, in a sentence: no tenant's mail hangs on it. */
async function refreshPlatform(
  run: RestoreRun,
  settings: Settings,
  vault: Vault,
): Promise<string | undefined> {
  const args = ["up", "--refresh", "--yes", "--skip-preview", "--stack", PLATFORM_STACK];
  const env = { ...run.env, VAULT_TOKEN: vault.token, VAULT_ADDR: vault.addr };
  try {
    await engineAfterDeadOne(settings, PLATFORM_STACK, run, () =>
      pulumi(settings, args, (line) => void (REFRESHED.test(line) || run.note(`    ${line}`)), env),
    );
    return undefined;
  } catch (error) {
    if (!(error instanceof RunbookError)) throw error;
    return `the stack ${PLATFORM_STACK} isn't in place: ${error.message} (next: pulumi ${args.join(" ")})`;
  }
}

/** What the engine says of each resource that is as it was. */
const REFRESHED = / refresh(?:ing)? \(/;

interface Conclusion {
  backup: CatalogEntry;
  seconds: number;
  tenants: Reconciled[];
  logins: NewLogin[];
  outstanding: string[];
}

function conclude(run: RestoreRun, { backup, seconds, tenants, logins, outstanding }: Conclusion): Result {
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
