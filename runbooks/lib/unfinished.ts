// Rotations that haven't come to their end: whose they are, and whether anybody is still at work on them.
import { type TenantId, tenantStack } from "../../stacks/names.ts";
import { holderState } from "./holder.ts";
import { inParallel } from "./parallel.ts";
import { isBefore, isPending, type Rotation } from "./records.ts";
import { readRotation } from "./rotation-begin.ts";
import type { Vault } from "./vault.ts";

/** Tenants read at a time. */
const AT_ONCE = 16;

/** Milliseconds after which a holder elsewhere counts as silent here: more than four heartbeats, for clocks differ. */
const SILENT_MS = 90_000;

export interface Unfinished {
  readonly tenant: TenantId;
  readonly rotation: Rotation;
}

/** Rotations that wait for a password, a notice or the retiring of a key; those that a living run holds too. */
export async function unfinishedRotations(vault: Vault, tenants: readonly TenantId[]): Promise<Unfinished[]> {
  const found = await inParallel(tenants, AT_ONCE, async (tenant) => {
    const { stored } = await readRotation(vault, tenant);
    return stored !== undefined && isUnfinished(stored.data) ? [{ tenant, rotation: stored.data }] : [];
  });
  return found.flat();
}

export const isUnfinished = ({ state, kind }: Rotation): boolean =>
  isPending(state) || (kind !== "recovery" && isBefore(state, "RETIRED"));

/** A run of this machine has it in hand. */
export const isAtWork = ({ holder }: Rotation): boolean => holder !== null && holderState(holder) === "alive";

export const isSilent = ({ holder }: Rotation): boolean =>
  holder === null || holderState(holder) === "gone" || Date.now() - Date.parse(holder.heartbeat) > SILENT_MS;

/** What goes on with it: a rebuild by its stack, since only that knows the host. */
export const resumeCommand = ({ tenant, rotation }: Unfinished): string =>
  rotation.kind === "recovery"
    ? `pulumi up --stack ${tenantStack(tenant)}`
    : `npx runbook resume --tenant ${tenant}`;
