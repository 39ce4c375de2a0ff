// What is left of a tenant that is being offboarded, and the rule by which an id that had a tenant is given away again.
import { z } from "zod";
import {
  KV_MOUNT,
  metadataPath,
  RECORDS,
  type RecordName,
  type TenantId,
  TRANSIT_MOUNT,
  tenantStack,
  transitKey,
} from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import { urnsIfThere } from "./pulumi.ts";
import { Rotation } from "./records.ts";
import { readRotation } from "./rotation-begin.ts";
import type { Settings } from "./settings.ts";
import { requireAbandoned } from "./take-over.ts";
import type { Tombstone, Tombstones } from "./tombstone.ts";
import { readKey, type TransitKey } from "./transit.ts";
import { CasConflict, type Stored, type Vault } from "./vault.ts";

export interface Remains {
  /** This tenant's own, not that of an earlier one of the same id. */
  readonly tombstone: Tombstone | undefined;
  /** When Vault made its credential; null where that is gone. */
  readonly onboardedAt: string | null;
  /** Records in Vault that are to be deleted. */
  readonly records: readonly RecordName[];
  readonly key: TransitKey | undefined;
  /** What is in its stack. */
  readonly urns: readonly string[];
}

/** What reading the remains takes of Vault's rights, which a platform-admin has and a key-shredder too. */
export const lookRights = (tenant: TenantId): Record<string, readonly string[]> => ({
  [`${KV_MOUNT}/metadata/${tenant}`]: ["list"],
  [metadataPath(tenant, "admin")]: ["read"],
  [`${TRANSIT_MOUNT}/keys/${transitKey(tenant)}`]: ["read"],
});

/** Throws usage (2) for an id that nothing is known of. */
export async function lookForRemains(
  vault: Vault,
  settings: Settings,
  tombstones: Tombstones,
  tenant: TenantId,
): Promise<Remains> {
  const [names, key, urns, life] = await Promise.all([
    vault.list(`${KV_MOUNT}/metadata/${tenant}`),
    readKey(vault, tenant),
    urnsIfThere(settings, tenantStack(tenant)),
    lifeOf(vault, tombstones, tenant),
  ]);
  const records = DELETED.filter((record) => names.includes(record));
  const tombstone = life.dead ? life.tombstone : undefined;
  if (records.length > 0 || key !== undefined || (urns ?? []).length > 0 || tombstone !== undefined)
    return { tombstone, onboardedAt: life.onboardedAt, records, key, urns: urns ?? [] };
  throw new RunbookError(
    `Nothing is known of a tenant ${tenant}: no record, no key, no stack, no tombstone`,
    {
      exit: "usage",
      next: `vault kv list ${KV_MOUNT}   # is the id right?`,
    },
  );
}

/** The credential last: its presence is what makes a tenant. The rotation record stays, see docs/offboarding.md. */
export const DELETED: readonly RecordName[] = [
  ...RECORDS.filter((record) => record !== "rotation" && record !== "admin"),
  "admin",
];

/**
 * Throws refused (4) while the id belongs to a tenant that is gone, unless `again`; and with it too as long as that
 * tenant's key exists, since the new tenant's own policy could decrypt the old one's secrets with it.
 */
export async function requireFreeId(
  vault: Vault,
  tombstones: Tombstones,
  tenant: TenantId,
  again: boolean,
): Promise<void> {
  const { dead, tombstone, onboardedAt } = await lifeOf(vault, tombstones, tenant);
  if (tombstone === undefined || !dead) return;
  const when = `${tenant} was offboarded at ${tombstone.offboarded_at} by ${tombstone.offboarded_by}`;
  const oldKey = await hasKeyOf(vault, tenant, tombstone);
  if (onboardedAt !== null || (again && oldKey)) {
    throw new RunbookError(`${when}, and ${oldKey ? "its key" : "its credential"} is still there`, {
      exit: "refused",
      next: `npx runbook offboard-tenant --tenant ${tenant} --name ${tenant} --reason …   # finishes that; the key with a token of the role key-shredder`,
    });
  }
  if (again) return;
  throw new RunbookError(`${when}: backups, logs and tokens of that tenant bear this id`, {
    exit: "refused",
    next: "choose another id; if it must be this one, see docs/offboarding.md, then the same command with --again",
  });
}

export interface Life {
  /** The newest tombstone of the id. */
  readonly tombstone: Tombstone | undefined;
  /** Whether it is that of the tenant that is there, or of the last one that was. */
  readonly dead: boolean;
  readonly onboardedAt: string | null;
}

/** Told by when Vault made the credential, by Vault's own clock. */
export async function lifeOf(vault: Vault, tombstones: Tombstones, tenant: TenantId): Promise<Life> {
  const [all, metadata] = await Promise.all([
    tombstones.of(tenant),
    vault.read(metadataPath(tenant, "admin"), Metadata),
  ]);
  const tombstone = all.at(-1);
  const onboardedAt = metadata?.data.created_time ?? null;
  const dead = tombstone !== undefined && (onboardedAt === null || onboardedAt === tombstone.onboarded_at);
  return { tombstone, dead, onboardedAt };
}

const Metadata = z.object({ data: z.object({ created_time: z.string() }) });

async function hasKeyOf(vault: Vault, tenant: TenantId, { key: old }: Tombstone): Promise<boolean> {
  const key = await readKey(vault, tenant);
  return key !== undefined && old !== null && key.keys[old.version] === old.made;
}

/** The rotation record, once nobody works on it. Throws refused (4) while somebody does. */
export async function restingRotation(
  vault: Vault,
  tenant: TenantId,
  takeOver: boolean,
): Promise<Stored<Rotation> | undefined> {
  const { stored } = await readRotation(vault, tenant);
  if (stored !== undefined) await requireAbandoned(vault, tenant, stored, takeOver ? "now" : "watch");
  return stored;
}

/**
 * Ends the rotation record, so that no run goes on with it or takes it for a later tenant's: it keeps its place and
 * its version, and forgets its incidents. Throws refused (4) when somebody wrote it since it was read.
 */
export async function closeRotation(vault: Vault, tenant: TenantId, seen: Stored<Rotation>): Promise<void> {
  if (seen.data.offboarded !== undefined) return;
  const closed: Rotation = {
    ...seen.data,
    state: "RETIRED",
    incident_id: null,
    history: [],
    events_due: [],
    holder: null,
    offboarded: new Date().toISOString(),
  };
  try {
    await vault.writeRecord(tenant, "rotation", closed, seen.version);
  } catch (error) {
    if (!(error instanceof CasConflict)) throw error;
    throw new RunbookError(`Somebody began to rotate the password of ${tenant} at this moment`, {
      exit: "refused",
      next: "wait for them to end, then run this again",
      cause: error,
    });
  }
}

/** For a new tenant of the id: rotations are let in again. */
export async function reopenRotation(vault: Vault, tenant: TenantId): Promise<void> {
  await vault.updateRecord(tenant, "rotation", Rotation, (stored) => {
    if (stored?.data.offboarded === undefined) return;
    const { offboarded: _, ...open } = stored.data;
    return open;
  });
}
