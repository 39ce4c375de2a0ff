// Gives a rebuilt mail host its tenant's credentials back: run by the tenant's stack after every new host, and
// by hand after anything that cost a host its Mailu. Reads Vault, starts Mailu with the tenant's own keys, sets
// the password that Vault holds, and counts as done only once real logins have worked.
import { z } from "zod";
import {
  adminAddress,
  mailHost,
  recordPath,
  type TenantId,
  TRANSIT_MOUNT,
  transitKey,
} from "../stacks/names.ts";
import { isMarked } from "./lib/compromised.ts";
import { RunbookError } from "./lib/errors.ts";
import { breakGlassFlag, domainFlag, emailFlag, takeOverFlag, tenantFlag } from "./lib/flag-types.ts";
import { saveCertificate } from "./lib/host-state.ts";
import { installPassword } from "./lib/install-password.ts";
import { readCertificate, requireUsableHost, startMailu } from "./lib/mail-host.ts";
import { type Login, smtpLogin, unprovenLogins } from "./lib/mail-login.ts";
import { Mailu } from "./lib/mailu.ts";
import { newPassword } from "./lib/password.ts";
import type { Admin } from "./lib/records.ts";
import { Rotating } from "./lib/rotation.ts";
import { defineRunbook } from "./lib/runbook.ts";
import { loginAt, recordServer, requireOwnMailu, serverRecord } from "./lib/server-record.ts";
import { openSession } from "./lib/session.ts";
import type { HostAddress } from "./lib/ssh.ts";
import { decryptForHost, readTenant } from "./lib/tenant-secrets.ts";
import { tlsTrust } from "./lib/tls-trust.ts";
import { open, rotateKeyBeyond, seal } from "./lib/transit.ts";
import { fingerprint, type Stored, type Vault } from "./lib/vault.ts";

export default defineRunbook({
  name: "recover-credentials",
  summary: "give a rebuilt mail host its tenant's credentials back and prove them by logging in",
  example: "npx runbook recover-credentials --tenant acme",
  flags: z.object({
    tenant: tenantFlag,
    domain: domainFlag.optional().describe("mail domain (default: as recorded in Vault)"),
    contactEmail: emailFlag.optional().describe("whom to tell about this tenant (default: as recorded)"),
    address: z.ipv4().optional().describe("the host's IPv4 address (default: as recorded)"),
    hostKey: z
      .string()
      .min(1)
      .optional()
      .describe("the host's SSH public key, 'ssh-ed25519 AAAA…' (default: as recorded)"),
    waitSeconds: z.coerce
      .number()
      .int()
      .min(0)
      .max(3600)
      .default(300)
      .describe("how long Mailu may take to start"),
    takeOver: takeOverFlag,
    breakGlass: breakGlassFlag,
  }),
  run: async (run) => {
    const { tenant, breakGlass } = run.flags;
    const { settings, vault } = await openSession(run, "tenant-deployer", capabilities(tenant));
    const known = await run.check(`read the records of ${tenant}`, () => readTenant(vault, tenant));
    const server = serverRecord(run.flags, known.server?.data);
    const host: HostAddress = { address: server.vps_ip, hostKey: server.host_key };
    await run.check("make sure that no other tenant lives on this Mailu", () =>
      requireOwnMailu(vault, tenant, server),
    );
    const secrets = await run.check("decrypt the tenant's secrets", () =>
      decryptForHost(vault, tenant, known),
    );
    await run.check(`look whether ${host.address} can carry Mailu`, () => requireUsableHost(settings, host));

    const started = await run.change(
      "put DKIM key, certificate and API token on the host, start Mailu",
      async () => {
        await startMailu(settings, host, { domain: server.domain, ...secrets });
        const certificate = await readCertificate(settings, host);
        const trust = tlsTrust(mailHost(server.domain), certificate.certificate);
        return { certificate, trust, mailu: new Mailu(server.api_url, secrets.apiToken, trust) };
      },
    );
    if (started !== undefined) run.onExit(() => started.mailu.close());
    await run.change("wait until Mailu's API answers", () =>
      started?.mailu.waitUntilReady(server.domain, run.flags.waitSeconds),
    );

    const rotating = await run.change("take the tenant's rotation record", () =>
      Rotating.take(vault, tenant, {
        kind: "recovery",
        run: run.runId,
        reason: "VPS rebuilt",
        details: {
          old_vps_ip: known.server?.data.vps_ip ?? null,
          new_vps_ip: server.vps_ip,
          host_key: server.host_key,
        },
        prepare: (admin) => passwordFor(vault, tenant, admin),
        takeOver: run.flags.takeOver ? "now" : "watch",
      }),
    );
    if (rotating !== undefined) run.onExit(() => rotating.release());
    let password = "";
    await run.change("set the password that Vault holds", async () => {
      if (rotating === undefined || started === undefined) return;
      await rotating.confirm();
      await started.mailu.ensureDomain(server.domain);
      password = await installPassword(rotating, {
        decrypt: (ciphertext) => open(vault, tenant, ciphertext, `the rotation's password of ${tenant}`),
        set: (plaintext) => started.mailu.setAdminPassword(server.domain, plaintext),
        logsIn: async (plaintext) =>
          (await smtpLogin({ ...loginAt(server), trust: started.trust, password: plaintext })).result ===
          "accepted",
      });
      await rotating.advance("SET");
    });
    await run.change("prove it: log in over SMTP and IMAP, open the webmail page", async () => {
      if (started === undefined) return;
      await requireLogins({ ...loginAt(server), trust: started.trust, password });
      await rotating?.advance("ACCEPTED");
    });
    const version = await run.change("store it as the tenant's current credential", async () => {
      const current = await rotating?.commit(new Date());
      await rotating?.advance("COMMITTED");
      return current;
    });
    await run.change("record where the tenant's Mailu is", () => recordServer(vault, tenant, server));
    await run.change("save the host's certificate", async () => {
      if (started !== undefined) await saveCertificate(vault, tenant, started.certificate);
    });
    await run.change("write the audit event", async () => {
      if (rotating === undefined || version === undefined) return;
      const { record } = rotating;
      // A reset that died earlier is only brought to its committed password here; its own runbook finishes it.
      const own = record.kind === "recovery";
      // With an Elastic IP a second rebuild has the same address: only the key tells that it is another host.
      const sameHost = own && record.details.host_key === server.host_key;
      const oldAddress = own ? record.details.old_vps_ip : (known.server?.data.vps_ip ?? null);
      await run.audit.append({
        // The first host of a tenant replaces none: nothing failed.
        event: oldAddress === null ? "smtp_credentials_installed" : "smtp_credentials_recovered",
        tenantId: tenant,
        originalRun: sameHost ? record.run : run.runId,
        details: {
          old_vps_ip: oldAddress,
          new_vps_ip: server.vps_ip,
          ...(oldAddress === null ? {} : { recovery_type: "vps_failure" }),
          version,
          ciphertext_sha256: fingerprint(record.password),
          rotated: record.rotates,
          ...(breakGlass ? { break_glass: true } : {}),
        },
      });
      // Not before the store has it: else nobody would come back for an event that was lost.
      if (own && (await run.audit.acknowledged())) await rotating.advance("CLEARED");
    });
    return {
      tenant,
      address: server.vps_ip,
      username: adminAddress(server.domain),
      version: version ?? known.admin.version,
      dkim_selector: known.dkim.data.selector,
      dkim_txt: known.dkim.data.dns_txt,
      ...(rotating !== undefined && rotating.record.kind !== "recovery"
        ? {
            unfinished: `a ${rotating.record.kind} of this tenant still waits to be finished: npx runbook resume --all`,
          }
        : {}),
    };
  },
});

const RECORD_RIGHTS = ["create", "read", "update"] as const;

function capabilities(tenant: TenantId): Record<string, readonly string[]> {
  const key = transitKey(tenant);
  return {
    [recordPath(tenant, "admin")]: RECORD_RIGHTS,
    [recordPath(tenant, "server")]: RECORD_RIGHTS,
    [recordPath(tenant, "tls")]: RECORD_RIGHTS,
    [recordPath(tenant, "rotation")]: RECORD_RIGHTS,
    [recordPath(tenant, "mailu")]: ["read"],
    [recordPath(tenant, "dkim")]: ["read"],
    [`${TRANSIT_MOUNT}/keys/${key}`]: ["read"],
    [`${TRANSIT_MOUNT}/keys/${key}/rotate`]: ["update"],
    [`${TRANSIT_MOUNT}/encrypt/${key}`]: ["update"],
    [`${TRANSIT_MOUNT}/decrypt/${key}`]: ["update"],
  };
}

/** The current password, unless somebody marked it compromised: then a new one under a new key version. */
async function passwordFor(vault: Vault, tenant: TenantId, admin: Stored<Admin>) {
  if (!isMarked(admin.customMetadata, admin.version))
    return { password: admin.data.password, rotates: false };
  await rotateKeyBeyond(vault, tenant, admin.data.password);
  return { password: await seal(vault, tenant, newPassword()), rotates: true };
}

async function requireLogins(login: Login): Promise<void> {
  const unproven = await unprovenLogins(login);
  if (unproven.length === 0) return;
  throw new RunbookError(`Failed to verify MailU access after recovery: ${unproven.join("; ")}`, {
    exit: "failed",
    next: `ssh root@${login.host} docker compose -f /opt/mailu/docker-compose.yml logs --tail 50   # then run this again`,
  });
}
