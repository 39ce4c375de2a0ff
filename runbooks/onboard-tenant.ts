// A tenant's first credentials: Transit key, admin password, API token and DKIM key, made here and encrypted into
// Vault before any server exists. Each record is created only if it is absent, so that a second run completes
// what the first left out and can never replace a credential that is in use.
import { generateKeyPairSync } from "node:crypto";
import { z } from "zod";
import {
  adminAddress,
  DKIM_SELECTOR,
  mailHost,
  metadataPath,
  recordPath,
  type TenantId,
  TRANSIT_MOUNT,
  tenantStack,
  transitKey,
  webmailUrl,
} from "../stacks/names.ts";
import { RunbookError } from "./lib/errors.ts";
import { breakGlassFlag, domainFlag, tenantFlag } from "./lib/flag-types.ts";
import { reopenRotation, requireFreeId } from "./lib/offboarding.ts";
import { newApiToken, newPassword } from "./lib/password.ts";
import { Admin, Dkim, Mailu } from "./lib/records.ts";
import { defineRunbook } from "./lib/runbook.ts";
import { openSession } from "./lib/session.ts";
import { ONBOARDED, requireNotDeleted } from "./lib/tenant-secrets.ts";
import { Tombstones } from "./lib/tombstone.ts";
import { createKey, open, seal } from "./lib/transit.ts";
import { CasConflict, fingerprint, type Vault } from "./lib/vault.ts";

export default defineRunbook({
  name: "onboard-tenant",
  summary: "make a new tenant's first credentials and encrypt them into Vault",
  example: "npx runbook onboard-tenant --tenant acme --domain acme.example",
  flags: z.object({
    tenant: tenantFlag,
    domain: domainFlag.describe("the tenant's mail domain"),
    again: z
      .boolean()
      .default(false)
      .describe("give an id away again whose tenant was offboarded (see docs/offboarding.md)"),
    breakGlass: breakGlassFlag,
  }),
  run: async (run) => {
    const { tenant, domain } = run.flags;
    const { settings, vault } = await openSession(run, "platform-admin", capabilities(tenant));
    await run.check(`make sure that the id ${tenant} is free, or this tenant's own`, () =>
      requireFreeId(vault, new Tombstones(settings.audit, run.env), tenant, run.flags.again),
    );
    const known = await run.check(`look what Vault already has for ${tenant}, and that it opens`, () =>
      readRecords(vault, tenant, domain),
    );

    await run.change("make the tenant's Transit key", () => createKey(vault, tenant));
    if (run.flags.again) {
      await run.change("let rotations in again", () => reopenRotation(vault, tenant));
    }
    const dkim = await run.change("make the DKIM key", async () => {
      if (known.dkim !== undefined) return known.dkim.data;
      const { privateKey, dnsTxt } = newDkimKey();
      const record = {
        selector: DKIM_SELECTOR,
        private_key: await seal(vault, tenant, privateKey),
        dns_txt: dnsTxt,
      };
      await createRecord(vault, tenant, "dkim", record);
      return record;
    });
    await run.change("make Mailu's API token", async () => {
      if (known.mailu !== undefined) return;
      const record = { api_token: await seal(vault, tenant, newApiToken()), sanctioned_app_tokens: [] };
      await createRecord(vault, tenant, "mailu", record);
    });
    // Last, since its presence is what makes a tenant.
    const admin = await run.change("make the administrator's credential", async () => {
      if (known.admin !== undefined) return known.admin.data;
      const record = {
        username: adminAddress(domain),
        password: await seal(vault, tenant, newPassword()),
        webmail_url: webmailUrl(domain),
        last_rotated: new Date().toISOString(),
      };
      await createRecord(vault, tenant, "admin", record);
      return record;
    });
    await run.change("read it back and decrypt it", async () => {
      const stored = await vault.record(tenant, "admin", Admin);
      await open(vault, tenant, stored?.data.password ?? "", `smtp/${tenant}/admin password`);
    });
    await run.change("write the audit event", async () => {
      if (admin === undefined) return;
      await run.audit.append({
        event: "tenant_onboarded",
        tenantId: tenant,
        // The same credential is onboarded once, however many runs that took.
        originalRun: fingerprint(admin.password),
        details: {
          domain,
          username: admin.username,
          ciphertext_sha256: fingerprint(admin.password),
          ...(run.flags.breakGlass ? { break_glass: true } : {}),
        },
      });
    });
    return {
      tenant,
      username: adminAddress(domain),
      mail_host: mailHost(domain),
      dkim_txt: dkim?.dns_txt ?? known.dkim?.data.dns_txt ?? null,
      next: `pulumi up --stack ${tenantStack(tenant)}`,
    };
  },
});

function capabilities(tenant: TenantId): Record<string, readonly string[]> {
  const rights = ["create", "read"];
  return {
    [recordPath(tenant, "admin")]: rights,
    [recordPath(tenant, "mailu")]: rights,
    [recordPath(tenant, "dkim")]: rights,
    [recordPath(tenant, "rotation")]: ["read", "update"],
    [metadataPath(tenant, "admin")]: ["read"],
    [`${TRANSIT_MOUNT}/keys/${transitKey(tenant)}`]: ["create", "read"],
    [`${TRANSIT_MOUNT}/encrypt/${transitKey(tenant)}`]: ["update"],
    [`${TRANSIT_MOUNT}/decrypt/${transitKey(tenant)}`]: ["update"],
  };
}

async function readRecords(vault: Vault, tenant: TenantId, domain: string) {
  const [admin, mailu, dkim] = await Promise.all([
    vault.record(tenant, "admin", Admin),
    vault.record(tenant, "mailu", Mailu),
    vault.record(tenant, "dkim", Dkim),
  ]);
  if (admin !== undefined && admin.data.username !== adminAddress(domain)) {
    throw new RunbookError(
      `Tenant ${tenant} is already there, with the administrator ${admin.data.username} and not of ${domain}`,
      {
        exit: "refused",
        next: `vault kv get -field=username smtp/${tenant}/admin   # another domain is another tenant: choose a new id`,
      },
    );
  }
  const records = { admin, mailu, dkim };
  await requireNotDeleted(
    vault,
    tenant,
    ONBOARDED.filter((name) => records[name] === undefined),
  );
  // With the key lost, a new one of the same name would only stand in the way of the one that opens them.
  const at = (name: string): string => `smtp/${tenant}/${name}`;
  if (admin) await open(vault, tenant, admin.data.password, at("admin password"));
  if (mailu) await open(vault, tenant, mailu.data.api_token, at("mailu api_token"));
  if (dkim) await open(vault, tenant, dkim.data.private_key, at("dkim private_key"));
  return records;
}

/** Creates the record; throws refused (4) when another onboarding of this tenant was faster. */
async function createRecord(
  vault: Vault,
  tenant: TenantId,
  name: "admin" | "mailu" | "dkim",
  record: Record<string, unknown>,
): Promise<void> {
  try {
    await vault.writeRecord(tenant, name, record, 0);
  } catch (error) {
    if (!(error instanceof CasConflict)) throw error;
    throw new RunbookError(
      `Somebody else onboards ${tenant} at this moment: smtp/${tenant}/${name} appeared meanwhile`,
      {
        exit: "refused",
        next: "run this again once they are done: it keeps their credentials and completes what is missing",
        cause: error,
      },
    );
  }
}

/** RSA-2048 as PKCS#8 PEM, as Mailu keeps it, and its public half as DNS publishes it. */
function newDkimKey(): { privateKey: string; dnsTxt: string } {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "der" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
  return { privateKey, dnsTxt: `v=DKIM1; k=rsa; p=${publicKey.toString("base64")}` };
}
