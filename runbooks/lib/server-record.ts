// `smtp/{tenant}/server`: where a tenant's Mailu answers. Made from what the stack knows, checked against the
// other tenants', written once logins were proven there.
import { adminAddress, apiUrl, IMAP_PORT, SMTP_PORT, type TenantId } from "../../stacks/names.ts";
import { canonicalJson } from "./audit-chain.ts";
import { RunbookError } from "./errors.ts";
import type { Login } from "./mail-login.ts";
import { Server } from "./records.ts";
import type { Vault } from "./vault.ts";

/** What the command line says of the host; each is undefined where it wasn't given. */
export interface HostFlags {
  readonly tenant: TenantId;
  readonly domain?: string | undefined;
  readonly contactEmail?: string | undefined;
  readonly address?: string | undefined;
  readonly hostKey?: string | undefined;
}

/** What is known of the host: flags go before the record, since the stack knows the newest host. */
export function serverRecord(flags: HostFlags, known: Server | undefined): Server {
  const address = flags.address ?? known?.vps_ip;
  const merged = Server.safeParse({
    ...known,
    vps_ip: address,
    api_url: address === undefined ? undefined : apiUrl(address),
    smtp_host: address,
    smtp_port: SMTP_PORT,
    imap_host: address,
    imap_port: IMAP_PORT,
    domain: flags.domain ?? known?.domain,
    contact_email: flags.contactEmail ?? known?.contact_email,
    host_key: flags.hostKey ?? known?.host_key,
  });
  if (merged.success) return merged.data;
  const missing = [
    ...new Set(merged.error.issues.map((issue) => FLAG_OF[String(issue.path[0])] ?? String(issue.path[0]))),
  ];
  throw new RunbookError(
    `Vault doesn't know where tenant ${flags.tenant} lives yet: ${missing.join(", ")} must be given`,
    {
      exit: "usage",
      next: `pulumi up --stack tenant-${flags.tenant}   # makes the host and runs this with all of them`,
    },
  );
}

const FLAG_OF: Record<string, string> = {
  vps_ip: "--address",
  api_url: "--address",
  smtp_host: "--address",
  imap_host: "--address",
  domain: "--domain",
  contact_email: "--contact-email",
  host_key: "--host-key",
};

/** Throws refused (4) if another tenant's record names the same Mailu: its API token rules everyone there. */
export async function requireOwnMailu(vault: Vault, tenant: TenantId, server: Server): Promise<void> {
  const others = (await vault.tenants()).filter((other) => other !== tenant);
  for (let from = 0; from < others.length; from += 20) {
    await Promise.all(
      others.slice(from, from + 20).map(async (other) => {
        const theirs = await vault.record(other, "server", Server);
        if (theirs?.data.api_url !== server.api_url) return;
        throw new RunbookError(
          `${server.api_url} is already the Mailu of tenant ${other}: one Mailu serves one tenant`,
          {
            exit: "refused",
            next: `give ${tenant} a host of its own in its stack's config, then run pulumi up`,
          },
        );
      }),
    );
  }
}

/** Where and as whom to log in at this server. */
export const loginAt = (server: Server): Omit<Login, "trust" | "password"> => ({
  host: server.vps_ip,
  smtpPort: server.smtp_port,
  imapPort: server.imap_port,
  username: adminAddress(server.domain),
});

/** Stores the record unless Vault has it already; fields that others added stay. */
export async function recordServer(vault: Vault, tenant: TenantId, server: Server): Promise<void> {
  await vault.updateRecord(tenant, "server", Server, (stored) =>
    stored !== undefined && canonicalJson(stored.data) === canonicalJson({ ...stored.data, ...server })
      ? undefined
      : { ...stored?.data, ...server },
  );
}
