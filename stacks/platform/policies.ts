// Each role as a Vault policy: what it may do is said here and nowhere else, and Vault itself refuses the rest.
// Pure. One pattern is written the same way in every role, because a token that holds two roles gets their sum
// only for equal patterns; of two different ones Vault takes the more specific and forgets the other.
import {
  CANARY,
  KV_MOUNT,
  RECORDS,
  type RecordName,
  type Role,
  recordPath,
  type TenantId,
  TRANSIT_MOUNT,
  transitKey,
} from "../names.ts";

type Capability = "create" | "read" | "update" | "patch" | "delete" | "list" | "sudo";
export interface Rule {
  path: string;
  may: readonly Capability[];
  /** Request fields that are let through, each with the values it may have (none listed: any). */
  fields?: Readonly<Record<string, readonly string[]>>;
}

/** The policy of `role` in Vault's language. */
export const rolePolicy = (role: Role): string => toHcl(RULES[role]);

/** The policy of a tenant: reading its own credential, decrypting with its own key. */
export const tenantPolicyText = (tenant: TenantId): string =>
  toHcl([
    ...SELF,
    { path: recordPath(tenant, "admin"), may: ["read"] },
    { path: `${TRANSIT_MOUNT}/decrypt/${transitKey(tenant)}`, may: ["update"] },
  ]);

const SELF: readonly Rule[] = [
  { path: "auth/token/lookup-self", may: ["read"] },
  { path: "auth/token/renew-self", may: ["update"] },
  { path: "auth/token/revoke-self", may: ["update"] },
  { path: "sys/capabilities-self", may: ["update"] },
  // The person behind the token, for the audit log.
  { path: "identity/entity/id/{{identity.entity.id}}", may: ["read"] },
];
const WRAP: Rule = { path: "sys/wrapping/wrap", may: ["update"] };

const data = (records: readonly RecordName[], ...may: Capability[]): Rule[] =>
  records.map((record) => ({ path: `${KV_MOUNT}/data/+/${record}`, may }));
const metadata = (records: readonly RecordName[], ...may: Capability[]): Rule[] =>
  records.map((record) => ({ path: `${KV_MOUNT}/metadata/+/${record}`, may }));
/** Marking: nothing but `custom_metadata`, so that nobody lifts `cas_required` or drops old versions on the way. */
const mark = (records: readonly RecordName[], ...more: Capability[]): Rule[] =>
  records.map((record) => ({
    path: `${KV_MOUNT}/metadata/+/${record}`,
    may: ["read", "patch", ...more],
    fields: { custom_metadata: [] },
  }));
/** Names of tenants, and of one tenant's records. */
const LIST: readonly Rule[] = [
  { path: `${KV_MOUNT}/metadata`, may: ["list"] },
  { path: `${KV_MOUNT}/metadata/`, may: ["list"] },
  { path: `${KV_MOUNT}/metadata/+`, may: ["list"] },
  { path: `${KV_MOUNT}/metadata/+/`, may: ["list"] },
];

const transit = (operation: string, ...may: Capability[]): Rule => ({
  path: operation === "" ? `${TRANSIT_MOUNT}/keys/+` : `${TRANSIT_MOUNT}/${operation}`,
  may,
});
const LIST_KEYS: Rule = { path: `${TRANSIT_MOUNT}/keys`, may: ["list"] };
/** `create` is left out of `encrypt`: a misspelt tenant would silently get a key of its own. */
const USE_KEYS: readonly Rule[] = [
  LIST_KEYS,
  transit("encrypt/+", "update"),
  transit("decrypt/+", "update"),
  transit("rewrap/+", "update"),
  transit("keys/+/rotate", "update"),
];
const MINIMUMS = { min_decryption_version: [], min_encryption_version: [] };
/** Retiring old versions. Not in the list: exportable, allow_plaintext_backup, deletion_allowed. */
const RETIRE: Rule = { path: `${TRANSIT_MOUNT}/keys/+/config`, may: ["update"], fields: MINIMUMS };

/** What rotations encrypt and write. */
const ROTATED: readonly RecordName[] = ["admin", "mailu", "dkim", "tls", "rotation"];
/** All but the rotation record: deleting a record that serves as a lock would let a stale writer win. */
const DELETABLE = RECORDS.filter((record) => record !== "rotation");

const RULES: Readonly<Record<Role, readonly Rule[]>> = {
  "platform-admin": [
    ...SELF,
    WRAP,
    ...LIST,
    ...data(DELETABLE, "create", "read", "update", "patch", "delete"),
    ...data(["rotation"], "create", "read", "update", "patch"),
    ...mark(DELETABLE, "delete"),
    ...mark(["rotation"]),
    ...USE_KEYS,
    // Onboarding makes the key, of the one type that the design knows, and never an exportable one.
    {
      path: `${TRANSIT_MOUNT}/keys/+`,
      may: ["create", "read", "update"],
      fields: { type: ["aes256-gcm96"] },
    },
    RETIRE,
  ],
  "incident-responder": [
    ...SELF,
    WRAP,
    ...LIST,
    ...data(["server"], "read"),
    ...data(ROTATED, "create", "read", "update", "patch"),
    ...mark(RECORDS),
    ...USE_KEYS,
    transit("", "read"),
    RETIRE,
  ],
  "tenant-deployer": [
    ...SELF,
    WRAP,
    ...LIST,
    ...data(RECORDS, "create", "read", "update", "patch"),
    ...mark(RECORDS),
    ...USE_KEYS,
    transit("", "read"),
    RETIRE,
  ],
  "stack-operator": [
    ...SELF,
    // Pulumi's Vault provider works with a short-lived child of the token it's given.
    { path: "auth/token/create", may: ["create", "update"] },
    { path: "sys/mounts", may: ["read"] },
    ...[KV_MOUNT, TRANSIT_MOUNT].flatMap((mount): Rule[] => [
      { path: `sys/mounts/${mount}`, may: ["create", "read", "update", "delete", "sudo"] },
      { path: `sys/mounts/${mount}/tune`, may: ["read", "update", "sudo"] },
    ]),
    { path: `${KV_MOUNT}/config`, may: ["create", "read", "update"] },
    { path: "sys/audit", may: ["read", "list", "sudo"] },
    { path: "sys/audit/*", may: ["create", "read", "update", "delete", "sudo"] },
    { path: "sys/policies/acl", may: ["list"] },
    { path: "sys/policies/acl/*", may: ["create", "read", "update", "delete", "list"] },
    { path: "sys/auth", may: ["read"] },
    { path: "sys/auth/*", may: ["create", "read", "update", "delete", "sudo"] },
    { path: "sys/mounts/auth/*", may: ["read", "update", "sudo"] },
    ...["approle", "people", "ci"].map(
      (mount): Rule => ({ path: `auth/${mount}/*`, may: ["create", "read", "update", "delete", "list"] }),
    ),
  ],
  "vault-restorer": [
    ...SELF,
    { path: "sys/storage/raft/snapshot", may: ["read", "create", "update"] },
    { path: "sys/storage/raft/snapshot-force", may: ["create", "update"] },
    ...LIST,
  ],
  "backup-operator": [
    ...SELF,
    { path: "sys/storage/raft/snapshot", may: ["read"] },
    { path: `${KV_MOUNT}/data/${CANARY}/admin`, may: ["create", "read", "update"] },
    { path: `${KV_MOUNT}/metadata/${CANARY}/admin`, may: ["read"] },
    { path: `${KV_MOUNT}/metadata`, may: ["list"] },
    { path: `${KV_MOUNT}/metadata/`, may: ["list"] },
    // A snapshot carries its audit devices, so the manifest names their paths. Reading them takes sudo.
    { path: "sys/audit", may: ["read", "sudo"] },
  ],
  "key-shredder": [
    ...SELF,
    ...LIST,
    LIST_KEYS,
    transit("", "read", "delete"),
    transit("keys/+/trim", "update"),
    {
      path: `${TRANSIT_MOUNT}/keys/+/config`,
      may: ["update"],
      fields: { ...MINIMUMS, deletion_allowed: [] },
    },
    // Ciphertext only, to see that nothing current still needs a version that goes.
    ...data(ROTATED, "read"),
    ...metadata(ROTATED, "read"),
  ],
  "drift-reader": [
    ...SELF,
    ...LIST,
    ...metadata(RECORDS, "read"),
    ...data(["server", "dkim"], "read"),
    { path: `${KV_MOUNT}/config`, may: ["read"] },
    ...["sys/mounts", "sys/auth", "sys/mounts/+", "sys/mounts/+/tune", "sys/mounts/auth/+/tune"].map(
      (path): Rule => ({ path, may: ["read"] }),
    ),
    { path: "sys/audit", may: ["read", "sudo"] },
    { path: "sys/policies/acl", may: ["list"] },
    { path: "sys/policies/acl/+", may: ["read"] },
    ...["approle", "people", "ci"].flatMap((mount): Rule[] => [
      { path: `auth/${mount}/role`, may: ["list"] },
      { path: `auth/${mount}/role/+`, may: ["read"] },
    ]),
  ],
  "credential-prober": [
    ...SELF,
    ...LIST,
    ...data(["admin", "server"], "read"),
    ...metadata(["admin"], "read"),
    transit("decrypt/+", "update"),
  ],
};

function toHcl(rules: readonly Rule[]): string {
  return `${rules.map(block).join("\n\n")}\n`;
}

function block({ path, may, fields }: Rule): string {
  const lines = [`path "${path}" {`, `  capabilities = ${JSON.stringify(may)}`];
  if (fields !== undefined) {
    lines.push("  allowed_parameters = {");
    for (const [field, values] of Object.entries(fields))
      lines.push(`    "${field}" = ${JSON.stringify(values)}`);
    lines.push("  }");
  }
  return [...lines, "}"].join("\n");
}
