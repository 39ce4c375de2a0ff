// Offboarding as tests look at it: the runbook as different people run it, and what it leaves in Vault, the audit bucket,
// the log and the stack.
import { GetObjectCommand, ListObjectVersionsCommand } from "@aws-sdk/client-s3";
import { z } from "zod";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import { AUDIT_BUCKET, TRANSIT_MOUNT, tenantStack } from "../../stacks/names.ts";
import { s3 } from "./backup.ts";
import { auditLog } from "./door.ts";
import { pulumi, runbook, vault } from "./lab.ts";

const Token = z.object({ auth: z.object({ client_token: z.string() }) });
export const tokenWith = async (...policies: string[]): Promise<string> =>
  Token.parse(await vault("POST", "auth/token/create", { policies, ttl: "60m" })).auth.client_token;
export const SHREDDER = { VAULT_TOKEN: await tokenWith("key-shredder") };
/** A person who may do all of it. */
export const BOTH = { VAULT_TOKEN: await tokenWith("platform-admin", "key-shredder") };

export const offboardArgs = (tenant: LabTenant, ...more: string[]): string[] => [
  "offboard-tenant",
  "--tenant",
  tenant.id,
  "--reason",
  "contract ended",
  "--json",
  "--yes",
  "--name",
  tenant.id,
  ...more,
];
export const offboard = (tenant: LabTenant, env: Record<string, string> = {}) =>
  runbook(offboardArgs(tenant), { env });
export const onboard = (tenant: LabTenant, ...more: string[]) =>
  runbook(["onboard-tenant", "--tenant", tenant.id, "--domain", tenant.domain, "--yes", ...more]);

/** What lies under a name in the audit bucket. */
export async function stored(name: string): Promise<Record<string, unknown>> {
  const found = await s3.send(new GetObjectCommand({ Bucket: AUDIT_BUCKET, Key: `tombstones/${name}` }));
  return JSON.parse((await found.Body?.transformToString()) ?? "");
}
export async function tombstonesOf(tenant: LabTenant): Promise<string[]> {
  const Prefix = `tombstones/${tenant.id}.`;
  const found = await s3.send(new ListObjectVersionsCommand({ Bucket: AUDIT_BUCKET, Prefix }));
  return (found.Versions ?? []).map(({ Key }) => Key ?? "").sort();
}

export const Event = z.looseObject({
  event: z.string(),
  event_id: z.string(),
  tenant_id: z.string().optional(),
});
export const events = async (tenant: LabTenant) =>
  (await auditLog())
    .trim()
    .split("\n")
    .map((line) => Event.parse(JSON.parse(line)))
    .filter(({ event, tenant_id }) => /offboarded|deleted/.test(event) && tenant_id === tenant.id);

export const keyOf = (tenant: LabTenant): Promise<unknown> =>
  vault("GET", `${TRANSIT_MOUNT}/keys/${tenant.id}`);
export async function stackIsEmpty(tenant: LabTenant): Promise<boolean> {
  const exported = await pulumi(["stack", "export", "--stack", tenantStack(tenant.id)]);
  const state = z.object({ deployment: z.object({ resources: z.array(z.unknown()).optional() }) });
  return (state.parse(JSON.parse(exported.stdout)).deployment.resources ?? []).length === 0;
}
