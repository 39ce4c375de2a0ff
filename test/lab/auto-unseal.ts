// The lab's Vault as one that opens itself: by `seal "transit"`, with keys that lie in a second real Vault, which is its
// KMS here. It has the lab's address and its data folder.
import { type ChildProcess, execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, vi } from "vitest";
import { endService, startService } from "../../scripts/lab/children.ts";
import { destroyVaultData, vaultCall } from "../../scripts/lab/vault.ts";
import { lab } from "./lab.ts";
import { ask, logInAgain, shares, turnVault } from "./restores.ts";

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

const data = join(lab.place.dir, "vault", "data");
const shell = (command: string) => execFileSync("sh", ["-ec", command]);

/** Moves the lab's Vault to such a seal; what it has is kept for `moveBack`. */
export async function moveToKms(): Promise<{ kms: ChildProcess; own: ChildProcess }> {
  await turnVault("stopped");
  shell(`cp -a '${data}' '${data}.kept'`);
  const kms = await startKms();
  const own = await startSealedBy("unseal", 503);
  // Its key shares become its recovery keys.
  for (const key of shares().split("\n")) await ask("PUT", "sys/unseal", "", { key, migrate: true });
  await health(200);
  return { kms, own };
}

export async function moveBack({ kms, own }: { kms: ChildProcess; own: ChildProcess }): Promise<void> {
  await endService(own, 0);
  await endService(kms, 0);
  shell(`rm -rf '${data}'; mv '${data}.kept' '${data}'`);
  await turnVault("restarted");
  for (const key of shares().split("\n")) await ask("PUT", "sys/unseal", "", { key });
  await health(200);
  await logInAgain();
}

/** Another Vault on a machine of its own, which reaches the KMS; its data folder, and where it answers. */
export const OTHER = { dir: join(lab.place.dir, "other-vault"), addr: `http://${hostname}:8220` };

/** An empty one there. @param by the seal: a key of the KMS, or key shares. */
export async function startOther(by: (typeof KEYS)[number] | "shares"): Promise<ChildProcess> {
  rmSync(OTHER.dir, { recursive: true, force: true });
  mkdirSync(join(OTHER.dir, "data"), { recursive: true });
  const config = readFileSync(join(lab.place.dir, "vault", "vault.hcl"), "utf8")
    .replace(data, join(OTHER.dir, "data"))
    .replaceAll(":8200", ":8220")
    .replaceAll(":8201", ":8221");
  const file = join(OTHER.dir, "vault.hcl");
  writeFileSync(file, `${config}${by === "shares" ? "" : sealBy(by)}`, { mode: 0o600 });
  const child = start([`-config=${file}`]);
  await vi.waitFor(async () => expect((await fetch(`${OTHER.addr}/v1/sys/health`)).status).toBe(501), 20_000);
  return child;
}

/** @param states what its health page is to answer: 501 of an empty one, 503 of a sealed one, 200. */
export async function startSealedBy(key: (typeof KEYS)[number], state: number): Promise<ChildProcess> {
  const file = join(lab.place.dir, "vault", "auto-unseal.hcl");
  const own = readFileSync(join(lab.place.dir, "vault", "vault.hcl"), "utf8");
  writeFileSync(file, `${own}${sealBy(key)}`, { mode: 0o600 });
  const child = start([`-config=${file}`]);
  await health(state);
  return child;
}

function sealBy(key: (typeof KEYS)[number]): string {
  const seal = {
    address: KMS.addr,
    token: KMS.token,
    disable_renewal: "true",
    key_name: key,
    mount_path: "transit/",
  };
  const lines = Object.entries(seal).map(([name, value]) => `  ${name} = "${value}"`);
  return `seal "transit" {\n${lines.join("\n")}\n}\n`;
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
