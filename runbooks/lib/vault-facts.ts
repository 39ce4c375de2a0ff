// What a backup's manifest says of the Vault it came from: whoever restores needs it, and can't ask a lost one.
import { z } from "zod";
import { RunbookError } from "./errors.ts";
import type { Vault } from "./vault.ts";

const SealStatus = z.object({
  type: z.string(),
  t: z.number().int(),
  n: z.number().int(),
  version: z.string(),
  cluster_name: z.string().default(""),
  cluster_id: z.string().default(""),
  storage_type: z.string(),
});
const Leader = z.object({
  leader_address: z.string().default(""),
  raft_applied_index: z.number().int().default(0),
});
const Audits = z.object({
  data: z.record(z.string(), z.object({ options: z.record(z.string(), z.string()).nullish() })),
});

export interface VaultFacts {
  vault_version: string;
  cluster_name: string;
  cluster_id: string;
  seal_type: string;
  shares: number;
  threshold: number;
  audit_paths: string[];
}

/** @throws RunbookError (exit 4) for a Vault whose storage has no snapshots. */
export async function vaultFacts(vault: Vault): Promise<VaultFacts> {
  const status = await vault.read("sys/seal-status", SealStatus);
  if (status === undefined) throw new Error("Vault has no seal status");
  if (status.storage_type !== "raft") {
    throw new RunbookError(`Vault keeps its data in ${status.storage_type}, which has no snapshots`, {
      exit: "refused",
      next: "vault operator migrate   # to raft storage",
    });
  }
  const audits = (await vault.read("sys/audit", Audits))?.data ?? {};
  return {
    vault_version: status.version,
    cluster_name: status.cluster_name,
    cluster_id: status.cluster_id,
    seal_type: status.type,
    shares: status.n,
    threshold: status.t,
    audit_paths: Object.values(audits).flatMap(({ options }) => options?.file_path ?? options?.path ?? []),
  };
}

/** Who leads, and up to where its log is applied. A standby lags behind: the index is never too large. */
export async function leader(vault: Vault): Promise<{ address: string; index: number }> {
  const found = await vault.read("sys/leader", Leader);
  return { address: found?.leader_address ?? "", index: found?.raft_applied_index ?? 0 };
}
