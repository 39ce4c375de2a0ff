// Whether tonight's recovery would find a backup that can be trusted: young enough, whole, kept and locked as promised,
// and sealed to keys that still work. What the stack sets on the bucket is compared by the engine.
import { CANARY, metadataPath, type TenantId } from "../../stacks/names.ts";
import { type Catalog, newest, readCatalog } from "./backup-catalog.ts";
import { backupBucket } from "./backup-settings.ts";
import { BackupStore, type ObjectVersion } from "./backup-store.ts";
import { Canary } from "./canary.ts";
import { readMetadata } from "./compromised.ts";
import { DAY, damagedDays, damages, finding, HOUR, MAKE } from "./drift-backup-damage.ts";
import { restoreDue, retention } from "./drift-backup-kept.ts";
import { keyFindings } from "./drift-backup-keys.ts";
import type { DriftContext } from "./drift-context.ts";
import { messageOf } from "./errors.ts";
import type { Finding } from "./findings.ts";
import { holderState } from "./holder.ts";
import { inParallel } from "./parallel.ts";
import { openedUntil } from "./retention.ts";

/** Milliseconds: the promise is 24 hours, and a backup takes its time. */
const FRESH = DAY + HOUR / 4;
/** A backup that is being made has written its canary, and not its manifest yet. */
const LONGEST_RUN = HOUR;

export async function checkBackups(c: DriftContext): Promise<void> {
  if (!c.platform) return;
  const { report } = c;
  await report.look("backups", "bucket", async () => {
    const store = new BackupStore(backupBucket(c.settings), "drift", c.env);
    const catalog = await readCatalog(store);
    c.progress(`backups: ${catalog.backups.length} in s3://${store.bucket}`);
    const look = (part: string, act: () => Promise<Finding[]>) => report.look("backups", part, act);
    const damaged = damages(store.bucket, catalog);
    report.add(...damaged);
    const canary = await canaryOf(c);
    await Promise.all([
      look("age", async () => tooOld(c, store.bucket, catalog, canary)),
      look("hidden", async () => hidden(store.bucket, catalog, canary)),
      look("newest", () => newestWhole(store, catalog)),
      look("retention", () => retention(store, catalog)),
      look("keys", () => keyFindings(c, newest(catalog))),
    ]);
    return restoreDue(store.bucket, catalog);
  });
}

/** Vault's canary says when a backup was begun last. Undefined where there was none, or where Vault can't tell. */
async function canaryOf(c: DriftContext): Promise<Canary | undefined> {
  try {
    return (await (await c.vault()).record(CANARY, "admin", Canary))?.data;
  } catch (error) {
    c.report.couldNot({
      check: "backups",
      about: "canary",
      why: `whether the last backup that was begun is there: ${messageOf(error)}`,
      next: `vault read ${metadataPath(CANARY, "admin")}`,
    });
    return undefined;
  }
}

/** Somebody may be at it: on this machine it is known, of another one only until it takes too long. */
function isBeingMade(canary: Canary | undefined): boolean {
  if (canary?.holder === undefined || canary.holder === null) return false;
  const state = holderState(canary.holder);
  return (
    state === "alive" || (state === "elsewhere" && Date.now() - Date.parse(canary.written) < LONGEST_RUN)
  );
}

/** One sentence of the age: a backup that was begun and isn't there explains that the newest one is an older one. */
async function tooOld(
  c: DriftContext,
  bucket: string,
  catalog: Catalog,
  canary: Canary | undefined,
): Promise<Finding[]> {
  const now = new Date();
  const [opened] = openedUntil(catalog.backups, now);
  // A damaged one of that day or a later one is told already, and making a new one mends both.
  if (damagedDays(catalog).some((day) => opened === undefined || day > opened.day)) return [];
  const begun = canary !== undefined && !isBeingMade(canary) ? canary : undefined;
  if (begun !== undefined && !catalog.backups.some(({ manifest }) => manifest.canary.nonce === begun.nonce)) {
    const what = `The backup that was begun at ${begun.written} is not in the bucket: it failed, or was deleted`;
    return [finding(bucket, "backup-missing", "", what, MAKE)];
  }
  if (opened === undefined) return neverOpened(c, bucket, catalog);
  const age = now.getTime() - Date.parse(opened.manifest.canary.written);
  if (age <= FRESH) return [];
  const latest = newest(catalog);
  const waits = latest !== undefined && now.getTime() - Date.parse(latest.manifest.canary.written) <= FRESH;
  const hours = (age / HOUR).toFixed(1);
  return [
    {
      ...finding(
        bucket,
        "backup-old",
        "",
        `What is younger than ${hours} hours would be lost: the newest backup that was opened is as of ${opened.manifest.canary.written}`,
        waits ? "npx runbook verify-backup" : MAKE,
      ),
      declared: `at most ${FRESH / HOUR} hours old`,
      found: `${hours} hours old`,
    },
  ];
}

/** On the first day of a Vault that is as promised: nothing in it is older than the promise. */
async function neverOpened(c: DriftContext, bucket: string, catalog: Catalog): Promise<Finding[]> {
  const vault = await c.vault();
  const ages = await inParallel([...(c.inVault ?? [])], 16, async (tenant: TenantId) => {
    const { current_version, versions } = await readMetadata(vault, tenant);
    return (
      Date.now() - Date.parse(versions[String(current_version)]?.created_time ?? new Date(0).toISOString())
    );
  });
  const oldest = Math.max(0, ...ages);
  if (oldest <= FRESH) return [];
  const what = `No backup was ever opened, and Vault holds credentials that are ${(oldest / HOUR).toFixed(1)} hours old: they would be lost`;
  return [
    finding(bucket, "backup-old", "", what, catalog.backups.length > 0 ? "npx runbook verify-backup" : MAKE),
  ];
}

/** A restore reads past it; whoever looks with another tool, or deletes what doesn't show, does not. */
function hidden(bucket: string, catalog: Catalog, canary: Canary | undefined): Finding[] {
  if (isBeingMade(canary)) return [];
  const good = new Set(catalog.backups.flatMap((one) => [one.object, one.manifestObject]));
  const all: ObjectVersion[] = [...good, ...catalog.broken.map(({ object }) => object)];
  const told = new Set(catalog.broken.filter(({ unclear }) => unclear).map(({ object }) => object));
  const keys = new Set([...good].filter((object) => object.hidden).map(({ key }) => key));
  return [...keys].flatMap((key): Finding[] => {
    const top = all.find((object) => object.key === key && !object.hidden);
    // A second backup of the same day.
    if (top !== undefined && (good.has(top) || told.has(top))) return [];
    const by =
      top === undefined
        ? "a delete marker hides it"
        : `version ${top.versionId}, of which no manifest speaks, hides it`;
    const mend =
      top === undefined
        ? `aws s3api list-object-versions --bucket ${bucket} --prefix ${key} --query DeleteMarkers   # then: aws s3api delete-object --bucket ${bucket} --key ${key} --version-id THE_MARKER`
        : `${MAKE}   # and later: npx runbook prune-backups`;
    return [finding(bucket, "backup-hidden", key, `s3://${bucket}/${key} is there, but ${by}`, mend)];
  });
}

/** The very bytes of the one that a restore would take; it is sealed as it lies there, and is not opened. */
async function newestWhole(store: BackupStore, catalog: Catalog): Promise<Finding[]> {
  const [opened] = openedUntil(catalog.backups, new Date());
  if (opened === undefined) return [];
  const { manifest, object } = opened;
  const [{ sha256 }, until] = await Promise.all([store.measure(object), store.lockedUntil(object)]);
  const which = `${object.key} ${object.versionId}`;
  const corrupted =
    sha256 === manifest.sealed_sha256
      ? []
      : [
          {
            ...finding(
              store.bucket,
              "backup-corrupted",
              which,
              `The newest backup, of ${opened.day}, is not what was stored: ${object.key}`,
              MAKE,
            ),
            declared: `SHA-256 ${manifest.sealed_sha256}`,
            found: `SHA-256 ${sha256}`,
          },
        ];
  // What is older than it may be is told already, and its lock may be over.
  const young = Date.now() - Date.parse(manifest.canary.written) <= FRESH;
  const unlocked =
    !young || (until !== undefined && until.getTime() > Date.now())
      ? []
      : [
          finding(
            store.bucket,
            "backup-unlocked",
            which,
            `The newest backup, of ${opened.day}, is not locked: whoever may delete it can do so at once`,
            `pulumi up --stack platform   # sets the bucket's lock again; then: ${MAKE}`,
          ),
        ];
  return [...corrupted, ...unlocked];
}
