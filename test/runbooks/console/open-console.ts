// A console in this process, on a Vault of its own, and a client that speaks to it as no browser would: any header, any
// order, cookies by hand.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type IncomingHttpHeaders, request } from "node:http";
import { request as requestTls } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { z } from "zod";
import type { Limits } from "../../../runbooks/console/context.ts";
import type { Tls } from "../../../runbooks/console/listen.ts";
import { type Served, startConsole } from "../../../runbooks/console/server.ts";
import { loadSettings } from "../../../runbooks/lib/settings.ts";
import { tenantId } from "../../../stacks/names.ts";
import { rolePolicy, tenantPolicyText } from "../../../stacks/platform/policies.ts";
import { type DevVault, startDevVault } from "../../stacks/dev-vault.ts";

export const PASSWORD = "correct horse battery";

/** A Vault with one tenant, the roles' policies, and a person `alice` who may log in by password as platform-admin. */
export async function preparedVault(): Promise<DevVault> {
  const vault = await startDevVault();
  const root = async (method: string, path: string, body: unknown) => {
    const { status, body: said } = await vault.call(vault.rootToken, method, path, body);
    if (status >= 400) throw new Error(`${path}: ${JSON.stringify(said)}`);
  };
  await root("POST", "sys/mounts/smtp", { type: "kv", options: { version: "2" } });
  await root("POST", "smtp/data/acme/admin", { data: { username: "admin@acme.example" } });
  for (const role of ["platform-admin", "drift-reader"] as const)
    await root("PUT", `sys/policies/acl/${role}`, { policy: rolePolicy(role) });
  await root("PUT", "sys/policies/acl/tenant-acme", { policy: tenantPolicyText(tenantId("acme")) });
  await root("POST", "sys/auth/userpass", { type: "userpass" });
  await root("POST", "auth/userpass/users/alice", { password: PASSWORD, token_policies: ["platform-admin"] });
  return vault;
}

/** How many tokens live that Vault knows by this name. */
export async function tokensOf(vault: DevVault, name: string): Promise<number> {
  const { body } = await vault.call(vault.rootToken, "LIST", "auth/token/accessors");
  const accessors = z.array(z.string()).parse(body.data?.keys);
  const looks = accessors.map((accessor) =>
    vault.call(vault.rootToken, "POST", "auth/token/lookup-accessor", { accessor }),
  );
  return (await Promise.all(looks)).filter((look) => look.body.data?.display_name === name).length;
}

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
}

export interface Client {
  /** The name of the cookie, = and its value; "" before. */
  cookie: string;
  get(path: string, headers?: Record<string, string>): Promise<Answer>;
  /** Sends a form, as from a page of the console unless `headers` say otherwise. */
  post(path: string, form: Record<string, string>, headers?: Record<string, string>): Promise<Answer>;
  /** Signs in and keeps the cookie. Throws if that fails. */
  signIn(token: string): Promise<Client>;
  /** What a page of the session has in its forms. */
  csrf(): Promise<string>;
}

export interface OpenedConsole extends AsyncDisposable {
  served: Served;
  client(): Client;
}

/** `limits` shorten what would take a test too long. */
export async function openConsole(
  vault: DevVault,
  limits: Partial<Limits> = {},
  { tls }: { tls?: Tls } = {},
): Promise<OpenedConsole> {
  const folder = mkdtempSync(join(tmpdir(), "console-"));
  const file = join(folder, "recovery.yaml");
  writeFileSync(
    file,
    `vault: {addr: '${vault.address}'}\naudit: {log: audit.jsonl}\nbackup: {bucket: backups, kms_key: alias/test}\n`,
  );
  const env = {
    PATH: process.env.PATH,
    HOME: folder,
    RECOVERY_CONFIG: file,
  };
  const address = { host: "127.0.0.1", port: 0, tls: undefined };
  const served = await startConsole({ settings: loadSettings(env), env, address, tls, limits });
  return {
    served,
    client: () => clientOf(served.url),
    async [Symbol.asyncDispose]() {
      await served.end(async () => {});
      rmSync(folder, { recursive: true });
    },
  };
}

function clientOf(url: string): Client {
  const { origin } = new URL(url);
  const ask = (method: string, path: string, headers: Record<string, string>, body?: string) =>
    new Promise<Answer>((resolve, reject) => {
      const send = url.startsWith("https:") ? requestTls : request;
      const cookies = client.cookie === "" ? {} : { cookie: client.cookie };
      const how = { method, headers: { ...cookies, ...headers }, rejectUnauthorized: false, agent: false };
      const sent = send(new URL(path, url), how, (answer) => {
        text(answer).then(
          (said) => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text: said }),
          reject,
        );
      });
      sent.once("error", reject).end(body);
    });
  const client: Client = {
    cookie: "",
    get: (path, headers = {}) => ask("GET", path, headers),
    post: (path, form, headers = { origin }) =>
      ask(
        "POST",
        path,
        { "content-type": "application/x-www-form-urlencoded", ...headers },
        new URLSearchParams(form).toString(),
      ),
    async signIn(token) {
      const answer = await client.post("/sign-in/token", { token });
      if (answer.status !== 303) throw new Error(`sign-in: ${answer.status} ${answer.text}`);
      client.cookie = String(answer.headers["set-cookie"]?.[0]).split(";")[0] ?? "";
      return client;
    },
    async csrf() {
      return /name="csrf" content="([^"]+)"/.exec((await client.get("/runs")).text)?.[1] ?? "";
    },
  };
  return client;
}
