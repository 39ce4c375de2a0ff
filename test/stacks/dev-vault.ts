// A throwaway Vault for tests of policies: in memory, on a free port, gone with the test.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../scripts/free-port.ts";
import { toolchainBin } from "../../scripts/toolchain/paths.ts";

export interface Answer {
  status: number;
  body: { data?: Record<string, unknown>; auth?: { client_token: string }; errors?: string[] };
}

export interface DevVault extends AsyncDisposable {
  address: string;
  rootToken: string;
  /** One HTTP call: `path` without /v1/. PATCH is sent as a merge patch. */
  call(token: string, method: string, path: string, body?: unknown): Promise<Answer>;
  /** A token with `policies` alone, not even `default`. */
  tokenWith(...policies: string[]): Promise<string>;
}

/** Starts a Vault in development mode. Throws if it isn't ready within 20 s. */
export async function startDevVault(): Promise<DevVault> {
  const address = `127.0.0.1:${await freePort()}`;
  const rootToken = "root-of-a-test";
  const child = spawn(
    join(toolchainBin(), "vault"),
    [
      "server",
      "-dev",
      "-dev-no-store-token",
      `-dev-root-token-id=${rootToken}`,
      `-dev-listen-address=${address}`,
    ],
    { stdio: "ignore" },
  );
  const ended = new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", () => resolve());
  });
  const call: DevVault["call"] = async (token, method, path, body) => {
    const response = await fetch(`http://${address}/v1/${path}`, {
      method,
      headers: {
        "X-Vault-Token": token,
        "Content-Type": method === "PATCH" ? "application/merge-patch+json" : "application/json",
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, body: text === "" ? {} : JSON.parse(text) };
  };
  await ready(`http://${address}/v1/sys/health`, ended);
  return {
    address: `http://${address}`,
    rootToken,
    call,
    async tokenWith(...policies) {
      const made = await call(rootToken, "POST", "auth/token/create", { policies, no_default_policy: true });
      if (made.body.auth === undefined) throw new Error(`no token: ${JSON.stringify(made.body)}`);
      return made.body.auth.client_token;
    },
    async [Symbol.asyncDispose]() {
      child.kill();
      await ended;
    },
  };
}

async function ready(health: string, ended: Promise<void>): Promise<void> {
  let over = false;
  ended.then(
    () => {
      over = true;
    },
    () => {},
  );
  for (let attempt = 0; attempt < 200; attempt++) {
    if (over) throw new Error("the test's Vault ended at once");
    const answer = await Promise.race([fetch(health).catch(() => undefined), ended]);
    if (answer?.status === 200) return;
    await sleep(100);
  }
  throw new Error("the test's Vault wasn't ready within 20 s");
}
