// One tenant in Vault: its records complete, its rotation over, what is in use known to nobody else, its key as made.
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
import { isMarked } from "./compromised.ts";
import type { Finding } from "./findings.ts";
import { inParallel } from "./parallel.ts";
import { Admin, Dkim, Mailu, type Rotation, Server, Tls } from "./records.ts";
import { readRotation } from "./rotation-begin.ts";
import { readKey, type TransitKey, versionOf } from "./transit.ts";
import { isSilent, isUnfinished } from "./unfinished.ts";
import type { Vault } from "./vault.ts";

/** Tenants of which Vault has more than a rotation record: of one that was offboarded only that stays. */
export async function tenantsOf(vault: Vault): Promise<Set<TenantId>> {
  const all = await vault.tenants();
  const records = await inParallel(all, 64, (tenant) => vault.list(`${KV_MOUNT}/metadata/${tenant}`));
  return new Set(all.filter((_, index) => records[index]?.some((name) => name !== "rotation")));
}

type Partly = Omit<Finding, "check" | "about">;

/** @param hosted whether it has, or is to have, a host: then the records that come into being with one are expected. */
export async function tenantFindings(vault: Vault, tenant: TenantId, hosted: boolean): Promise<Finding[]> {
  const names = await vault.list(`${KV_MOUNT}/metadata/${tenant}`);
  const records = await Promise.all(RECORDS.map((name) => readState(vault, tenant, name, names)));
  const [{ stored: rotation }, key] = await Promise.all([
    readRotation(vault, tenant),
    readKey(vault, tenant),
  ]);
  const found: Partly[] = [
    ...records.flatMap((record) => incomplete(tenant, record, hosted)),
    ...unfinished(tenant, rotation?.data),
    ...marked(
      tenant,
      records.find(({ name }) => name === "admin"),
    ),
    ...(key === undefined ? [keyMissing(tenant)] : keySettings(tenant, key)),
    ...(key === undefined || rotation === undefined ? [] : lowered(tenant, key, rotation.data)),
  ];
  return found.map((one) => ({ check: "vault", about: tenant, ...one }));
}

interface RecordState {
  name: RecordName;
  /** Undefined where there never was such a record. */
  metadata: z.infer<typeof Metadata> | undefined;
  /** Names of its fields; undefined where it was deleted. */
  fields: string[] | undefined;
}

const Metadata = z.object({
  current_version: z.number().int(),
  custom_metadata: z
    .record(z.string(), z.string())
    .nullish()
    .transform((keys) => keys ?? {}),
  versions: z.record(z.string(), z.object({ destroyed: z.boolean() })),
});
const Subkeys = z.object({ data: z.object({ subkeys: z.record(z.string(), z.unknown()).nullish() }) });

async function readState(
  vault: Vault,
  tenant: TenantId,
  name: RecordName,
  names: readonly string[],
): Promise<RecordState> {
  if (!names.includes(name)) return { name, metadata: undefined, fields: undefined };
  const [metadata, subkeys] = await Promise.all([
    vault.read(metadataPath(tenant, name), z.object({ data: Metadata })),
    // The names of its fields without their values: nothing here has to see a ciphertext.
    vault.read(`${KV_MOUNT}/subkeys/${tenant}/${name}`, Subkeys),
  ]);
  const fields = subkeys?.data.subkeys;
  return { name, metadata: metadata?.data, fields: fields ? Object.keys(fields) : undefined };
}

const SCHEMAS = { admin: Admin, server: Server, mailu: Mailu, dkim: Dkim, tls: Tls } as const;

/** The rotation's record comes into being with the first rotation, and its state is looked at below. */
function incomplete(tenant: TenantId, { name, metadata, fields }: RecordState, hosted: boolean): Partly[] {
  const expected = ONBOARDED.has(name) || (hosted && name !== "rotation");
  if (metadata === undefined && !expected) return [];
  if (fields === undefined) return [recordMissing(tenant, name, metadata)];
  if (name === "rotation") return [];
  const missing = Object.entries(SCHEMAS[name].shape)
    .filter(([field, schema]) => !schema.safeParse(undefined).success && !fields.includes(field))
    .map(([field]) => field);
  if (missing.length === 0) return [];
  const version = metadata?.current_version ?? 0;
  return [
    {
      kind: "record-incomplete",
      which: name,
      what: `${KV_MOUNT}/${tenant}/${name} has no ${missing.join(", no ")}`,
      mend: `vault kv rollback -mount=${KV_MOUNT} -version=${Math.max(version - 1, 1)} ${tenant}/${name}   # or another version that was whole: vault kv metadata get -mount=${KV_MOUNT} ${tenant}/${name}`,
    },
  ];
}

function recordMissing(tenant: TenantId, name: RecordName, metadata: RecordState["metadata"]): Partly {
  const version = metadata?.current_version ?? 0;
  const there = metadata?.versions[String(version)];
  const path = `${tenant}/${name}`;
  const mend =
    there === undefined
      ? ONBOARDED.has(name)
        ? `npx runbook onboard-tenant --tenant ${tenant} --domain …   # completes what is not there`
        : name === "tls"
          ? `npx runbook save-host-state --tenant ${tenant}`
          : `pulumi up --stack ${tenantStack(tenant)}`
      : there.destroyed
        ? `vault kv rollback -mount=${KV_MOUNT} -version=N ${path}   # N: one that is not destroyed, by: vault kv metadata get -mount=${KV_MOUNT} ${path}`
        : `vault kv undelete -mount=${KV_MOUNT} -versions=${version} ${path}`;
  const what = there === undefined ? "is not there" : there.destroyed ? "was destroyed" : "was deleted";
  return { kind: "record-missing", which: name, what: `${KV_MOUNT}/${path} ${what}`, mend };
}

const ONBOARDED: ReadonlySet<RecordName> = new Set(["admin", "mailu", "dkim"]);

/** One that a living run has in hand is work and no drift. */
function unfinished(tenant: TenantId, rotation: Rotation | undefined): Partly[] {
  if (rotation === undefined || !isUnfinished(rotation) || !isSilent(rotation)) return [];
  const { holder, state, kind, started, incident_id } = rotation;
  const whose =
    holder === null
      ? "nobody holds it"
      : `${holder.user} held it and was last heard of at ${holder.heartbeat}`;
  return [
    {
      kind: "rotation-unfinished",
      which: "",
      what: `The ${kind} of ${started} stands still in state ${state}: ${whose}`,
      found: `${state}${incident_id === null ? "" : `, ${incident_id}`}`,
      mend:
        kind === "recovery"
          ? `pulumi up --stack ${tenantStack(tenant)}`
          : `npx runbook resume --tenant ${tenant}`,
    },
  ];
}

function marked(tenant: TenantId, admin: RecordState | undefined): Partly[] {
  const metadata = admin?.metadata;
  if (metadata === undefined || !isMarked(metadata.custom_metadata, metadata.current_version)) return [];
  const incident = metadata.custom_metadata.incident_id ?? "INC-…";
  return [
    {
      kind: "compromised-in-use",
      which: "",
      what: `Version ${metadata.current_version} of the credential is marked as known to strangers (${incident}), and is the current one`,
      mend: `npx runbook emergency-reset --tenant ${tenant} --incident ${incident} --reason "marked as compromised and still in use"`,
    },
  ];
}

const keyPath = (tenant: TenantId): string => `${TRANSIT_MOUNT}/keys/${transitKey(tenant)}`;

const keyMissing = (tenant: TenantId): Partly => ({
  kind: "key-missing",
  which: "",
  what: `${keyPath(tenant)} is not there: nothing that Vault keeps for ${tenant} can be decrypted`,
  mend: "npx runbook restore-vault --help   # the key is in a backup; a new one opens nothing",
});

const CIPHER = "aes256-gcm96";

/** Of these only the last can be taken back: a key that was exportable once may be in anybody's hands. */
function keySettings(tenant: TenantId, key: TransitKey): Partly[] {
  const path = keyPath(tenant);
  const for_good = `npx runbook emergency-reset --help   # can't be taken back, and the key may be known: ask who did it; reset ${tenant}, then offboard and onboard it for a new key`;
  const settings = [
    { name: "type", declared: CIPHER, found: key.type, mend: for_good },
    { name: "exportable", declared: false, found: key.exportable, mend: for_good },
    { name: "allow_plaintext_backup", declared: false, found: key.allow_plaintext_backup, mend: for_good },
    {
      name: "deletion_allowed",
      declared: false,
      found: key.deletion_allowed,
      mend: `vault write ${path}/config deletion_allowed=false`,
    },
  ];
  return settings
    .filter(({ declared, found }) => declared !== found)
    .map(({ name, declared, found, mend }) => ({
      kind: "key-setting",
      which: name,
      what: `${path} has ${name} ${found}`,
      declared: `${name}: ${declared}`,
      found: `${name}: ${found}`,
      mend,
    }));
}

/** What a rotation retired can be decrypted again. */
function lowered(tenant: TenantId, key: TransitKey, rotation: Rotation): Partly[] {
  if (rotation.state !== "RETIRED" || rotation.new_proof === null) return [];
  const version = versionOf(rotation.password);
  // A higher one than there is stems from the key of a tenant that had this id before.
  if (key.min_decryption_version >= version || version <= 1 || version > key.latest_version) return [];
  const minimum = `min_decryption_version=${version} min_encryption_version=${version}`;
  return [
    {
      kind: "key-minimum",
      which: "",
      what: `${keyPath(tenant)} decrypts versions that were retired: old passwords can be read again`,
      declared: `min_decryption_version: ${version}`,
      found: `min_decryption_version: ${key.min_decryption_version}`,
      mend: `vault write ${keyPath(tenant)}/config ${minimum}`,
    },
  ];
}
