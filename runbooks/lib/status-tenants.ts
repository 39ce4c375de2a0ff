// How each tenant stands: its credential's version and age, marks on it, whether it logs in, a rotation under way.
import { adminAddress, KV_MOUNT, mailHost, type TenantId } from "../../stacks/names.ts";
import { isMarked, readMetadata } from "./compromised.ts";
import { messageOf } from "./errors.ts";
import { imapLogin, type Login, smtpLogin, type Verdict } from "./mail-login.ts";
import { inParallel } from "./parallel.ts";
import { oneLine } from "./printable.ts";
import { Admin, Server, Tls } from "./records.ts";
import { loginAt } from "./server-record.ts";
import { tlsTrust } from "./tls-trust.ts";
import { open } from "./transit.ts";
import type { Vault } from "./vault.ts";

export interface TenantStatus {
  tenant: TenantId;
  /** The credential's version in Vault and when it was made, ISO 8601. */
  version: number;
  last_rotated: string;
  /** The incident by which this very version is known to strangers. */
  marked: string | null;
  /** `limited`: the server lets nobody in for now. `unknown`: it could not be asked; `said` has why. `untried`: nobody wanted to know. */
  login: Verdict["result"] | "unknown" | "untried";
  said: string | null;
}

/** Tenants looked at a time: each waits for its own server. */
const AT_ONCE = 64;

/** One that can't be read is told by itself, under `unread`. One that was offboarded is left out. */
export async function tenantStatuses(
  vault: Vault,
  tenants: readonly TenantId[],
  options: { logins: boolean; onDone: (done: number) => void },
): Promise<{ read: TenantStatus[]; unread: { tenant: TenantId; why: string }[] }> {
  const read: TenantStatus[] = [];
  const unread: { tenant: TenantId; why: string }[] = [];
  let done = 0;
  await inParallel(tenants, AT_ONCE, async (tenant) => {
    try {
      const status = await statusOf(vault, tenant, options.logins);
      if (status !== undefined) read.push(status);
    } catch (error) {
      unread.push({ tenant, why: messageOf(error) });
    }
    options.onDone(++done);
  });
  const byName = (a: { tenant: string }, b: { tenant: string }) => (a.tenant < b.tenant ? -1 : 1);
  return { read: read.sort(byName), unread: unread.sort(byName) };
}

async function statusOf(vault: Vault, tenant: TenantId, logins: boolean): Promise<TenantStatus | undefined> {
  const admin = await vault.record(tenant, "admin", Admin);
  // Of a tenant that is gone the rotation record stays, and with it the name.
  if (admin === undefined && !(await vault.list(`${KV_MOUNT}/metadata/${tenant}`)).includes("admin"))
    return undefined;
  if (admin === undefined) throw new Error(`the current version of ${KV_MOUNT}/${tenant}/admin was deleted`);
  const [{ custom_metadata }, login] = await Promise.all([
    readMetadata(vault, tenant),
    logins ? tryLogin(vault, tenant, admin.data) : ({ login: "untried", said: null } as const),
  ]);
  return {
    tenant,
    version: admin.version,
    last_rotated: admin.data.last_rotated,
    marked: isMarked(custom_metadata, admin.version) ? (custom_metadata.incident_id ?? "unknown") : null,
    ...login,
  };
}

/** Once over each protocol: five wrong answers an hour, and Mailu shuts the right one out too. */
async function tryLogin(
  vault: Vault,
  tenant: TenantId,
  admin: Admin,
): Promise<Pick<TenantStatus, "login" | "said">> {
  try {
    const [server, tls, password] = await Promise.all([
      vault.record(tenant, "server", Server),
      vault.record(tenant, "tls", Tls),
      open(vault, tenant, admin.password, `the password of ${tenant}`),
    ]);
    if (server === undefined) return { login: "unknown", said: "it never had a host" };
    const trust = tlsTrust(mailHost(server.data.domain), tls?.data.certificate);
    const login: Login = { ...loginAt(server.data), trust, password };
    const verdicts = await Promise.all([smtpLogin(login), imapLogin(login)]);
    const unproven = verdicts.flatMap((verdict) => (verdict.result === "accepted" ? [] : [verdict]));
    const result = (["refused", "limited", "inconclusive"] as const).find((one) =>
      unproven.some((verdict) => verdict.result === one),
    );
    if (result === undefined) return { login: "accepted", said: null };
    const who = adminAddress(server.data.domain);
    return { login: result, said: `${who}: ${unproven.map(({ said }) => oneLine(said)).join("; ")}` };
  } catch (error) {
    return { login: "unknown", said: messageOf(error) };
  }
}
