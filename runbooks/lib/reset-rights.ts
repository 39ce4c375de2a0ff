// What a reset needs of Vault, path by path. A right that is missing is named before anything changes.
import {
  metadataPath,
  RECORDS,
  recordPath,
  type TenantId,
  TRANSIT_MOUNT,
  transitKey,
} from "../../stacks/names.ts";

/** Rights on one tenant; the key's old versions are retired, but never trimmed, with them. */
export function resetRights(tenant: TenantId): Record<string, readonly string[]> {
  const key = transitKey(tenant);
  const use = (operation: string): [string, readonly string[]] => [
    `${TRANSIT_MOUNT}/${operation}/${key}`,
    ["update"],
  ];
  return {
    ...Object.fromEntries(RECORDS.map((record) => [recordPath(tenant, record), ["read"]])),
    ...Object.fromEntries(
      (["admin", "mailu", "dkim", "tls"] as const).map((record) => [
        recordPath(tenant, record),
        ["read", "update"],
      ]),
    ),
    [recordPath(tenant, "rotation")]: ["create", "read", "update"],
    [metadataPath(tenant, "admin")]: ["read", "patch"],
    [`${TRANSIT_MOUNT}/keys/${key}`]: ["read"],
    [`${TRANSIT_MOUNT}/keys/${key}/rotate`]: ["update"],
    [`${TRANSIT_MOUNT}/keys/${key}/config`]: ["update"],
    ...Object.fromEntries(["encrypt", "decrypt", "rewrap"].map(use)),
  };
}

/** For handing a credential to somebody at another desk. */
export const WRAP_RIGHT: Record<string, readonly string[]> = { "sys/wrapping/wrap": ["update"] };
