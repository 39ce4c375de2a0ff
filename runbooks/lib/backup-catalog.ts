// Which backups there are: each manifest with the object it speaks of and the marks of whoever opened or restored that
// very object. Of two backups of a day both are here, and what a delete marker hides as well.
import type { BackupDay } from "../../stacks/names.ts";
import { dayOf } from "../../stacks/names.ts";
import { Manifest, Opened, Restored } from "./backup-records.ts";
import type { BackupStore, ObjectVersion } from "./backup-store.ts";
import { RunbookError } from "./errors.ts";
import { opensItself } from "./key-shares.ts";
import { inParallel } from "./parallel.ts";

export interface CatalogEntry {
  readonly day: BackupDay;
  readonly manifest: Manifest;
  /** The manifest itself, and the sealed snapshot. */
  readonly manifestObject: ObjectVersion;
  readonly object: ObjectVersion;
  readonly opened: readonly Opened[];
  readonly restored: readonly Restored[];
  /** Its marks, for whoever deletes them with it. */
  readonly marks: readonly ObjectVersion[];
}

export interface Catalog {
  /** The newest first: by the day in the name, then by the canary's time. */
  readonly backups: readonly CatalogEntry[];
  /** What is no backup though it looks like a part of one. */
  readonly broken: readonly Broken[];
}

export interface Broken {
  readonly object: ObjectVersion;
  readonly why: string;
  /** It isn't what a dead run leaves: damaged, forged, or of another release. Nothing but a person may judge it. */
  readonly unclear: boolean;
}

const AT_ONCE = 16;

/** @param day only this day's. @throws RunbookError (exit 1 or 3) when the bucket can't be read. */
export async function readCatalog(store: BackupStore, day?: BackupDay): Promise<Catalog> {
  const versions = (await store.versions()).filter((one) => day === undefined || one.day === day);
  const documents = await inParallel(
    versions.filter(({ kind }) => kind !== "snapshot"),
    AT_ONCE,
    async (object) => ({ object, content: await store.readJson(object) }),
  );
  return assemble(versions, documents);
}

interface Document {
  object: ObjectVersion;
  content: unknown;
}

/** Pure. */
export function assemble(versions: readonly ObjectVersion[], documents: readonly Document[]): Catalog {
  const snapshots = new Map(
    versions.filter(({ kind }) => kind === "snapshot").map((one) => [`${one.key} ${one.versionId}`, one]),
  );
  const opened = marksOf(documents, "opened", Opened);
  const restored = marksOf(documents, "restored", Restored);
  const backups: CatalogEntry[] = [];
  const broken: Broken[] = [];
  const spokenFor = new Set<ObjectVersion>();
  for (const { object, content } of documents.filter((one) => one.object.kind === "manifest")) {
    const found = snapshotOf(object, content, snapshots);
    if ("why" in found) {
      broken.push({ object, ...found });
      continue;
    }
    const { manifest, snapshot } = found;
    spokenFor.add(snapshot);
    const of = <T extends { version_id: string; date: BackupDay }>(
      marks: { object: ObjectVersion; mark: T }[],
    ) => marks.filter(({ mark }) => mark.version_id === snapshot.versionId && mark.date === object.day);
    const [itsOpened, itsRestored] = [of(opened), of(restored)];
    const marks = [...itsOpened, ...itsRestored].map((one) => one.object);
    for (const mark of marks) spokenFor.add(mark);
    backups.push({
      day: object.day,
      manifest,
      manifestObject: object,
      object: snapshot,
      opened: itsOpened.map(({ mark }) => mark),
      restored: itsRestored.map(({ mark }) => mark),
      marks,
    });
  }
  for (const object of snapshots.values())
    if (!spokenFor.has(object))
      broken.push({ object, why: "no manifest speaks of it: its run did not end", unclear: false });
  const read = new Set([...opened, ...restored].map(({ object }) => object));
  for (const { object } of documents.filter((one) => one.object.kind !== "manifest")) {
    if (!read.has(object)) broken.push({ object, why: "not a mark", unclear: true });
    else if (!spokenFor.has(object)) broken.push({ object, why: "its backup is gone", unclear: false });
  }
  return { backups: backups.sort(newestFirst), broken };
}

/** The snapshot that a manifest speaks of, or why there is none. */
function snapshotOf(
  object: ObjectVersion,
  content: unknown,
  snapshots: ReadonlyMap<string, ObjectVersion>,
): { manifest: Manifest; snapshot: ObjectVersion } | Omit<Broken, "object"> {
  const { success, data: manifest, error } = Manifest.safeParse(content);
  if (!success) return { why: `not a manifest: ${error.issues[0]?.message}`, unclear: true };
  const snapshot = snapshots.get(`${manifest.object} ${manifest.version_id}`);
  if (manifest.date !== object.day || (snapshot !== undefined && snapshot.day !== object.day))
    return { why: `the manifest of another day: ${manifest.date}`, unclear: true };
  if (snapshot === undefined) return { why: "its snapshot is gone", unclear: false };
  if (snapshot.bytes === manifest.sealed_bytes) return { manifest, snapshot };
  const why = `its snapshot has ${snapshot.bytes} bytes, and not ${manifest.sealed_bytes}`;
  return { why, unclear: true };
}

/** The newest one that isn't dated in the future: a clock was wrong, or somebody wants to be restored. */
export function newest(catalog: Catalog, now = new Date()): CatalogEntry | undefined {
  const tomorrow = dayOf(new Date(now.getTime() + 86_400_000));
  return catalog.backups.find(({ day }) => day < tomorrow || day === dayOf(now));
}

/**
 * The command that proves the newest one by restoring it. The KMS of a Vault that opens itself isn't reached by a throwaway
 * Vault: then ADDR in it is a Vault that somebody starts for that.
 */
export function proofCommand(catalog: Catalog): string {
  const restore = "npx runbook verify-backup --restore";
  const manifest = newest(catalog)?.manifest;
  return manifest === undefined || !opensItself(manifest) ? restore : `${restore} --into ADDR`;
}

/** What `--date` asks for. @throws RunbookError (exit 2) when there is none such. */
export function chosen(catalog: Catalog, date: BackupDay | "latest" | "all", bucket: string): CatalogEntry[] {
  const latest = newest(catalog);
  const found =
    date === "all"
      ? [...catalog.backups]
      : date === "latest"
        ? latest === undefined
          ? []
          : [latest]
        : catalog.backups.filter(({ day }) => day === date);
  if (found.length > 0) return found;
  const whole = date === "latest" || date === "all" ? "no backup" : `no backup of ${date}`;
  const why = catalog.broken.length > 0 ? `; ${catalog.broken.length} objects are parts of none` : "";
  throw new RunbookError(`There is ${whole} in s3://${bucket}${why}`, {
    exit: "usage",
    next: "npx runbook list-backups",
  });
}

/**
 * The backup that a restore takes. `latest` is the newest one that was *opened*; one that nobody has opened yet must be
 * asked for by its day, of which again an opened one goes before the others.
 * @throws RunbookError (exit 2) when there is none such.
 */
export function restorable(catalog: Catalog, date: BackupDay | "latest", bucket: string): CatalogEntry {
  const opened = { ...catalog, backups: catalog.backups.filter((one) => one.opened.length > 0) };
  if (date !== "latest") {
    const ofDay = chosen(catalog, date, bucket);
    return (opened.backups.find(({ day }) => day === date) ?? ofDay[0]) as CatalogEntry;
  }
  const found = newest(opened);
  if (found !== undefined) return found;
  const [unopened] = chosen(catalog, "latest", bucket);
  throw new RunbookError(`No backup in s3://${bucket} was opened: nobody knows whether one can be restored`, {
    exit: "usage",
    next: `npx runbook verify-backup   # or, by its date: npx runbook restore-vault --date ${unopened?.day}`,
  });
}

const newestFirst = (a: CatalogEntry, b: CatalogEntry): number =>
  a.day === b.day
    ? Date.parse(b.manifest.canary.written) - Date.parse(a.manifest.canary.written)
    : a.day < b.day
      ? 1
      : -1;

function marksOf<T>(
  documents: readonly Document[],
  kind: ObjectVersion["kind"],
  schema: { safeParse(content: unknown): { success: true; data: T } | { success: false } },
): { object: ObjectVersion; mark: T }[] {
  return documents.flatMap(({ object, content }) => {
    const parsed = object.kind === kind ? schema.safeParse(content) : undefined;
    return parsed?.success ? [{ object, mark: parsed.data }] : [];
  });
}
