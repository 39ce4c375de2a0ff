// What the console knows of a tenant: the very words of `runbook status`, read with the person's own token, with where
// the host is and whether a rotation is under way.
import type { TenantId } from "../../../stacks/names.ts";
import { messageOf } from "../../lib/errors.ts";
import { Server } from "../../lib/records.ts";
import { type TenantStatus, tenantStatuses } from "../../lib/status-tenants.ts";
import { type Unfinished, unfinishedRotations } from "../../lib/unfinished.ts";
import type { Vault } from "../../lib/vault.ts";
import { Rolling } from "./rolling.ts";

export interface Look {
  readonly tenant: TenantId;
  /** Undefined for a tenant that is gone, or can't be read. */
  readonly status?: TenantStatus;
  readonly host?: Pick<Server, "vps_ip" | "domain" | "contact_email">;
  readonly unfinished?: Unfinished;
  /** Why not all of it is known. */
  readonly problem?: string;
  /** When the password was last tried, by `performance.now()`. */
  readonly tried?: number;
}

/**
 * Milliseconds until a password is tried again. One that was refused rests longer: five wrong answers an hour, and Mailu
 * shuts out the right one too.
 */
const TRY_AGAIN_MS = 5 * 60_000;
const REFUSED_REST_MS = 30 * 60_000;

/** What these reads cost: status, the rotation's record; the login's records, and the host's. */
const [STATUS, ROTATION, LOGIN, HOST] = [2, 2, 3, 1];

/** One for each person: what Vault shows to one isn't for another. The first look leaves the login out, to be quick. */
export const looks = (vault: Vault): Rolling<TenantId, Look> =>
  new Rolling<TenantId, Look>({
    read: (tenant, before) => {
      const login = before !== undefined && isDue(before);
      return lookAt(vault, tenant, before, { login, host: login || before?.host === undefined });
    },
    whole: ({ status }) => status?.login !== "untried",
  });

/**
 * Reads a tenant as Vault has it now; tries its login, which takes seconds, or keeps what was found out before; reads
 * where its host is, or takes that from before, too. Doesn't throw: what can't be read is said in `problem`.
 */
export async function lookAt(
  vault: Vault,
  tenant: TenantId,
  before: Look | undefined,
  { login, host: withHost }: { login: boolean; host: boolean },
): Promise<{ value: Look; reads: number }> {
  const reads = STATUS + ROTATION + (login ? LOGIN : 0) + (withHost ? HOST : 0);
  try {
    const [{ read, unread }, [unfinished], server] = await Promise.all([
      tenantStatuses(vault, [tenant], { logins: login, onDone: () => {} }),
      unfinishedRotations(vault, [tenant]),
      // One that is damaged hides nothing else.
      withHost
        ? vault.record(tenant, "server", Server).catch((error: unknown) => messageOf(error))
        : undefined,
    ]);
    const [status] = read;
    const found = typeof server === "string" ? undefined : server?.data;
    const host = withHost ? found : before?.host;
    const problem = unread[0]?.why ?? (typeof server === "string" ? server : undefined);
    const value: Look = {
      tenant,
      ...(status === undefined ? {} : { status: login ? status : keepLogin(status, before) }),
      ...(host === undefined ? {} : { host }),
      ...(unfinished === undefined ? {} : { unfinished }),
      ...(problem === undefined ? {} : { problem }),
      ...triedAt(login ? performance.now() : before?.tried),
    };
    return { value, reads };
  } catch (error) {
    return { value: { tenant, problem: messageOf(error), ...triedAt(before?.tried) }, reads };
  }
}

const triedAt = (tried: number | undefined): { tried?: number } => (tried === undefined ? {} : { tried });

function isDue({ status, tried }: Look): boolean {
  if (tried === undefined || status === undefined || status.login === "untried") return true;
  const rest = ["refused", "limited"].includes(status.login) ? REFUSED_REST_MS : TRY_AGAIN_MS;
  return performance.now() - tried > rest;
}

/** What the last try said, unless the password is another one since. */
function keepLogin(status: TenantStatus, before: Look | undefined): TenantStatus {
  const last = before?.status;
  if (last === undefined || last.version !== status.version) return status;
  return { ...status, login: last.login, said: last.said };
}
