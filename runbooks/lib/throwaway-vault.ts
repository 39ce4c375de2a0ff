// What proves a backup, and key shares: restored into a Vault that is thrown away afterwards. A real one would be
// overwritten before anybody knows whether the shares at hand open what it holds then.
import type { Readable } from "node:stream";
import type { Manifest } from "./backup-records.ts";
import { RunbookError } from "./errors.ts";
import { opensItself } from "./key-shares.ts";
import { Meter, piped } from "./piped.ts";
import type { Run } from "./runbook.ts";
import { roomHere, startThrowaway, type Throwaway, versionInThere } from "./throwaway-process.ts";
import { Vault } from "./vault.ts";

export interface Restorable {
  manifest: Manifest;
  /** As many of the source's key shares as open it. */
  shares: readonly string[];
  /** The opened backup; fails at its end at the latest, if it isn't whole. */
  archive: () => Promise<Readable>;
}

type Steps = Pick<Run<unknown>, "check" | "env" | "onExit" | "progress">;

/**
 * Sees that a throwaway Vault can be started here and takes this backup: to be asked before people type key shares.
 * @throws RunbookError: failed (1) for a missing program or right, or for a program of another version; refused (4) for
 *   a backup that only a KMS opens.
 */
export async function requireThrowawayVault(run: Steps, manifest: Manifest): Promise<void> {
  await run.check(
    `see that Vault ${manifest.vault_version} can be started here, cut off from everything`,
    () => mustFit(run.env, manifest),
  );
}

/**
 * Restores a backup into a Vault of its own, hands that to `work`, and leaves nothing of it. Nothing else is read or
 * changed. @throws RunbookError that says whether the archive, the key shares, the version or this machine is at fault.
 */
export async function withThrowawayVault<T>(
  run: Steps,
  backup: Restorable,
  work: (vault: Vault) => Promise<T>,
): Promise<T> {
  const { manifest, shares } = backup;
  const throwaway = await run.check("start a throwaway Vault", async () => {
    await mustFit(run.env, manifest);
    const started = await startThrowaway(run.env);
    // For whoever is interrupted between two steps.
    run.onExit(started.end);
    return started;
  });
  const { vault } = throwaway;
  try {
    await run.check(`restore the backup of ${manifest.date} into it`, () => restore(run, throwaway, backup));
    const token = await run.check("open it with the key shares", async () => {
      await vault.unseal(shares);
      await vault.awaitActive(manifest.audit_paths, { onProgress: run.progress });
      return vault.generateRoot(shares);
    });
    return await work(Vault.withToken({ ...vault.access, token }));
  } finally {
    await throwaway.end();
  }
}

/** What Vault takes while it installs a snapshot: the archive's state, and the storage that is made of it. */
const TIMES_ITS_SIZE = 2;

async function mustFit(env: NodeJS.ProcessEnv, manifest: Manifest): Promise<void> {
  if (opensItself(manifest)) {
    throw new RunbookError(
      `The backup of ${manifest.date} is opened by a KMS (${manifest.seal_type}) and not by key shares, and a throwaway Vault reaches no KMS`,
      {
        exit: "refused",
        next: `npx runbook verify-backup --restore --into ADDR --date ${manifest.date}   # ADDR: an empty Vault that you start where its KMS is reached and no mail server: docs/scenario-2-vault-loss.md, 'Proving a backup of a Vault that opens itself'`,
      },
    );
  }
  const version = await versionInThere(env);
  if (series(version) !== series(manifest.vault_version)) {
    throw new RunbookError(
      `The program vault of PATH is ${version}, and the backup is of Vault ${manifest.vault_version}: what one proves doesn't hold for the other`,
      {
        exit: "failed",
        next: `install Vault ${manifest.vault_version} and put it first in PATH, then run this again`,
      },
    );
  }
  const room = roomHere();
  if (manifest.plain_bytes * TIMES_ITS_SIZE > room) throw doesNotFit(room);
}

/** `1.21`, and `1.21+ent` for what the free edition doesn't read. */
function series(version: string): string {
  const [, minor, edition = ""] = /^(\d+\.\d+)[^+]*(\+ent)?/.exec(version) ?? [];
  return `${minor ?? version}${edition}`;
}

async function restore(
  run: Steps,
  { vault, room }: Throwaway,
  { manifest, archive }: Restorable,
): Promise<void> {
  // With other numbers it would refuse its shares afterwards, until it is restarted.
  const empty = await vault.init(manifest.shares, manifest.threshold);
  await vault.unseal(empty.shares.slice(0, manifest.threshold));
  await vault.awaitActive();
  const meter = new Meter((bytes) => run.progress(`  ${Math.floor(bytes / 1_048_576)} MiB restored`));
  const measured = piped(await archive(), [meter], (error) => error as Error);
  try {
    await vault.restoreSnapshot(empty.rootToken, measured);
  } catch (error) {
    if (!(error instanceof RunbookError) || !error.message.includes("no space left")) throw error;
    throw doesNotFit(room, error);
  }
  await vault.awaitSealed({ onProgress: run.progress });
}

const doesNotFit = (room: number, cause?: unknown): RunbookError =>
  new RunbookError(
    `The backup doesn't fit: a throwaway Vault has memory alone, ${Math.floor(room / 1_048_576)} MiB on this machine`,
    { exit: "failed", next: "the same command on a machine with more free memory", cause },
  );
