// The rules that roles are put together from. One pattern is written the same way in every role, because a token
// that holds two roles gets their sum only for equal patterns; of two different ones Vault takes the more specific
// and forgets the other.
import { KV_MOUNT, type RecordName, TRANSIT_MOUNT } from "../names.ts";

type Capability = "create" | "read" | "update" | "patch" | "delete" | "list" | "sudo";
export interface Rule {
  path: string;
  may: readonly Capability[];
  /** Request fields that are let through, each with the values it may have (none listed: any). */
  fields?: Readonly<Record<string, readonly string[]>>;
}

/**
 * Of the token itself. No rule of ours has a template such as {{identity.entity.id}} in it: Vault reads the text of a policy
 * with one anew for each request (seen with 1.21), and half of its time went there. So does its own policy `default`,
 * which lets people read who they are; automation goes without.
 */
export const SELF: readonly Rule[] = [
  { path: "auth/token/lookup-self", may: ["read"] },
  { path: "auth/token/renew-self", may: ["update"] },
  { path: "auth/token/revoke-self", may: ["update"] },
  { path: "sys/capabilities-self", may: ["update"] },
];
export const WRAP: Rule = { path: "sys/wrapping/wrap", may: ["update"] };

export const data = (records: readonly RecordName[], ...may: Capability[]): Rule[] =>
  records.map((record) => ({ path: `${KV_MOUNT}/data/+/${record}`, may }));
export const metadata = (records: readonly RecordName[], ...may: Capability[]): Rule[] =>
  records.map((record) => ({ path: `${KV_MOUNT}/metadata/+/${record}`, may }));
/** The names of a record's fields, without their values. */
export const subkeys = (records: readonly RecordName[]): Rule[] =>
  records.map((record) => ({ path: `${KV_MOUNT}/subkeys/+/${record}`, may: ["read"] }));
/** Marking: nothing but `custom_metadata`, so that nobody lifts `cas_required` or drops old versions on the way. */
export const mark = (records: readonly RecordName[], ...more: Capability[]): Rule[] =>
  records.map((record) => ({
    path: `${KV_MOUNT}/metadata/+/${record}`,
    may: ["read", "patch", ...more],
    fields: { custom_metadata: [] },
  }));
/** Names of tenants, and of one tenant's records. */
export const LIST: readonly Rule[] = [
  { path: `${KV_MOUNT}/metadata`, may: ["list"] },
  { path: `${KV_MOUNT}/metadata/`, may: ["list"] },
  { path: `${KV_MOUNT}/metadata/+`, may: ["list"] },
  { path: `${KV_MOUNT}/metadata/+/`, may: ["list"] },
];

export const transit = (operation: string, ...may: Capability[]): Rule => ({
  path: operation === "" ? `${TRANSIT_MOUNT}/keys/+` : `${TRANSIT_MOUNT}/${operation}`,
  may,
});
export const LIST_KEYS: Rule = { path: `${TRANSIT_MOUNT}/keys`, may: ["list"] };
/** `create` is left out of `encrypt`: a misspelt tenant would silently get a key of its own. */
export const USE_KEYS: readonly Rule[] = [
  LIST_KEYS,
  transit("encrypt/+", "update"),
  transit("decrypt/+", "update"),
  transit("rewrap/+", "update"),
  transit("keys/+/rotate", "update"),
];
export const MINIMUMS = { min_decryption_version: [], min_encryption_version: [] };
/** Retiring old versions. Not in the list: exportable, allow_plaintext_backup, deletion_allowed. */
export const RETIRE: Rule = { path: `${TRANSIT_MOUNT}/keys/+/config`, may: ["update"], fields: MINIMUMS };
