// When a pending rotation may be taken from its holder: at once if the holder's process is gone from this machine,
// after a minute of silence if it was elsewhere, never while it lives.
import { setTimeout as sleep } from "node:timers/promises";
import type { TenantId } from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import { holderState } from "./holder.ts";
import { Rotation } from "./records.ts";
import type { Stored, Vault } from "./vault.ts";

/** Milliseconds for which a holder elsewhere must have been silent: four of its heartbeats. */
const SILENCE_MS = 60_000;

/** Returns once the pending rotation may be taken over; throws refused (4) while its holder is at work. */
export async function requireAbandoned(
  vault: Vault,
  tenant: TenantId,
  pending: Stored<Rotation>,
  takeOver: boolean,
): Promise<void> {
  const holder = pending.data.holder;
  if (holder === null || takeOver) return;
  const state = holderState(holder);
  if (state === "gone") return;
  if (state === "elsewhere" && (await staysSilent(vault, tenant, pending.version))) return;
  throw new RunbookError(
    `The rotation of ${tenant} is held by ${holder.user} on ${holder.machine.split(" ")[0]} (run ${holder.run}) since ${holder.since}`,
    {
      exit: "refused",
      next: "wait for it to end, then run this again; if you know that it is dead: the same command with --take-over",
    },
  );
}

/** Watches the record for a minute by this process's own clock, since the other machine's may be wrong. */
async function staysSilent(vault: Vault, tenant: TenantId, version: number): Promise<boolean> {
  const until = performance.now() + SILENCE_MS;
  while (performance.now() < until) {
    await sleep(2_000);
    if ((await vault.record(tenant, "rotation", Rotation))?.version !== version) return false;
  }
  return true;
}
