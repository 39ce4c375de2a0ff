// The lab's two tenants: one on EC2, one on a host that the operator already has.

import { type TenantId, tenantId } from "../../stacks/names.ts";

export interface LabTenant {
  id: TenantId;
  domain: string;
  contactEmail: string;
  provider: "ec2" | "existing";
}

export const ACME: LabTenant = {
  id: tenantId("acme"),
  domain: "acme.example",
  contactEmail: "postmaster@people.example",
  provider: "ec2",
};

export const GLOBEX: LabTenant = {
  id: tenantId("globex"),
  domain: "globex.example",
  contactEmail: "it@people.example",
  provider: "existing",
};

export const TENANTS: LabTenant[] = [ACME, GLOBEX];
