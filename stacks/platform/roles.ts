// What each role may do, said here and nowhere else. Pure.
import { CANARY, KV_MOUNT, RECORDS, type RecordName, type Role, TRANSIT_MOUNT } from "../names.ts";
import {
  data,
  LIST,
  LIST_KEYS,
  MINIMUMS,
  mark,
  metadata,
  RETIRE,
  type Rule,
  SELF,
  subkeys,
  transit,
  USE_KEYS,
  WRAP,
} from "./rules.ts";

/** What rotations encrypt and write. */
const ROTATED: readonly RecordName[] = ["admin", "mailu", "dkim", "tls", "rotation"];
/** All but the rotation record: deleting a record that serves as a lock would let a stale writer win. */
const DELETABLE = RECORDS.filter((record) => record !== "rotation");

export const ROLE_RULES: Readonly<Record<Role, readonly Rule[]>> = {
  "platform-admin": [
    ...SELF,
    WRAP,
    ...LIST,
    ...subkeys(RECORDS),
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
    ...subkeys(RECORDS),
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
    // Whether there is anything to be lost, and of which day it is.
    ...LIST,
    { path: `${KV_MOUNT}/data/${CANARY}/admin`, may: ["read"] },
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
    ...subkeys(RECORDS),
    // The rotation's state lies beside its ciphertext, which nobody opens without a right to decrypt.
    ...data(["server", "dkim", "rotation"], "read"),
    // Which backup was begun last; no secret is in it.
    { path: `${KV_MOUNT}/data/${CANARY}/admin`, may: ["read"] },
    // Settings of the keys: Vault tells no key, and there is no right here to use one.
    LIST_KEYS,
    transit("", "read"),
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
    // The rest of what the engine compares: a role's id and an issuer's keys are no secrets.
    { path: "auth/approle/role/+/role-id", may: ["read"] },
    ...["people", "ci"].map((mount): Rule => ({ path: `auth/${mount}/config`, may: ["read"] })),
  ],
  "credential-prober": [
    ...SELF,
    ...LIST,
    // By Mailu's token it sees what else opens the account; by the certificate it knows whom it tells the password.
    ...data(["admin", "server", "mailu", "dkim", "tls"], "read"),
    ...metadata(["admin"], "read"),
    transit("decrypt/+", "update"),
  ],
};
