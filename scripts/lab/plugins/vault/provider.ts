// The lab's stand-in for pulumi-vault, over Vault's HTTP API.
import type { Provider } from "../protocol/resource.ts";
import { vaultVersion } from "../versions.ts";
import { audit, authBackend, mount } from "./mounts.ts";
import { policy } from "./policy.ts";

export const vault: Provider = {
  name: "vault",
  version: vaultVersion,
  resources: {
    "vault:index/mount:Mount": mount,
    "vault:index/policy:Policy": policy,
    "vault:index/audit:Audit": audit,
    "vault:index/authBackend:AuthBackend": authBackend,
  },
};
