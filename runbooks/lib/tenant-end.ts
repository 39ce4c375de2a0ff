// The end of a tenant's account: it is disabled in Mailu, and what there was is written down for the tombstone. What
// can't be read or reached any more holds nothing up: the point is that it goes.
import { z } from "zod";
import {
  adminAddress,
  KV_MOUNT,
  mailHost,
  RECORDS,
  type RecordName,
  type TenantId,
} from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import { Mailu } from "./mailu.ts";
import { Ciphertext, Mailu as MailuRecord, type Rotation, Server, Tls } from "./records.ts";
import { SEALED } from "./retire.ts";
import { tlsTrust } from "./tls-trust.ts";
import type { Tombstone } from "./tombstone.ts";
import { open, type TransitKey } from "./transit.ts";
import { fingerprint, type Stored, type Vault } from "./vault.ts";

/** A tenant's records as far as they can be read. */
export interface LastRecords {
  readonly server: Server | undefined;
  readonly mailu: MailuRecord | undefined;
  readonly tls: Tls | undefined;
  readonly seen: Tombstone["records"];
}

/** Reads what is there; a damaged record counts with its version alone. */
export async function readLastRecords(vault: Vault, tenant: TenantId): Promise<LastRecords> {
  const all = await Promise.all(
    RECORDS.filter((name) => name !== "rotation").map(
      async (name) => [name, await vault.record(tenant, name, z.looseObject({}))] as const,
    ),
  );
  const of = (name: RecordName): unknown => all.find(([one]) => one === name)?.[1]?.data;
  const seen = all.flatMap(([name, stored]) => (stored === undefined ? [] : [[name, trace(name, stored)]]));
  return {
    server: Server.safeParse(of("server")).data,
    mailu: MailuRecord.safeParse(of("mailu")).data,
    tls: Tls.safeParse(of("tls")).data,
    seen: Object.fromEntries(seen),
  };
}

/**
 * Disables the administrator in Mailu and sees that it is. Returns in words what became of it; a host that is gone
 * is no failure. Throws failed (1) when Mailu answers and doesn't do it: then somebody could still use the account.
 */
export async function disableAdministrator(
  vault: Vault,
  tenant: TenantId,
  { server, mailu: record, tls }: LastRecords,
): Promise<string> {
  if (server === undefined) return "there was no host, as far as Vault knows";
  const token = await apiToken(vault, tenant, record);
  if (token instanceof RunbookError) return `not disabled in Mailu: ${token.message}`;
  const email = adminAddress(server.domain);
  const mailu = new Mailu(server.api_url, token, tlsTrust(mailHost(server.domain), tls?.certificate));
  try {
    const changed = await mailu.ask("PATCH", `/user/${email}`, { enabled: false }, [200, 404]);
    if (changed.status === 404) return `${email} was not there`;
    // Mailu answers 200 to what it doesn't do.
    const user = Enabled.safeParse((await mailu.ask("GET", `/user/${email}`, undefined, [200])).body);
    if (user.data?.enabled === false) return `${email} is disabled`;
  } catch (error) {
    // Only what never got an answer has a cause.
    if (error instanceof RunbookError && error.cause !== undefined) return `not disabled: ${error.message}`;
    throw error;
  } finally {
    mailu.close();
  }
  throw new RunbookError(`Mailu on ${server.vps_ip} took the change, and ${email} is still enabled`, {
    exit: "failed",
    next: "disable the account in Mailu's own administration, then run this again",
  });
}

/** The tombstone as it is first written; `account` says what became of the account. */
export function tombstoneOf(
  tenant: TenantId,
  there: {
    records: LastRecords;
    key: TransitKey | undefined;
    rotation: Stored<Rotation> | undefined;
    onboardedAt: string | null;
    ownHost: boolean;
    account: string;
  },
  by: { user: string; reason: string; run: string },
): Tombstone {
  const { server, seen } = there.records;
  const newest = there.key?.latest_version;
  const made = newest === undefined ? undefined : there.key?.keys[newest];
  return {
    tenant_id: tenant,
    domain: server?.domain ?? null,
    offboarded_at: new Date().toISOString(),
    offboarded_by: by.user,
    reason: by.reason,
    run_id: by.run,
    onboarded_at: there.onboardedAt,
    vps_ip: server?.vps_ip ?? null,
    own_host: there.ownHost,
    account: there.account,
    records: seen,
    key: newest === undefined || made === undefined ? null : { version: newest, made },
    incidents: there.rotation?.data.history ?? [],
  };
}

const Enabled = z.object({ enabled: z.boolean() });

function trace(name: RecordName, stored: Stored<Record<string, unknown>>): Tombstone["records"][string] {
  const field = SEALED.find(({ record }) => record === name)?.field;
  const ciphertext = field === undefined ? undefined : Ciphertext.safeParse(stored.data[field]).data;
  return {
    version: stored.version,
    ciphertext_sha256: ciphertext === undefined ? null : fingerprint(ciphertext),
  };
}

async function apiToken(
  vault: Vault,
  tenant: TenantId,
  record: MailuRecord | undefined,
): Promise<string | RunbookError> {
  const what = `${KV_MOUNT}/${tenant}/mailu api_token`;
  if (record === undefined) return new RunbookError(`${what} is not there`, { exit: "failed" });
  return open(vault, tenant, record.api_token, what).catch((error: unknown) => {
    if (error instanceof RunbookError && error.exitCode === 1) return error;
    throw error;
  });
}
