// Marks on versions of a tenant's credential that strangers know, kept in the custom metadata of `admin`. KV v2's
// metadata belongs to the record and not to a version, so the versions are listed in it; and it is patched, never
// replaced, since other people keep their own keys there.
import { z } from "zod";
import { KV_MOUNT, metadataPath, type TenantId } from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import type { Vault } from "./vault.ts";

/** Which versions are known to strangers, by which incident, and who says so. */
export interface Mark {
  readonly incident: string;
  readonly by: string;
  readonly at: Date;
  readonly versions: readonly number[];
}

type CustomMetadata = Readonly<Record<string, string>>;

/** Vault's limits: keys of one record's custom metadata, and bytes of a value. */
const KEYS = 64;
const BYTES = 512;

/** How often the mark is written again when somebody else's patch took it away. */
const ATTEMPTS = 5;

/** What marking takes of Vault's rights. */
export const markRights = (tenant: TenantId): Record<string, readonly string[]> => ({
  [metadataPath(tenant, "admin")]: ["read", "patch"],
});

/** Whether the version is marked. `compromised: "true"` without a list means the current one, whichever that is. */
export function isMarked(metadata: CustomMetadata, version: number): boolean {
  if (metadata.compromised !== "true") return false;
  const { compromised_versions: list } = metadata;
  return list === undefined || listed(list).includes(version);
}

/**
 * The patch that puts `mark` into `existing`; empty where it is there already, so that the time of the first mark
 * stays. Versions that Vault no longer keeps (below `oldestKept`) leave the list, and the oldest if it still is too
 * long for a value.
 */
export function markPatch(existing: CustomMetadata, mark: Mark, oldestKept: number): Record<string, string> {
  const known = listed(existing.compromised_versions ?? "");
  const versions = fitting([...new Set([...known, ...mark.versions])], mark.versions, oldestKept);
  const incident_id = printable(mark.incident);
  const there =
    existing.compromised === "true" &&
    existing.incident_id === incident_id &&
    versions.every((version) => known.includes(version));
  if (there) return {};
  return {
    compromised: "true",
    incident_id,
    reset_by: printable(mark.by),
    reset_at: mark.at.toISOString(),
    compromised_versions: versions.join(","),
  };
}

/**
 * Marks versions of the tenant's credential and reads the mark back. May be repeated: the same mark is written once.
 * Throws incomplete (5) when the metadata would get more keys than Vault takes, or when others keep overwriting it.
 */
export async function markCompromised(vault: Vault, tenant: TenantId, mark: Mark): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const { custom_metadata: existing, oldest_version: oldest } = await readMetadata(vault, tenant);
    // Of two incidents marked at once the later one's id stays; what counts is that the versions are marked.
    if (attempt > 0 && mark.versions.every((version) => isMarked(existing, version))) return;
    const patch = markPatch(existing, mark, oldest);
    if (Object.keys(patch).length === 0) return;
    requireRoom(tenant, existing, patch);
    await vault.patchMetadata(tenant, "admin", patch);
  }
  throw new RunbookError(`Others keep changing the metadata of ${KV_MOUNT}/${tenant}/admin`, {
    exit: "incomplete",
    next: `vault kv metadata get -mount=${KV_MOUNT} ${tenant}/admin   # who writes there? Then run this again`,
  });
}

export type AdminMetadata = z.output<typeof Metadata>["data"];

/** Metadata of the tenant's credential: its versions and marks. Throws usage (2) where there is none. */
export async function readMetadata(vault: Vault, tenant: TenantId): Promise<AdminMetadata> {
  const answer = await vault.read(metadataPath(tenant, "admin"), Metadata);
  if (answer !== undefined) return answer.data;
  throw new RunbookError(`Vault has no admin record for tenant ${tenant}`, {
    exit: "usage",
    next: `vault kv list ${KV_MOUNT}   # is the id right?`,
  });
}

/** PATCH counts its own keys only: past the limit Vault would take it, and refuse every later write of metadata. */
function requireRoom(tenant: TenantId, existing: CustomMetadata, patch: CustomMetadata): void {
  const over = Object.keys({ ...existing, ...patch }).length - KEYS;
  if (over <= 0) return;
  const path = `${tenant}/admin`;
  throw new RunbookError(
    `The metadata of ${KV_MOUNT}/${path} has no room for the mark: Vault takes ${KEYS} keys, and ${over} of those that are there must go`,
    {
      exit: "incomplete",
      next: `vault kv metadata get -mount=${KV_MOUNT} ${path}   # choose ${over}, then for each: vault kv metadata patch -mount=${KV_MOUNT} -remove-custom-metadata=KEY ${path}; then run this again`,
    },
  );
}

/** Sorted, and short enough for a value of metadata; what is being marked now is dropped last of all. */
function fitting(versions: number[], marking: readonly number[], oldestKept: number): number[] {
  const isNew = (version: number): boolean => marking.includes(version);
  const kept = versions.filter((version) => version >= oldestKept || isNew(version));
  const leastWorthFirst = kept.sort((a, b) => Number(isNew(a)) - Number(isNew(b)) || a - b);
  while (Buffer.byteLength(leastWorthFirst.join(",")) > BYTES) leastWorthFirst.shift();
  return leastWorthFirst.sort((a, b) => a - b);
}

/** Version numbers in a list that anybody may have edited; what is no number says nothing. */
const listed = (list: string): number[] =>
  list
    .split(",")
    .map((text) => text.trim())
    .filter((text) => /^[1-9][0-9]{0,14}$/.test(text))
    .map(Number);

/** Vault refuses values that are empty, too long or not printable, and with one of them the whole mark. */
function printable(text: string): string {
  const ascii = text.replace(/[^\x20-\x7e]/gu, "?").slice(0, BYTES);
  return ascii.trim() === "" ? "unknown" : ascii;
}

const Metadata = z.object({
  data: z.object({
    current_version: z.number().int(),
    /** The oldest version that Vault still keeps; 0 as long as none was dropped. */
    oldest_version: z.number().int(),
    custom_metadata: z
      .record(z.string(), z.string())
      .nullish()
      .transform((keys) => keys ?? {}),
    versions: z.record(
      z.string(),
      z.object({ created_time: z.string(), deletion_time: z.string(), destroyed: z.boolean() }),
    ),
  }),
});
