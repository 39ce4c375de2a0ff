// What happened since a backup, from what outlives Vault: the audit log, the stacks, the tombstones. A restored Vault
// knows nothing of it, and would bring back whom it sent away and forget whom it took in.
import { z } from "zod";
import { KV_MOUNT, type TenantId, tenantIdProblem, tenantOfStack, tenantStack } from "../../stacks/names.ts";
import { openAudit } from "./audit.ts";
import type { AuditEvent } from "./audit-chain.ts";
import { mergeEvents, readChains } from "./audit-reader.ts";
import { messageOf, RunbookError } from "./errors.ts";
import { lifeOf } from "./offboarding.ts";
import { inParallel } from "./parallel.ts";
import { stackNames, stackOutputs } from "./pulumi.ts";
import type { Settings } from "./settings.ts";
import { type Tombstone, Tombstones } from "./tombstone.ts";
import type { Vault } from "./vault.ts";

export interface History {
  /** By the tenant that they are about, the oldest first. */
  readonly events: ReadonlyMap<string, readonly AuditEvent[]>;
  /** Tenants that have a stack. */
  readonly stacks: readonly TenantId[];
}

/** A tenant as Vault has it, and as the rest of the world does. */
export interface Past {
  readonly tenant: TenantId;
  readonly events: readonly AuditEvent[];
  readonly hasStack: boolean;
  /** Records in Vault. */
  readonly records: readonly string[];
  /** Of the tenant that Vault has, or of the last one of this id. */
  readonly tombstone: Tombstone | undefined;
}

/** Clocks differ: what stands in the log a little before the backup may have happened after it. */
const SKEW_MS = 5 * 60_000;

/** @throws RunbookError (exit 1 or 3) when the log or the stacks can't be read: nothing must be restored blindly. */
export async function readHistory(settings: Settings, env: NodeJS.ProcessEnv, since: Date): Promise<History> {
  const [all, names] = await Promise.all([readEvents(settings, env), stackNames(settings)]);
  const events = new Map<string, AuditEvent[]>();
  for (const event of all) {
    if (event.tenant_id === undefined || Date.parse(event.timestamp) < since.getTime() - SKEW_MS) continue;
    events.set(event.tenant_id, [...(events.get(event.tenant_id) ?? []), event]);
  }
  return { events, stacks: names.flatMap((name) => tenantOfStack(name) ?? []) };
}

/** Every tenant that Vault, a stack or the log since the backup knows of. */
export async function findTenants(
  vault: Vault,
  settings: Settings,
  env: NodeJS.ProcessEnv,
  { events, stacks }: History,
): Promise<Past[]> {
  const tombstones = new Tombstones(settings.audit, env);
  const named = [...events.keys()].filter((id): id is TenantId => tenantIdProblem(id) === undefined);
  const all = [...new Set([...(await vault.tenants()), ...stacks, ...named])].sort();
  return inParallel(all, 16, async (tenant) => {
    const [records, life] = await Promise.all([
      vault.list(`${KV_MOUNT}/metadata/${tenant}`),
      lifeOf(vault, tombstones, tenant),
    ]);
    return {
      tenant,
      records,
      events: events.get(tenant) ?? [],
      hasStack: stacks.includes(tenant),
      tombstone: life.dead ? life.tombstone : undefined,
    };
  });
}

const Outputs = z.object({
  address: z.ipv4(),
  hostKey: z.string().min(1),
  domain: z.string().min(1),
  contactEmail: z.email().optional(),
});
export type HostOutputs = z.infer<typeof Outputs>;

/** Where the stack says that the tenant's host is; undefined where it has none. */
export async function hostOf(settings: Settings, tenant: TenantId): Promise<HostOutputs | undefined> {
  return Outputs.safeParse(await stackOutputs(settings, tenantStack(tenant))).data;
}

async function readEvents(settings: Settings, env: NodeJS.ProcessEnv): Promise<AuditEvent[]> {
  const { store, copies } = openAudit(settings.audit, env);
  try {
    return mergeEvents(await readChains(store, copies));
  } catch (cause) {
    const denied = /AccessDenied|Forbidden|not authorized/i.test(
      `${(cause as Error).name} ${messageOf(cause)}`,
    );
    throw new RunbookError(
      `The audit log can't be read, which knows what happened since: ${messageOf(cause)}`,
      {
        exit: denied ? "permission" : "failed",
        next: "see that AWS_* are those of the role `restorer` and that audit.bucket in recovery.yaml is right; then run this again",
        cause,
      },
    );
  }
}
