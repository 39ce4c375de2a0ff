// What must hold before a backup goes into a Vault. Nothing has been changed by then, except that a sealed Vault is open.
import type { CatalogEntry } from "./backup-catalog.ts";
import type { Manifest } from "./backup-records.ts";
import { RunbookError } from "./errors.ts";
import { namesOf, opensItself } from "./key-shares.ts";
import { enter, leave } from "./restore-access.ts";
import { mustHaveReadItsSeal, open } from "./restore-put.ts";
import { notTheirs, type Target, whatItHolds } from "./restore-target.ts";
import type { Run } from "./runbook.ts";
import type { SealedVault } from "./sealed-vault.ts";
import { type Restorable, withThrowawayVault } from "./throwaway-vault.ts";

type GateRun = Run<{ overLive: boolean; cluster?: string | undefined; breakGlass: boolean }>;

/**
 * A snapshot of another version may not be readable to this one, or make it something that no backup fits any more; one of
 * another seal leaves a Vault that nobody can open.
 */
export async function mustFit(sealed: SealedVault, manifest: Manifest): Promise<void> {
  const { version, storage_type, type } = await sealed.status();
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
  if (type !== manifest.seal_type) {
    throw refuse(
      `is sealed by ${type}, and the one that was backed up by ${manifest.seal_type}`,
      "give it the `seal` of the Vault that was backed up (by key shares: none), start it with an empty data folder, then run this again; change the seal afterwards",
    );
  }
}

/** One that was restored before, or was lost by a restart: nobody can see which before it's open. */
export async function openIfSealed(
  run: GateRun,
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
  await run.change(`open it with the ${namesOf(manifest)}, to see what it holds`, () =>
    open(run, sealed, manifest, shares).catch((error) => {
      throw notTheirs(sealed.access.addr, manifest, error);
    }),
  );
}

type Live = Extract<Target, { state: "live" }>;

export function mayOverwrite(run: GateRun, sealed: SealedVault, live: Live): Live {
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
export async function withVault(
  run: GateRun,
  live: Live,
  { sealed, shares, manifest }: { sealed: SealedVault; shares: readonly string[]; manifest: Manifest },
): Promise<Live> {
  if (live.contents.halfRestored === undefined || live.vault !== undefined || run.dryRun) return live;
  const vault = await run.change(`go into the half restored Vault by the ${namesOf(manifest)}`, () =>
    enter(sealed, shares),
  );
  if (vault !== undefined) run.onExit(() => leave(vault).catch(() => {}));
  return { ...live, vault };
}

/**
 * Wrong shares would be known only when what they were to open is all that is left. Recovery keys can't be tried before,
 * nor do they need to be: a Vault that opens itself is open behind the restore, and takes them as often as they are typed.
 */
export async function prove(run: GateRun, backup: Restorable): Promise<void> {
  const { seal_type } = backup.manifest;
  if (!opensItself(backup.manifest)) return withThrowawayVault(run, backup, async () => {});
  await run.check("open the backup to its end", async () => {
    for await (const _chunk of await backup.archive());
  });
  await run.note(
    `  the archive is whole. No throwaway Vault reaches the KMS: that the key of this Vault's seal (${seal_type}) is the backup's, Vault sees itself before it changes anything; the recovery keys are tried last`,
  );
}

export async function confirm(
  run: GateRun,
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
        "sys/storage/raft/snapshot": opensItself(manifest) ? ["read", "update"] : ["read"],
        ...(opensItself(manifest) ? {} : { "sys/storage/raft/snapshot-force": ["update"] }),
      },
      "vault-restorer",
    ),
  );
  await run.confirm(
    `Overwrite the living Vault ${name} with ${as}? ${whatItHolds(sealed.access.addr, target.contents)}.`,
    { word: name, flag: { name: "--cluster", given: run.flags.cluster } },
  );
}
