// What rebuild tests look at: a tenant's host as others see it (ssh, TLS, mail logins), and the engine that makes it.
import { createHash } from "node:crypto";
import { connect } from "node:tls";
import { expect } from "vitest";
import { canLogIn, decrypt, dns, readRecord } from "../../scripts/drill/doors.ts";
import type { Finished } from "../../scripts/lab/children.ts";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import { dkimKeyFile, IMAP_PORT, mailHost, tenantStack } from "../../stacks/names.ts";
import { addressOf, lab, program, pulumi } from "./lab.ts";

/** Runs `pulumi up` on the tenant's stack without a preview. Never throws for an exit code. */
export const up = (tenant: LabTenant, ...more: string[]): Promise<Finished> =>
  pulumi(["up", "--yes", "--skip-preview", "--stack", tenantStack(tenant.id), ...more]);

/** The same, and it must end well. */
export async function rebuild(tenant: LabTenant, ...more: string[]): Promise<void> {
  const done = await up(tenant, ...more);
  expect(done.code, done.stdout + done.stderr).toBe(0);
}

/** What must come back as it was: digests and public things only. */
export async function identity(tenant: LabTenant) {
  const address = await addressOf(tenant.id);
  const [dkim, certificate, admin, names] = await Promise.all([
    onHost(tenant, `sha256sum ${dkimKeyFile(tenant.domain)}`),
    certificateAt(address),
    readRecord(lab, tenant, "admin"),
    dns(lab, tenant, mailHost(tenant.domain), "A"),
  ]);
  return { address, dkim, certificate, admin: admin.version, dns: names };
}

/** The tenant's current password, as Vault holds it. */
export async function passwordOf(tenant: LabTenant): Promise<string> {
  return decrypt(lab, tenant, (await readRecord(lab, tenant, "admin")).fields.password);
}

/** Vault's password logs in where Vault says that the tenant lives. */
export async function expectLogin(tenant: LabTenant): Promise<void> {
  expect(await canLogIn(await addressOf(tenant.id), tenant, await passwordOf(tenant))).toBe(true);
}

/** Runs a command on the tenant's host and returns what it prints; it must end well. */
export async function onHost(tenant: LabTenant, command: string): Promise<string> {
  const trust = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"];
  const options = trust.flatMap((option) => ["-o", option]);
  const done = await program("ssh", [...options, `root@${await addressOf(tenant.id)}`, command]);
  expect(done.code, done.stderr).toBe(0);
  return done.stdout;
}

/** SHA-256 of the certificate that IMAP shows. */
async function certificateAt(host: string): Promise<string> {
  const socket = connect({ host, port: IMAP_PORT, rejectUnauthorized: false });
  try {
    await new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
    return createHash("sha256").update(socket.getPeerCertificate().raw).digest("hex");
  } finally {
    socket.destroy();
  }
}
