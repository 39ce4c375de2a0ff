// How far the restore of a backup is, kept in the restored Vault itself: in the metadata of its canary, which no backup
// touches. A Vault in which it hasn't ended is half restored, whatever else it looks like.
import { CANARY } from "../../stacks/names.ts";
import type { Vault } from "./vault.ts";

/** `restored`: the snapshot is in. `revoked`: whoever could log in before can't any more. `ended`: nothing is left to do. */
const STEPS = ["restored", "revoked", "ended"] as const;
export type Step = (typeof STEPS)[number];

export interface Progress {
  /** VersionId of the sealed snapshot that was restored. */
  readonly backup: string;
  readonly step: Step;
  /** The run that began it, by whose id its events and notices are known, and when that was (ISO 8601). */
  readonly run: string;
  readonly began: string;
}

export const hasEnded = (progress: Progress | undefined): boolean => progress?.step === "ended";

/** A backup that was made since carries it along, so it says of which backup it speaks. */
export function progressOf(metadata: Readonly<Record<string, string>> | undefined): Progress | undefined {
  const { restored_from: backup, restore_step, restore_run: run, restore_began: began } = metadata ?? {};
  const step = STEPS.find((one) => one === restore_step);
  return backup && step && run && began ? { backup, step, run, began } : undefined;
}

export async function noteProgress(vault: Vault, { backup, step, run, began }: Progress): Promise<void> {
  await vault.patchMetadata(CANARY, "admin", {
    restored_from: backup,
    restore_step: step,
    restore_run: run,
    restore_began: began,
  });
}
