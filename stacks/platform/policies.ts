// Roles as Vault policies, so that Vault itself refuses what a script would refuse. Pure.
import { type Role, recordPath, type TenantId, TRANSIT_MOUNT, transitKey } from "../names.ts";
import { ROLE_RULES } from "./roles.ts";
import { type Rule, SELF } from "./rules.ts";

/** The policy of `role` in Vault's language. */
export const rolePolicy = (role: Role): string => toHcl(ROLE_RULES[role]);

/** The policy of a tenant: reading its own credential, decrypting with its own key. */
export const tenantPolicyText = (tenant: TenantId): string =>
  toHcl([
    ...SELF,
    { path: recordPath(tenant, "admin"), may: ["read"] },
    { path: `${TRANSIT_MOUNT}/decrypt/${transitKey(tenant)}`, may: ["update"] },
  ]);

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
