// A tenant that a test takes in for itself: onboarded, with a stack of its own that is up.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { AMI, makeZone } from "../../scripts/lab/cloud.ts";
import { order } from "../../scripts/lab/control.ts";
import { configureStack, makeStack, tenantConfig } from "../../scripts/lab/project.ts";
import { ACME, GLOBEX, type LabTenant } from "../../scripts/lab/tenants.ts";
import { tenantId, tenantStack } from "../../stacks/names.ts";
import { lab, runbook } from "./lab.ts";
import { rebuild } from "./rebuilt.ts";

const onboard = (tenant: LabTenant) =>
  runbook(["onboard-tenant", "--tenant", tenant.id, "--domain", tenant.domain, "--yes"]);

/** A tenant with a stack of its own, up. */
export async function living(id: string, provider: LabTenant["provider"]): Promise<LabTenant> {
  const template = provider === "ec2" ? ACME : GLOBEX;
  const tenant = { ...template, id: tenantId(id), domain: `${id}.example` };
  const { dir, awsEndpoint } = lab.place;
  const [zoneId, [host], sshPublicKey] = await Promise.all([
    makeZone(awsEndpoint, tenant.domain),
    provider === "existing" ? order(dir, { order: "boot", name: id }).then((answer) => answer.hosts) : [],
    readFile(join(dir, "id_ed25519.pub"), "utf8"),
    makeStack(dir, lab.env, tenantStack(tenant.id)),
    onboard(tenant).then((done) => expect(done.code, done.stderr).toBe(0)),
  ]);
  const place = { zoneId, ami: AMI, sshPublicKey: sshPublicKey.trim(), address: host?.address };
  await configureStack(dir, tenantStack(tenant.id), tenantConfig(tenant, place));
  await rebuild(tenant);
  return tenant;
}
