// The policies of policies.ts as resources.
import * as pulumi from "@pulumi/pulumi";
import { Policy } from "@pulumi/vault/policy.js";
import { ROLES, tenantId, tenantPolicy } from "../names.ts";
import { rolePolicy, tenantPolicyText } from "./policies.ts";

export interface PoliciesArgs {
  /** Ids of the tenants that get a policy of their own. */
  tenants: readonly string[];
}

export class Policies extends pulumi.ComponentResource {
  constructor(name: string, args: PoliciesArgs, options?: pulumi.ComponentResourceOptions) {
    super("penguinmails:platform:Policies", name, {}, options);
    for (const role of ROLES) this.#createPolicy(role, rolePolicy(role));
    for (const tenant of args.tenants.map(tenantId))
      this.#createPolicy(tenantPolicy(tenant), tenantPolicyText(tenant));
    this.registerOutputs();
  }

  #createPolicy(name: string, policy: string): void {
    new Policy(name, { name, policy }, { parent: this });
  }
}
