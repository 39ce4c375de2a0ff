// When a pending rotation may be taken from its holder: at once if the holder's process is gone from this machine,
// after a minute of silence if it was elsewhere, never while it lives.
import { setTimeout as sleep } from "node:timers/promises";
import type { TenantId } from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import { holderState } from "./holder.ts";
import { type Holder, Rotation } from "./records.ts";
import type { Stored, Vault } from "./vault.ts";

/** Milliseconds for which a holder elsewhere must have been silent: four of its heartbeats. */
export const SILENCE_MS = 60_000;

/**
 * What to do about a holder that can't be seen from here: `watch` it for a minute, `leave` it (whoever has other
 * tenants to go on with watches by itself), take over `now` (the operator knows that it is dead), or take over if the
 * record is still the `version` that was watched.
 */
export type TakeOver = "watch" | "leave" | "now" | { readonly version: number };

/** Somebody else is at work on the tenant's rotation, or may be. */
export class Held extends RunbookError {
  /** Version of the rotation record that was seen. */
  readonly version: number;
  /** False when the holder's process was seen to live on this machine. */
  readonly elsewhere: boolean;

  constructor(tenant: TenantId, holder: Holder, version: number, elsewhere: boolean) {
    const machine = holder.machine.split(" ")[0];
    super(
      `The rotation of ${tenant} is held by ${holder.user} on ${machine} (run ${holder.run}) since ${holder.since}`,
      {
        exit: "refused",
        next: "wait for it to end, then run this again; if you know that it is dead: the same command with --take-over",
      },
    );
    this.version = version;
    this.elsewhere = elsewhere;
  }
}

/** Returns once the rotation may be taken over; throws Held (refused, 4) while its holder is, or may be, at work. */
export async function requireAbandoned(
  vault: Vault,
  tenant: TenantId,
  rotation: Stored<Rotation>,
  takeOver: TakeOver,
): Promise<void> {
  const holder = rotation.data.holder;
  if (holder === null || takeOver === "now") return;
  const state = holderState(holder);
  if (state === "gone") return;
  if (state === "elsewhere") {
    if (typeof takeOver === "object" && takeOver.version === rotation.version) return;
    if (takeOver === "watch" && (await staysSilent(vault, tenant, rotation.version))) return;
  }
  throw new Held(tenant, holder, rotation.version, state === "elsewhere");
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
