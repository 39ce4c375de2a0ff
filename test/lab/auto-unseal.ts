// The lab's Vault as one that opens itself: by `seal "transit"`, with keys that lie in a second real Vault, which is its
// KMS here. It has the lab's address and its data folder.
import type { ChildProcess } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, vi } from "vitest";
import { endService, startService } from "../../scripts/lab/children.ts";
import { destroyVaultData, vaultCall } from "../../scripts/lab/vault.ts";
import { lab } from "./lab.ts";
import { ask } from "./restores.ts";

/** Keys of the KMS: of the Vault that is backed up, and another one. */
const KEYS = ["unseal", "another"] as const;

const { hostname } = new URL(lab.place.vaultAddr);
const KMS = { addr: `http://${hostname}:8210`, token: "a-token-of-the-kms" };

const start = (args: string[], env: Record<string, string> = {}): ChildProcess =>
  startService(join(lab.place.toolchain, "vault"), ["server", ...args], {
    env: { PATH: process.env.PATH, HOME: lab.place.dir, ...env },
    lab: lab.place.dir,
    log: join(lab.place.dir, "logs", "auto-unseal.log"),
  });

/** Its data is in memory, so that it is there again only as long as the process is. */
export async function startKms(): Promise<ChildProcess> {
  const kms = start(["-dev", "-dev-no-store-token", `-dev-listen-address=${hostname}:8210`], {
    VAULT_DEV_ROOT_TOKEN_ID: KMS.token,
  });
  const call = (method: string, path: string, body?: unknown) =>
    vaultCall(KMS.addr, KMS.token, method, path, body);
  await vi.waitFor(() => call("GET", "sys/health"), 20_000);
  await call("POST", "sys/mounts/transit", { type: "transit" });
  for (const key of KEYS) await call("POST", `transit/keys/${key}`);
  return kms;
}

/** @param states what its health page is to answer: 501 of an empty one, 503 of a sealed one, 200. */
export async function startSealedBy(key: (typeof KEYS)[number], state: number): Promise<ChildProcess> {
  const file = join(lab.place.dir, "vault", "auto-unseal.hcl");
  const seal = {
    address: KMS.addr,
    token: KMS.token,
    disable_renewal: "true",
    key_name: key,
    mount_path: "transit/",
  };
  const lines = Object.entries(seal).map(([name, value]) => `  ${name} = "${value}"`);
  const own = readFileSync(join(lab.place.dir, "vault", "vault.hcl"), "utf8");
  writeFileSync(file, `${own}seal "transit" {\n${lines.join("\n")}\n}\n`, { mode: 0o600 });
  const child = start([`-config=${file}`]);
  await health(state);
  return child;
}

/** An empty one in its place. */
export async function loseTo(key: (typeof KEYS)[number], lost: ChildProcess): Promise<ChildProcess> {
  await endService(lost, 0);
  await destroyVaultData(lab.place.dir);
  mkdirSync(join(lab.place.dir, "vault", "data"));
  return startSealedBy(key, 501);
}

export const health = (state: number): Promise<void> =>
  vi.waitFor(
    async () => {
      const { status } = await ask("GET", "sys/health").catch(() => ({ status: 0 }));
      expect(status).toBe(state);
    },
    { timeout: 30_000, interval: 100 },
  );
