// Rotations that are not over, and whether somebody works on them.
import { holderState } from "./holder.ts";
import { isBefore, isPending, type Rotation } from "./records.ts";

/** It waits for a password, a notice or the retiring of a key; one that a living run holds does so too. */
export const isUnfinished = ({ state, kind }: Rotation): boolean =>
  isPending(state) || (kind !== "recovery" && isBefore(state, "RETIRED"));

/** A run of this machine has it in hand. */
export const isAtWork = ({ holder }: Rotation): boolean => holder !== null && holderState(holder) === "alive";

/** Milliseconds after which a holder elsewhere counts as silent here: more than four heartbeats, for clocks differ. */
const SILENT_MS = 90_000;

export const isSilent = ({ holder }: Rotation): boolean =>
  holder === null || holderState(holder) === "gone" || Date.now() - Date.parse(holder.heartbeat) > SILENT_MS;
