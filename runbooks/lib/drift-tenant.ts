// One tenant in Vault: its records complete, its rotation over, what is in use known to nobody else, its key as made.
import { z } from "zod";
import {
  KV_MOUNT,
  metadataPath,
  RECORDS,
  type RecordName,
  type TenantId,
  tenantStack,
} from "../../stacks/names.ts";
import { isMarked } from "./compromised.ts";
import { keyMissing, keySettings, lowered } from "./drift-key.ts";
import type { Finding } from "./findings.ts";
import { inParallel } from "./parallel.ts";
import { Admin, Dkim, Mailu, type Rotation, Server, Tls } from "./records.ts";
import { readRotation } from "./rotation-begin.ts";
import { readKey } from "./transit.ts";
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
