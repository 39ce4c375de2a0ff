// What must hold of the Vault that `verify-backup --restore --into` names: it is nobody's. A copy of a backup holds every
// secret, and must not come to lie over data, or in the place of the Vault that it is a copy of.
import { lookup } from "node:dns/promises";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { Manifest } from "./backup-records.ts";
import { RunbookError } from "./errors.ts";
import { namesOf, opensItself } from "./key-shares.ts";
import { enter, leave } from "./restore-access.ts";
import { mustFit } from "./restore-gate.ts";
import { notInstalled, open } from "./restore-put.ts";
import { byLeftToken, describe, type Target, whatItHolds } from "./restore-target.ts";
import type { Run } from "./runbook.ts";
import { SealedVault } from "./sealed-vault.ts";
import { type Settings, vaultPlace } from "./settings.ts";

type Steps = Pick<Run<unknown>, "change" | "check" | "dryRun" | "env" | "progress">;

/**
 * The Vault at `addr`, which may take this backup as far as anybody sees before recovery keys are typed.
 * @throws RunbookError: refused (4) for the Vault of the settings or of VAULT_ADDR, under whichever name; for another
 *   version, storage or seal; for a backup that key shares open. Failed (1) when it can't be reached.
 */
export async function requireOtherVault(
  run: Steps,
  settings: Settings,
  addr: string,
  manifest: Manifest,
): Promise<SealedVault> {
  if (!opensItself(manifest)) {
    throw new RunbookError(
      `The backup of ${manifest.date} is opened by key shares, and proven in a throwaway Vault, which reaches nothing and leaves nothing`,
      { exit: "refused", next: `npx runbook verify-backup --restore --date ${manifest.date}` },
    );
  }
  const { addr: named, namespace, caCert } = vaultPlace(run.env);
  const ca = caCert === undefined ? undefined : await readFile(caCert);
  const at = (place: string) => new SealedVault({ addr: place, namespace, ca });
  const sealed = at(addr);
  await run.check(`see that Vault at ${addr} is another one than yours, and takes this backup`, async () => {
    for (const own of new Set([settings.vault.addr, named ?? settings.vault.addr]))
      if ((await isOnePlace(own, addr)) || (await isOneVault(at(own), sealed))) throw isYours(addr, own);
    await mustFit(sealed, manifest);
  });
  return sealed;
}

/**
 * What it holds; a sealed one is opened first. Of an initialised one that knows no token of a dead run of ours, and isn't
 * of the cluster that was backed up, nothing is asked any more.
 * @throws RunbookError refused (4) for one that holds anything but a copy of this backup whose proof hasn't ended.
 */
export async function lookInto(
  run: Steps,
  sealed: SealedVault,
  manifest: Manifest,
  shares: readonly string[],
): Promise<Target> {
  const { addr } = sealed.access;
  const before = await sealed.status();
  if (!before.initialized) return { state: "new" };
  if (before.sealed && run.dryRun) throw unseen(addr, "it is sealed");
  if (before.sealed)
    await run.change(`open it with the ${namesOf(manifest)}, to see what it holds`, () =>
      open(run, sealed, manifest, shares),
    );
  return run.check("look what it holds", async () => {
    await sealed.awaitActive(manifest.audit_paths);
    const left = await byLeftToken(sealed, shares);
    const found = left === undefined ? await byRecoveryKeys(run, sealed, manifest, shares) : undefined;
    const target = left === undefined ? found : await describe(left, manifest);
    if (target?.state === "empty" || target?.state === "restored") return target;
    const holds =
      target?.state === "live"
        ? whatItHolds(addr, target.contents)
        : `Vault at ${addr} is initialised, and not by this command with these ${namesOf(manifest)}`;
    throw new RunbookError(`${holds}: a backup is proven in an empty Vault`, {
      exit: "refused",
      next: `another Vault: leave it, and name an empty one. A copy that was proven already, or what a killed run of this command left: stop it, remove what is in the folder of its storage, start it; then the same command again${goesOnWith(target, manifest)}`,
    });
  });
}

/** Of a copy whose run was killed before the newest backup was another one. */
function goesOnWith(target: Target | undefined, { date }: Manifest): string {
  const day =
    target?.state === "live" && target.contents.halfRestored ? target.contents.asOf?.slice(0, 10) : date;
  return day === undefined || day === date
    ? ""
    : `, or with --date ${day}, which goes on with the copy of that day`;
}

/** With a root token that is made for that and revoked; undefined for a Vault of another cluster. */
async function byRecoveryKeys(
  run: Steps,
  sealed: SealedVault,
  manifest: Manifest,
  shares: readonly string[],
): Promise<Target | undefined> {
  // A copy has the source's cluster id as soon as the snapshot is in (seen with 1.21).
  if (!(await isCopy(sealed, manifest))) return undefined;
  if (run.dryRun) throw unseen(sealed.access.addr, "a root token would have to be made");
  const vault = await enter(sealed, shares);
  try {
    return await describe(vault, manifest);
  } finally {
    await leave(vault).catch(() => {});
  }
}

const isCopy = async (sealed: SealedVault, manifest: Manifest): Promise<boolean> =>
  (await sealed.status()).cluster_id === manifest.cluster_id;

/**
 * Behind a restore: a Vault that could not install the snapshot opens itself with what it had, and wouldn't take these
 * recovery keys. @throws RunbookError incomplete (5).
 */
export async function mustBeCopy(sealed: SealedVault, manifest: Manifest): Promise<void> {
  if (!(await isCopy(sealed, manifest))) throw notInstalled(sealed.access.addr, "it is as empty as before");
}

const unseen = (addr: string, why: string): RunbookError =>
  new RunbookError(`A dry run can't see what Vault at ${addr} holds: ${why}`, {
    exit: "refused",
    next: "the same command without --dry-run, which refuses one that holds data",
  });

const isYours = (addr: string, own: string): RunbookError =>
  new RunbookError(
    `--into ${addr} is ${addr === own ? "" : `the same Vault as ${own}, `}the one of your settings or of VAULT_ADDR: a copy of its backup goes into another`,
    {
      exit: "refused",
      next: "start an empty Vault on a machine of its own and name that one: docs/scenario-2-vault-loss.md, 'Proving a backup of a Vault that opens itself'",
    },
  );

/** By whichever names. */
async function isOnePlace(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([placesOf(one), placesOf(other)]);
  return a.some((place) => b.includes(place));
}

async function placesOf(addr: string): Promise<string[]> {
  const { hostname, port, protocol } = new URL(addr);
  const host = hostname.replace(/^\[|\]$/g, "");
  const found = await lookup(host, { all: true }).catch(() => []);
  const at = port || (protocol === "https:" ? "443" : "80");
  return [host, ...found.map(({ address }) => address)].map((name) => `${name} ${at}`);
}

/** Seconds for a Vault that no network may lead to from here. */
const REACHED_S = 5;

/** Behind whatever stands before it. One that isn't reached isn't known, and reaches nobody from there either. */
async function isOneVault(own: SealedVault, other: SealedVault): Promise<boolean> {
  const reached = await Promise.race([
    identityOf(own).catch(() => undefined),
    sleep(REACHED_S * 1000, undefined, { ref: false }),
  ]);
  return reached !== undefined && reached === (await identityOf(other));
}

/** Of two that are sealed nobody can say that they aren't one. */
async function identityOf(vault: SealedVault): Promise<string | undefined> {
  const { initialized, sealed } = await vault.status();
  if (!initialized) return undefined;
  return sealed ? "sealed" : vault.activeSince();
}
