// A real Vault that holds as much as a snapshot is to have. What it holds is noise, as everything in a snapshot is:
// encrypted.
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { inParallel } from "../../runbooks/lib/parallel.ts";
import { endService } from "../lab/children.ts";
import { claimSubnet } from "../lab/subnet.ts";
import { startVault, vaultCall } from "../lab/vault.ts";
import { toolchainBin } from "../toolchain/paths.ts";

export interface FullVault {
  /** The variables with which `backup-way.ts` finds it. */
  env: Record<"VAULT_ADDR" | "VAULT_TOKEN" | "VAULT_LATER", string>;
  stop(): Promise<void>;
}

const MOUNT = "noise";
/** Of one secret; base64 and JSON make 720 kB of it, and raft takes a megabyte. */
const SECRET_BYTES = 540_000;
const STORED_BYTES = 720_000;

/** Starts it, with its data in `folder`, and fills it until a snapshot has about `mib` MiB. */
export async function startFullVault(folder: string, mib: number): Promise<FullVault> {
  const subnet = await claimSubnet();
  const dir = join(folder, "vault");
  mkdirSync(join(dir, "logs"), { recursive: true });
  const env = { PATH: process.env.PATH };
  const program = join(toolchainBin(), "vault");
  const address = subnet.services;
  const vault = await startVault({ dir, address, program, env, signal: undefined });
  const put = (path: string, body: unknown) => vaultCall(vault.addr, vault.rootToken, "POST", path, body);
  await put(`sys/mounts/${MOUNT}`, { type: "kv" });
  const secrets = Array.from({ length: Math.ceil((mib * 1_048_576) / STORED_BYTES) }, (_, n) => n);
  await inParallel(secrets, 2, async (n) => {
    await put(`${MOUNT}/${n}`, { noise: randomBytes(SECRET_BYTES).toString("base64") });
  });
  return {
    env: { VAULT_ADDR: vault.addr, VAULT_TOKEN: vault.rootToken, VAULT_LATER: `${MOUNT}/later` },
    async stop() {
      await endService(vault.process);
      await subnet.release();
    },
  };
}
