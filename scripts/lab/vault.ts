// The lab's Vault: the real server on raft storage, three key shares of which two open it. What the platform stack
// declares (mounts, policies, audit devices) isn't set up here, so that the stack is what makes it.

import type { ChildProcess } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { startService } from "./children.ts";

const SHARES = 3;
const THRESHOLD = 2;
const PORT = 8200;

/** Where Vault answers, on a lab whose services are at `address`. */
export const vaultAddr = (address: string): string => `http://${address}:${PORT}`;

export interface LabVault {
  addr: string;
  rootToken: string;
  process: ChildProcess;
}

export interface VaultOptions {
  dir: string;
  address: string;
  /** The vault executable. */
  program: string;
  env: NodeJS.ProcessEnv;
  signal: AbortSignal | undefined;
}

/** Starts, initialises and unseals a Vault; writes `unseal-keys` (a share a line) and `root-token` into `dir`. */
export async function startVault(options: VaultOptions): Promise<LabVault> {
  const { dir } = options;
  const addr = vaultAddr(options.address);
  const child = await runVault(options, [501]);
  const made = Initialised.parse(
    await vaultCall(addr, undefined, "PUT", "sys/init", {
      secret_shares: SHARES,
      secret_threshold: THRESHOLD,
    }),
  );
  await writeFile(join(dir, "unseal-keys"), `${made.keys_base64.join("\n")}\n`, { mode: 0o600 });
  await writeFile(join(dir, "root-token"), `${made.root_token}\n`, { mode: 0o600 });
  for (const key of made.keys_base64.slice(0, THRESHOLD)) {
    await vaultCall(addr, undefined, "PUT", "sys/unseal", { key });
  }
  await answering(addr, child, [200], options.signal);
  return { addr, rootToken: made.root_token, process: child };
}

/** Starts the server on whatever data is there. @param states what its health page is to answer before this resolves. */
export async function runVault(options: VaultOptions, states: number[]): Promise<ChildProcess> {
  const { dir, address } = options;
  await mkdir(join(dir, "vault", "data"), { recursive: true });
  await writeFile(join(dir, "vault", "vault.hcl"), configuration(dir, address));
  const child = startService(options.program, ["server", `-config=${join(dir, "vault", "vault.hcl")}`], {
    env: options.env,
    lab: dir,
    log: join(dir, "logs", "vault.log"),
    cwd: dir,
  });
  await answering(vaultAddr(address), child, states, options.signal);
  return child;
}

/** Destroys everything that the Vault of `dir` kept, once its process is gone. */
export const destroyVaultData = (dir: string): Promise<void> =>
  rm(join(dir, "vault", "data"), { recursive: true, force: true });

/** A new root token, by the key shares in `dir`: of a restored Vault the old one is revoked. Writes `root-token`. */
export async function newRootToken(dir: string, addr: string): Promise<string> {
  const shares = (await readFile(join(dir, "unseal-keys"), "utf8")).trim().split("\n").slice(0, THRESHOLD);
  await vaultCall(addr, undefined, "DELETE", "sys/generate-root/attempt");
  const { nonce, otp } = Attempt.parse(
    await vaultCall(addr, undefined, "PUT", "sys/generate-root/attempt", {}),
  );
  let encoded = "";
  for (const key of shares) {
    const answer = await vaultCall(addr, undefined, "PUT", "sys/generate-root/update", { key, nonce });
    encoded = Attempted.parse(answer).encoded_token;
  }
  const pad = Buffer.from(otp);
  const token = Buffer.from(
    Buffer.from(encoded, "base64").map((byte, at) => byte ^ (pad[at] ?? 0)),
  ).toString();
  await writeFile(join(dir, "root-token"), `${token}\n`, { mode: 0o600 });
  return token;
}

/** A person as an operator has one: a token with an entity and just these policies. Resolves to the token. */
export async function personToken(
  vault: { addr: string; rootToken: string },
  name: string,
  policies: string[],
): Promise<string> {
  const call = (method: string, path: string, body?: unknown): Promise<unknown> =>
    vaultCall(vault.addr, vault.rootToken, method, path, body);
  const mounts = Mounts.parse(await call("GET", "sys/auth"));
  // By name, since a restored Vault knows the person already.
  await call("POST", `identity/entity/name/${name}`, {});
  const entity = Entity.parse(await call("GET", `identity/entity/name/${name}`));
  await call("POST", "identity/entity-alias", {
    name,
    canonical_id: entity.data.id,
    mount_accessor: mounts.data["token/"].accessor,
  });
  await call("POST", `auth/token/roles/lab-${name}`, {
    allowed_policies: policies,
    allowed_entity_aliases: [name],
    orphan: true,
  });
  const token = Token.parse(
    await call("POST", `auth/token/create/lab-${name}`, { policies, entity_alias: name, display_name: name }),
  );
  return token.auth.client_token;
}

/** What a program of automation logs in with, once the platform stack has made its AppRole. */
export async function appRole(
  vault: { addr: string; rootToken: string },
  name: string,
): Promise<{ roleId: string; secretId: string }> {
  const call = (method: string, path: string): Promise<unknown> =>
    vaultCall(vault.addr, vault.rootToken, method, `auth/approle/role/${name}/${path}`);
  const [role, secret] = await Promise.all([call("GET", "role-id"), call("POST", "secret-id")]);
  return { roleId: RoleId.parse(role).data.role_id, secretId: SecretId.parse(secret).data.secret_id };
}

/** One raw request to Vault's HTTP API; `path` without `/v1/`. Throws with Vault's own words on an error. */
export async function vaultCall(
  addr: string,
  token: string | undefined,
  method: string,
  path: string,
  body?: unknown,
): Promise<unknown> {
  const answer = await fetch(`${addr}/v1/${path}`, {
    method,
    headers: token === undefined ? {} : { "X-Vault-Token": token },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`Vault answers ${answer.status} to ${method} ${path}: ${text.trim()}`);
  return text === "" ? undefined : JSON.parse(text);
}

const Initialised = z.object({ keys_base64: z.array(z.string()), root_token: z.string() });
const Attempt = z.object({ nonce: z.string(), otp: z.string() });
const Attempted = z.object({ encoded_token: z.string() });
const Mounts = z.object({ data: z.object({ "token/": z.object({ accessor: z.string() }) }) });
const Entity = z.object({ data: z.object({ id: z.string() }) });
const RoleId = z.object({ data: z.object({ role_id: z.string() }) });
const SecretId = z.object({ data: z.object({ secret_id: z.string() }) });
const Token = z.object({ auth: z.object({ client_token: z.string() }) });

const configuration = (dir: string, address: string): string => `
storage "raft" {
  path = "${join(dir, "vault", "data")}"
  node_id = "lab"
  # Elections are tuned for distant nodes by default; this one is alone.
  performance_multiplier = 1
}
listener "tcp" {
  address = "${address}:${PORT}"
  tls_disable = true
}
api_addr = "http://${address}:${PORT}"
cluster_addr = "http://${address}:${PORT + 1}"
cluster_name = "lab"
disable_mlock = true
log_level = "warn"
`;

/** Waits until the health page answers one of `states`. */
async function answering(
  addr: string,
  child: ChildProcess,
  states: number[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const end = performance.now() + 30_000;
  while (performance.now() < end) {
    signal?.throwIfAborted();
    if (child.exitCode !== null) throw new Error(`Vault ended with ${child.exitCode}: see logs/vault.log`);
    const status = await fetch(`${addr}/v1/sys/health`).then(
      (answer) => answer.status,
      () => 0,
    );
    if (states.includes(status)) return;
    await sleep(30);
  }
  throw new Error(`Vault isn't ready after 30 s at ${addr}: see logs/vault.log`);
}
