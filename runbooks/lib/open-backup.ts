// A backup as a stream of plaintext, which ends well only if everything about it is as it was written: the sealed bytes,
// the day and nonce it is sealed with, the archive within, and the raft index at which its canary was there already.
// Nothing of it ever touches a disk.
import { Readable, Transform, type TransformCallback } from "node:stream";
import type { CatalogEntry } from "./backup-catalog.ts";
import type { CanaryOfBackup, Manifest } from "./backup-records.ts";
import type { BackupStore } from "./backup-store.ts";
import { RunbookError } from "./errors.ts";
import { Meter, piped } from "./piped.ts";
import { open, type SealContext } from "./seal.ts";
import type { SealKey } from "./seal-keys.ts";
import { SealError } from "./sealed-message.ts";
import { ArchiveCheck, ArchiveError } from "./snapshot-archive.ts";

/** What a backup is sealed with; the same when it is made and when it is opened. */
export const sealContext = ({ date, nonce }: Pick<CanaryOfBackup, "date" | "nonce">): SealContext => ({
  purpose: "penguinmails-vault-backup",
  date,
  nonce,
});

/**
 * Opens it as often as it's called. What was once read to its end is known by its plain hash from then on, and isn't
 * unpacked again: who restores has proven it before, and waits.
 */
export function opener(store: BackupStore, key: SealKey, backup: CatalogEntry): () => Promise<Readable> {
  let isWhole = false;
  return () => openBackup(store, key, backup, isWhole, () => (isWhole = true));
}

/**
 * The plain archive. It fails with a RunbookError that says what is wrong, at the latest at its end: a reader who acts
 * before the end acts on what may be incomplete.
 */
async function openBackup(
  store: BackupStore,
  key: SealKey,
  backup: CatalogEntry,
  isWhole: boolean,
  onEnd: () => void,
): Promise<Readable> {
  const { manifest, object } = backup;
  const plain = new Meter();
  const first = isWhole
    ? undefined
    : { sealed: new Meter(), archive: new ArchiveCheck(manifest.canary.raft_index) };
  const asIs = (error: unknown) => error as Error;
  const source = piped(await store.read(object), first === undefined ? [] : [first.sealed], asIs);
  const opened = await open(source, key, sealContext(manifest.canary)).catch((error) => {
    source.destroy();
    throw explain(backup, error);
  });
  const compared = new AtTheEnd(() => {
    const differs = difference([
      ...(first === undefined ? [] : ofTheFirst(first.sealed, first.archive, manifest)),
      ["plain bytes", plain.bytes, manifest.plain_bytes],
      ["plain SHA-256", plain.sha256(), manifest.plain_sha256],
    ]);
    if (differs !== undefined) throw new ArchiveError(`it isn't what its manifest says: ${differs}`);
    onEnd();
  });
  const told = Readable.from(inOurWords(backup, opened), { objectMode: false }).once("close", () =>
    opened.destroy(),
  );
  return piped(told, [plain, ...(first === undefined ? [] : [first.archive]), compared], (error) =>
    explain(backup, error),
  );
}

/** What the bucket or the seal fails with comes through a row of streams as it is. */
async function* inOurWords(backup: CatalogEntry, opened: Readable): AsyncGenerator<Buffer> {
  try {
    yield* opened;
  } catch (error) {
    throw explain(backup, error);
  }
}

/** Reads what an `opener` opens to its end and keeps nothing of it. @throws RunbookError that says what is wrong. */
export async function checkBackup(backup: CatalogEntry, archive: () => Promise<Readable>): Promise<void> {
  try {
    for await (const _chunk of await archive());
  } catch (error) {
    throw explain(backup, error);
  }
}

function explain({ day, object }: CatalogEntry, error: unknown): RunbookError {
  if (error instanceof RunbookError) return error;
  const said = `The backup of ${day} (${object.key}, version ${object.versionId}) `;
  if (error instanceof SealError && error.problem === "unavailable") {
    const next =
      "see that AWS_* are those of a role that may open backups, and that KMS answers; then run this again";
    const exit = /AccessDenied|not authorized/i.test(error.message) ? "permission" : "failed";
    return new RunbookError(`${said}can't be opened now: ${error.message}`, { exit, next, cause: error });
  }
  if (error instanceof SealError && (error.problem === "unknown-key" || error.problem === "wrong-key")) {
    const next =
      "correct the key under backup in recovery.yaml; with the offline key: docs/scenario-2-vault-loss.md";
    return new RunbookError(`${said}is not for this key: ${error.message}`, {
      exit: "failed",
      next,
      cause: error,
    });
  }
  if (error instanceof SealError || error instanceof ArchiveError) {
    const next = "npx runbook list-backups   # restore from another one; then: npx runbook backup-vault";
    return new RunbookError(`${said}can't be restored: ${error.message}`, {
      exit: "failed",
      next,
      cause: error,
    });
  }
  const why = error instanceof Error ? error.message : String(error);
  return new RunbookError(`${said}can't be read to its end: ${why}`, {
    exit: "failed",
    next: "the same command again, once the bucket answers",
    cause: error,
  });
}

/** Lets everything pass, and has the last word. */
class AtTheEnd extends Transform {
  readonly #check: () => void;

  constructor(check: () => void) {
    super();
    this.#check = check;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    done(null, chunk);
  }

  override _flush(done: TransformCallback): void {
    try {
      this.#check();
      done();
    } catch (error) {
      done(error as Error);
    }
  }
}

type Compared = [what: string, found: string | number, expected: string | number];

/** What is known by the plain bytes' hash once it was compared. */
const ofTheFirst = (sealed: Meter, archive: ArchiveCheck, manifest: Manifest): Compared[] => [
  ["sealed bytes", sealed.bytes, manifest.sealed_bytes],
  ["sealed SHA-256", sealed.sha256(), manifest.sealed_sha256],
  ["raft index", archive.meta.index, manifest.raft_index],
];

function difference(rows: Compared[]): string | undefined {
  const row = rows.find(([, found, expected]) => found !== expected);
  return row === undefined ? undefined : `${row[0]} ${row[1]}, and not ${row[2]}`;
}
