// Tenants' Transit keys: as onboarding made them, decrypting nothing that a rotation retired, and none beside them. Vault
// tells settings of a key and never the key.
import { KV_MOUNT, type TenantId, TRANSIT_MOUNT, tenantIdProblem, transitKey } from "../../stacks/names.ts";
import type { Finding } from "./findings.ts";
import type { Rotation } from "./records.ts";
import { type TransitKey, versionOf } from "./transit.ts";
import type { Vault } from "./vault.ts";

type KeyFinding = Omit<Finding, "check" | "about">;

const keyPath = (tenant: TenantId): string => `${TRANSIT_MOUNT}/keys/${transitKey(tenant)}`;

export const keyMissing = (tenant: TenantId): KeyFinding => ({
  kind: "key-missing",
  which: "",
  what: `${keyPath(tenant)} is not there: nothing that Vault keeps for ${tenant} can be decrypted`,
  mend: "npx runbook restore-vault --help   # the key is in a backup; a new one opens nothing",
});

const CIPHER = "aes256-gcm96";

/** Of these only the last can be taken back: a key that was exportable once may be in anybody's hands. */
export function keySettings(tenant: TenantId, key: TransitKey): KeyFinding[] {
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
export function lowered(tenant: TenantId, key: TransitKey, rotation: Rotation): KeyFinding[] {
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

/** Keys of nobody: a tenant that was offboarded keeps its rotation record, and its key waits for a key-shredder. */
export async function strayKeys(vault: Vault): Promise<Finding[]> {
  const [keys, tenants] = await Promise.all([vault.list(`${TRANSIT_MOUNT}/keys`), vault.tenants()]);
  return keys
    .filter((key) => tenantIdProblem(key) !== undefined || !tenants.includes(key as TenantId))
    .map(
      (key): Finding => ({
        check: "vault",
        kind: "stray-key",
        about: key,
        which: "",
        what: `${TRANSIT_MOUNT} has a key ${key}, and ${KV_MOUNT} no tenant of that name`,
        mend: `vault read ${TRANSIT_MOUNT}/keys/${key}   # whose is it? Deleting it can't be undone: npx runbook offboard-tenant --help`,
      }),
    );
}
