// How long backups hold what is gone from Vault. A backup that is locked can't be deleted by anybody, and whoever may
// open one and has the key shares can decrypt with every Transit key of its day.
import { z } from "zod";
import { PLATFORM_STACK } from "../../stacks/names.ts";
import { messageOf } from "./errors.ts";
import { inParallel } from "./parallel.ts";
import { stackOutputs } from "./pulumi.ts";
import { openS3, type S3 } from "./s3-client.ts";
import type { Settings } from "./settings.ts";

/** Snapshots asked at a time. */
const AT_ONCE = 8;

const Outputs = z.object({ backupBucket: z.string().min(1) });

/** Says when the last locked backup that there is now expires, or why that isn't known. Never throws. */
export async function lastLockedBackup(settings: Settings, env: NodeJS.ProcessEnv): Promise<string> {
  let bucket: string;
  try {
    bucket = Outputs.parse(await stackOutputs(settings, PLATFORM_STACK)).backupBucket;
  } catch (error) {
    return `not known: no backup bucket is configured, or the stack '${PLATFORM_STACK}' doesn't say which (${messageOf(error)})`;
  }
  try {
    const opened = await openS3(env);
    const snapshots = await listSnapshots(opened, bucket);
    const locks = await inParallel(snapshots, AT_ONCE, (one) => lockedUntil(opened, bucket, one));
    const last = Math.max(...locks.map((until) => until?.getTime() ?? 0), 0);
    if (snapshots.length === 0) return `s3://${bucket} holds no backup`;
    if (last <= Date.now())
      return `${snapshots.length} backups in s3://${bucket}, none of them locked as far as these credentials may see (s3:GetObjectRetention)`;
    return `the last of ${snapshots.length} backups in s3://${bucket} is locked until ${new Date(last).toISOString()}`;
  } catch (error) {
    return `not known: s3://${bucket} can't be asked (${messageOf(error)})`;
  }
}

interface Snapshot {
  readonly Key: string;
  readonly VersionId: string;
}

/** Every version of every snapshot: one that was overwritten or deleted the same day is still there. */
async function listSnapshots({ sdk, s3 }: S3, Bucket: string): Promise<Snapshot[]> {
  const found: Snapshot[] = [];
  let after: { KeyMarker: string | undefined; VersionIdMarker: string | undefined } | undefined;
  do {
    const asked = new sdk.ListObjectVersionsCommand({ Bucket, Prefix: "backups/", ...after });
    const page = await s3.send(asked);
    for (const { Key, VersionId } of page.Versions ?? []) {
      if (Key?.endsWith("/vault-snapshot.enc")) found.push({ Key, VersionId: VersionId ?? "null" });
    }
    after = page.IsTruncated
      ? { KeyMarker: page.NextKeyMarker, VersionIdMarker: page.NextVersionIdMarker }
      : undefined;
  } while (after !== undefined);
  return found;
}

/** S3 tells it to those alone who have s3:GetObjectRetention. */
async function lockedUntil({ sdk, s3 }: S3, Bucket: string, at: Snapshot): Promise<Date | undefined> {
  return (await s3.send(new sdk.HeadObjectCommand({ Bucket, ...at }))).ObjectLockRetainUntilDate;
}
