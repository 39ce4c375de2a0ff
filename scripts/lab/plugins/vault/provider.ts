// The lab's stand-in for pulumi-vault, over Vault's HTTP API.
import type { Provider } from "../protocol/resource.ts";
import { vaultVersion } from "../versions.ts";
import { appRole } from "./approle.ts";
import { group, groupAlias } from "./identity.ts";
import { jwtBackend, jwtRole } from "./jwt.ts";
import { kvSettings } from "./kv.ts";
import { audit, authBackend, mount } from "./mounts.ts";
import { policy } from "./policy.ts";

export const vault: Provider = {
  name: "vault",
  version: vaultVersion,
  resources: {
    "vault:appRole/authBackendRole:AuthBackendRole": appRole,
    "vault:identity/group:Group": group,
    "vault:identity/groupAlias:GroupAlias": groupAlias,
    "vault:index/mount:Mount": mount,
    "vault:index/policy:Policy": policy,
    "vault:index/audit:Audit": audit,
    "vault:index/authBackend:AuthBackend": authBackend,
    "vault:jwt/authBackend:AuthBackend": jwtBackend,
    "vault:jwt/authBackendRole:AuthBackendRole": jwtRole,
    "vault:kv/secretBackendV2:SecretBackendV2": kvSettings,
  },
};
