// A backup goes into a Vault: an empty one is initialised first, of one that holds data a sealed snapshot is kept. From
// the first change on whatever goes wrong leaves something that the same command finishes.
import { createWriteStream, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { CANARY } from "../../stacks/names.ts";
import type { Manifest } from "./backup-records.ts";
import { automationKey, recoveryKeys } from "./backup-settings.ts";
import { Canary } from "./canary.ts";
import { RunbookError } from "./errors.ts";
import { namesOf, opensItself } from "./key-shares.ts";
import { Meter, piped } from "./piped.ts";
import { leaveTokens, ownShares, type Target } from "./restore-target.ts";
import type { Run } from "./runbook.ts";
import { seal } from "./seal.ts";
import type { SealedVault } from "./sealed-vault.ts";
import type { Settings } from "./settings.ts";
import { ArchiveCheck, ArchiveError } from "./snapshot-archive.ts";
import { Vault } from "./vault.ts";
import { statusOf } from "./vault-error.ts";

export interface Putting {
  readonly sealed: SealedVault;
  readonly target: Target;
  readonly manifest: Manifest;
  readonly shares: readonly string[];
  /** The plain archive, as a new stream each time. */
  readonly archive: () => Promise<Readable>;
  /** Where a sealed snapshot of what is overwritten is kept, and by whose keys: of a `live` target. */
  readonly keep?: { readonly settings: Settings; readonly file: string };
}

type PutRun = Pick<Run<unknown>, "change" | "progress">;

/** @throws RunbookError incomplete (5) for whatever goes wrong once the target was touched. */
export async function putBackup(run: PutRun, putting: Putting): Promise<void> {
  const { sealed, target, manifest, shares } = putting;
  let vault = target.state === "empty" || target.state === "live" ? target.vault : undefined;
  let own = target.state === "empty" ? await ownShares(target.vault) : [];
  if (target.state === "live") {
    await run.change(`keep what is there, sealed, in ${putting.keep?.file}`, () => keep(putting, vault));
  }
  if (target.state === "new") {
    const { shares: n, threshold: t } = manifest;
    const what = `${n} ${namesOf(manifest)}, of which ${t} ${opensItself(manifest) ? "let in" : "open it"}`;
    const made = await run.change(`initialise it with ${what}`, () => initialise(putting).catch(goesOn));
    if (made !== undefined) ({ vault, own } = made);
  }
  await run.change("stream the backup into it", async () => {
    const before = (await sealed.status().catch(goesOn)).cluster_id;
    const onBytes = (bytes: number) => run.progress(`  ${Math.floor(bytes / 1_048_576)} MiB of the backup`);
    const plain = await putting.archive().catch(goesOn);
    const archive = piped(plain, [new Meter(onBytes)], (error) => error as Error);
    await vault?.upload(pathFor(manifest), archive).catch((error) => {
      const refusal = ofAnotherSeal(sealed.access.addr, manifest, error);
      if (refusal !== undefined && target.state !== "new") throw refusal;
      goesOn(refusal ?? error);
    });
    if (vault !== undefined) await awaitTaken(run, { sealed, vault, manifest, before }).catch(goesOn);
  });
  const opening = opensItself(manifest)
    ? "wait until it has opened itself"
    : "open it with the key shares of the Vault that was backed up";
  await run.change(opening, async () => {
    await mustHaveReadItsSeal(sealed, manifest);
    await open(run, sealed, manifest, shares)
      .catch((error) => stillEmpty(sealed, own, error))
      .catch(goesOn);
  });
}

/**
 * `snapshot-force` puts a snapshot of other keys into a Vault, which key shares then open. A Vault that opens itself would
 * be lost by that: here it sees first that its seal opens the archive's checksums, and is left as it is by a 400 if not
 * (seen with 1.21).
 */
const pathFor = (manifest: Manifest): string =>
  opensItself(manifest) ? "sys/storage/raft/snapshot" : "sys/storage/raft/snapshot-force";

function ofAnotherSeal(addr: string, { seal_type }: Manifest, error: unknown): RunbookError | undefined {
  if (!(error instanceof RunbookError) || !error.message.includes("could not verify hash file"))
    return undefined;
  return new RunbookError(
    `Vault at ${addr} can't open this backup by its own seal, and changed nothing: it doesn't reach the KMS (${seal_type}), or the key of its seal isn't the one of the Vault that was backed up`,
    {
      exit: "refused",
      next: "on Vault's server: see that the KMS answers; if the key in `seal` is another: stop Vault, correct it, remove what is in the folder of its storage if it was empty, start it; then the same command again",
      cause: error,
    },
  );
}

/**
 * Vault says 204 before it installs a snapshot, seals itself, and tells its log alone that it could not (seen with 1.21, on
 * a full disk). Then it is as it was, and its own key shares open it: the next run finds it as empty as this one did.
 */
async function stillEmpty(sealed: SealedVault, own: readonly string[], error: unknown): Promise<never> {
  if (own.length === 0 || !(await sealed.status()).sealed) throw error;
  await sealed.unseal(own).catch(() => {
    throw error;
  });
  throw notInstalled(sealed.access.addr, "it is as empty as before", error);
}

export const notInstalled = (addr: string, how: string, cause?: unknown): RunbookError =>
  new RunbookError(`Vault at ${addr} took the snapshot and could not install it: ${how}`, {
    exit: "incomplete",
    next: "on Vault's server: df -h, for the folder of its storage, and its log, which says why; mend that, then the same command again",
    cause,
  });

/** Seconds that Vault may take to replace its data, and for which its refusals must last to mean that it has. */
const TAKEN_S = 120;
const REFUSED_S = 15;

/**
 * Vault says 204 before it has gone over to the snapshot. One with other keys seals itself then; one that has the very
 * keys of the snapshot, or opens itself, goes on without a word (seen with 1.21), and is known by its cluster id or its
 * canary, or by that it no longer knows the token.
 * @param going.before its cluster id before.
 */
async function awaitTaken(
  run: PutRun,
  going: { sealed: SealedVault; vault: Vault; manifest: Manifest; before: string },
): Promise<void> {
  const { sealed, vault, manifest, before } = going;
  const start = performance.now();
  let refusedSince: number | undefined;
  for (;;) {
    // Between two states it may answer nothing at all.
    const status = await sealed.status().catch(() => undefined);
    if (status?.sealed) return;
    const other = opensItself(manifest) && before !== manifest.cluster_id;
    if (other && status?.cluster_id === manifest.cluster_id) return;
    const seen = await seenIn(vault, manifest);
    if (seen === "taken") return;
    const now = performance.now();
    refusedSince = seen === "refused" ? (refusedSince ?? now) : undefined;
    if (refusedSince !== undefined && now - refusedSince > REFUSED_S * 1000) return;
    if (now - start > TAKEN_S * 1000) break;
    run.progress(`  waiting for ${Math.round((now - start) / 1000)} s until it has gone over to the backup`);
    await sleep(300);
  }
  throw new RunbookError(`Vault took the snapshot, and hasn't gone over to it ${TAKEN_S} s later`, {
    exit: "incomplete",
    next: "vault status   # and Vault's own log; then the same command again",
  });
}

async function seenIn(vault: Vault, { canary }: Manifest): Promise<"taken" | "refused" | undefined> {
  try {
    const there = await vault.record(CANARY, "admin", Canary);
    return there?.version === canary.version && there.data.nonce === canary.nonce ? "taken" : undefined;
  } catch (error) {
    return error instanceof RunbookError && statusOf(error.cause) === 403 ? "refused" : undefined;
  }
}

/** Unseals it, if it hasn't opened itself, and waits until it answers. */
export async function open(
  run: Pick<Run<unknown>, "progress">,
  sealed: SealedVault,
  manifest: Manifest,
  shares: readonly string[],
): Promise<void> {
  await sealed.unseal(shares);
  await sealed.awaitActive(manifest.audit_paths, { onProgress: run.progress });
}

/**
 * Vault reads how many shares it has at its start: one that was initialised with other numbers than the backup's refuses
 * the right shares until then; how many recovery keys, it learns at once (seen with 1.21).
 * @throws RunbookError incomplete (5) with the command.
 */
export async function mustHaveReadItsSeal(sealed: SealedVault, manifest: Manifest): Promise<void> {
  const { t, n } = await sealed.status();
  const { threshold, shares } = manifest;
  if (opensItself(manifest) || (t === threshold && n === shares)) return;
  throw new RunbookError(
    `Vault at ${sealed.access.addr} still counts on ${t} of ${n} key shares, and the backup's has ${threshold} of ${shares}: it learns that at its next start`,
    {
      exit: "incomplete",
      next: "on Vault's server: systemctl restart vault   # then the same command again: it goes on from there",
    },
  );
}

async function initialise({
  sealed,
  manifest,
  shares,
}: Putting): Promise<{ vault: Vault; own: readonly string[] }> {
  // Here and in the new Vault alone: they open one with nothing in it, and nothing at all once it is overwritten.
  const made = await sealed.init(manifest.shares, manifest.threshold);
  const own = made.shares.slice(0, manifest.threshold);
  await sealed.unseal(own);
  await sealed.awaitActive();
  const vault = Vault.withToken({ ...sealed.access, token: made.rootToken });
  await leaveTokens(vault, sealed, { shares, own });
  return { vault, own };
}

/** Where the snapshot of a Vault that is overwritten goes unless the operator says otherwise. */
export const keptSnapshot = (settings: Settings, at: Date): string =>
  join(
    dirname(settings.audit.log),
    `before-restore-${at.toISOString().replaceAll(/[-:]|\.\d+/g, "")}.vault-snapshot.enc`,
  );

/** Sealed to the keys of the backups; nothing plain ever reaches the disk. */
async function keep({ keep: kept, manifest }: Putting, vault: Vault | undefined): Promise<void> {
  if (vault === undefined) throw new Error("a live Vault is changed with a login only");
  if (kept === undefined) throw new Error("a live Vault is changed only where what it holds is kept");
  const { settings, file: keepIn } = kept;
  const asIs = (error: unknown) => error as Error;
  try {
    const snapshot = await vault.download("sys/storage/raft/snapshot");
    const whole = piped(snapshot, [new ArchiveCheck(0)], asIs);
    const keys = [automationKey(settings), ...recoveryKeys(settings)];
    const context = { purpose: "penguinmails-vault-before-restore", made: new Date().toISOString() };
    const file = createWriteStream(keepIn, { flags: "wx", mode: 0o600, flush: true });
    await pipeline(await seal(whole, keys, context), file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") rmSync(keepIn, { force: true });
    const unkept = `What Vault holds can't be kept in ${keepIn}, so nothing was changed: ${(error as Error).message}`;
    if (error instanceof ArchiveError && opensItself(manifest)) {
      // Its KMS seals the end of a snapshot, and would have to open the backup (seen with 1.21).
      throw new RunbookError(`${unkept}; Vault doesn't reach the KMS of its seal, most likely`, {
        exit: "refused",
        next: "on Vault's server: see that the KMS answers, and Vault's own log; then run this again",
        cause: error,
      });
    }
    throw new RunbookError(unkept, {
      exit: error instanceof RunbookError && error.exitCode === 3 ? "permission" : "failed",
      next: "mend that, or name another place with --keep FILE; then run this again",
      cause: error,
    });
  }
}

/** The target was touched: the exit code says that this must be finished. */
function goesOn(error: unknown): never {
  if (!(error instanceof RunbookError) || error.exitCode === 5) throw error;
  const { next } = error;
  throw new RunbookError(`The restore isn't finished: ${error.message}`, {
    exit: "incomplete",
    next:
      next === undefined || next.includes("again")
        ? next
        : `${next}; then the same command again: it goes on`,
    cause: error,
  });
}
