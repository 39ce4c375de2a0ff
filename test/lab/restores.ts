// A lost Vault as tests see it: asked by plain HTTP, brought back by the runbook. Whoever restores it is locked out like
// everybody else, so the lab's people and automation get new logins before anything else is looked at.
import { readFileSync } from "node:fs";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect } from "vitest";
import { order } from "../../scripts/lab/control.ts";
import { renewLogins } from "../../scripts/lab/logins.ts";
import { openLab } from "../../scripts/lab/place.ts";
import { AUTOMATION, type Ended, run } from "./backup.ts";
import { begin, type Running } from "./killed.ts";
import { lab, runbook } from "./lab.ts";

const read = (name: string): string => readFileSync(join(lab.place.dir, name), "utf8").trim();

/** Enough of them, a line each. */
export const shares = (): string => read("unseal-keys").split("\n").slice(0, 2).join("\n");

/** What a token of the lab was when this process began; revoked by a restore. */
export const restorerToken = (): string => read("restorer-token");

export const turnVault = (how: "lost" | "restarted" | "stopped"): Promise<unknown> =>
  order(lab.place.dir, { order: "vault", how });

/** Runs `restore-vault` to its end, the shares on its standard input. */
export async function restore(
  args: string[] = [],
  { env = {}, input = shares() }: { env?: Record<string, string>; input?: string } = {},
): Promise<Ended> {
  const { code, stdout, stderr } = await runbook(["restore-vault", "--json", "--yes", ...args], {
    env: { VAULT_TOKEN: "", ...env },
    input: `${input}\n`,
  });
  return { code, stderr, result: stdout === "" ? {} : (JSON.parse(stdout) as Record<string, unknown>) };
}

/** Starts it, to be killed. */
export const beginRestore = (args: string[] = []): Running =>
  begin(["restore-vault", "--yes", ...args], { VAULT_TOKEN: "" }, [
    "sh",
    "-c",
    `exec "$@" < '${join(lab.place.dir, "unseal-keys")}'`,
    "sh",
  ]);

/** Vault's plain answer: its HTTP code and what it says. */
export async function ask(
  method: string,
  path: string,
  token = "",
  body?: unknown,
): Promise<{ status: number; body: Record<string, unknown> }> {
  const answer = await fetch(`${lab.place.vaultAddr}/v1/${path}`, {
    method,
    headers: token === "" ? {} : { "X-Vault-Token": token },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  return { status: answer.status, body: text === "" ? {} : (JSON.parse(text) as Record<string, unknown>) };
}

export const isNew = async (): Promise<boolean> =>
  (await ask("GET", "sys/seal-status")).body.initialized === false;

/** New logins for everybody, after which the lab is as it was. */
export async function logInAgain(): Promise<void> {
  await renewLogins(lab.place.dir);
  Object.assign(lab, await openLab(lab.place.dir));
  Object.assign(AUTOMATION, { VAULT_ROLE_ID: lab.backupRoleId, VAULT_SECRET_ID: lab.backupSecretId });
}

/** Opens the newest backup, which must succeed. */
export async function openNewest(): Promise<void> {
  const { code, stderr } = await run(["verify-backup"]);
  expect(code, stderr).toBe(0);
}

/** What becomes of an answer of the bucket's. */
export type Fate = "denied" | "cut" | undefined;

/** Runs `work` with a door before the bucket; `fate` is asked once per request, with `METHOD path`. */
export async function withBucketDoor<T>(
  fate: (call: string) => Fate,
  work: (env: Record<string, string>) => Promise<T>,
): Promise<T> {
  const server = createServer((incoming, outgoing) => {
    const becomes = fate(`${incoming.method} ${incoming.url}`);
    if (becomes === "denied") {
      outgoing.writeHead(403, { "content-type": "application/xml" });
      outgoing.end("<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>");
      return;
    }
    const { method = "GET", headers, url = "/" } = incoming;
    const onward = request(new URL(url, lab.place.awsEndpoint), { method, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      if (becomes !== "cut") return void answer.pipe(outgoing);
      answer.once("data", (chunk: Buffer) => {
        outgoing.write(chunk.subarray(0, chunk.length / 2));
        setTimeout(() => outgoing.destroy(), 50);
      });
    });
    onward.on("error", () => outgoing.destroy());
    incoming.pipe(onward);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    return await work({ AWS_ENDPOINT_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
  } finally {
    server.closeAllConnections();
    server.close();
  }
}
