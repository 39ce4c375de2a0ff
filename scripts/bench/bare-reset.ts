// The necessary exchanges of one emergency reset, sent back to back: no settings, no checks of answers, no state
// machine, no error handling, no code of the project. It is the floor that the real one is measured against, and never
// a way to reset anything. Its standard input says where everything is.

import { spawn } from "node:child_process";
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { Agent, request as plainRequest } from "node:http";
import { Agent as TlsAgent, request as tlsRequest } from "node:https";
import { enableCompileCache } from "node:module";
import { json, text } from "node:stream/consumers";
import type { BareTask } from "./reset.ts";

const task = (await json(process.stdin)) as BareTask;
enableCompileCache(task.compileCache);
const { tenant, address, username } = task;
const agents = { plain: new Agent({ keepAlive: true }), mailu: new TlsAgent() };
const key = `smtp-transit/keys/${tenant}`;
const record = (name: string): string => `smtp/data/${tenant}/${name}`;

/** What need not wait for each other goes at once, or one by one where the task says so. */
async function both<T>(...acts: (() => Promise<T>)[]): Promise<T[]> {
  if (!task.inTurn) return Promise.all(acts.map((act) => act()));
  const results: T[] = [];
  for (const act of acts) results.push(await act());
  return results;
}

// Vault: who am I, what may I, the records, the plaintexts.
const [self] = await both(
  () => vault("GET", "auth/token/lookup-self"),
  () => vault("POST", "sys/capabilities-self", { paths: task.paths }),
);
const [admin, , mailuRecord, tls, before] = await both(
  ...["admin", "server", "mailu", "tls", "rotation"].map((name) => () => vault("GET", record(name))),
  () => vault("GET", `identity/entity/id/${self.data.entity_id}`),
);
const opened = await both(
  ...[admin.data.data.password, mailuRecord.data.data.api_token].map(
    (ciphertext) => () => vault("POST", `smtp-transit/decrypt/${tenant}`, { ciphertext }),
  ),
);
const [oldPassword = "", token = ""] = opened.map(({ data }) =>
  Buffer.from(data.plaintext, "base64").toString(),
);
const trust = {
  servername: `mail.${task.domain}`,
  ca: tls.data.data.certificate,
  allowPartialTrustChain: true,
};
agents.mailu = new TlsAgent({ ...trust, keepAlive: true });
await mailu("GET", `user/${username}`);

// PREPARED: a new version of the key, a password under it, the rotation record.
await vault("GET", key);
await vault("POST", `${key}/rotate`, {});
const password = randomBytes(48).toString("base64");
const plaintext = Buffer.from(password).toString("base64");
const sealed = (await vault("POST", `smtp-transit/encrypt/${tenant}`, { plaintext })).data.ciphertext;
const rotation = {
  ...task.rotation,
  password: sealed,
  base_version: admin.data.metadata.version,
  base_sha256: createHash("sha256").update(admin.data.data.password).digest("hex"),
  old_versions: [admin.data.metadata.version],
};
let cas = before.data.metadata.version as number;
await reach("PREPARED");

// SET, between two looks at Vault; ACCEPTED, COMMITTED.
const look = ["rotation", "admin"].map((name) => () => vault("GET", record(name)));
await both(...look);
await mailu("PATCH", `user/${username}`, { raw_password: password, enabled: true, global_admin: true });
await both(...look);
await reach("SET");
const { createTransport } = await import("nodemailer");
const { ImapFlow } = await import("imapflow");
await both(() => smtp(password), imap);
await reach("ACCEPTED");
const next = { ...admin.data.data, password: sealed, last_rotated: new Date().toISOString() };
await vault("POST", record("admin"), { data: next, options: { cas: admin.data.metadata.version } });
await reach("COMMITTED");

// REFUSED: the old password, what else opens the account, the host.
await smtp(oldPassword).catch(() => {});
await both(
  () => mailu("GET", `tokenuser/${username}`),
  () => mailu("GET", "user"),
);
await ssh();
await reach("REFUSED");

// MARKED, NOTIFIED, CLEARED.
await vault("GET", `smtp/metadata/${tenant}/admin`);
const mark = { compromised: "true", incident_id: task.rotation.incident_id };
await vault("PATCH", `smtp/metadata/${tenant}/admin`, { custom_metadata: mark });
await reach("MARKED");
const notice = `outbox/bench-${randomUUID()}.json`;
await both(
  () => bucket("PUT", `audit/bench-${randomUUID()}/1.json`, task.event),
  () => bucket("PUT", notice, task.event),
);
await reach("NOTIFIED");
await reach("CLEARED");

// RETIRED.
const [dkim] = await both(
  () => vault("GET", record("dkim")),
  () => vault("GET", key),
);
const stale = { mailu: mailuRecord, dkim, tls };
const renewed = await both(
  ...Object.entries(stale).map(([name, { data }]) => async () => {
    const field = name === "mailu" ? "api_token" : "private_key";
    const rewrapped = await vault("POST", `smtp-transit/rewrap/${tenant}`, { ciphertext: data.data[field] });
    const changed = { ...data.data, [field]: rewrapped.data.ciphertext };
    await vault("POST", record(name), { data: changed, options: { cas: data.metadata.version } });
    return rewrapped;
  }),
);
const batch_input = [sealed, ...renewed.map(({ data }) => data.ciphertext)].map((ciphertext) => ({
  ciphertext,
}));
await both(
  () => vault("POST", `smtp-transit/rewrap/${tenant}`, { batch_input }),
  () => vault("GET", key),
);
const version = Number(sealed.split(":")[1].slice(1));
await vault("POST", `${key}/config`, { min_decryption_version: version, min_encryption_version: version });
await reach("RETIRED");

// The notice is sent, the audit's last event stored.
await both(...task.webhooks.map((url) => () => post(url)), mail);
await both(
  () => bucket("DELETE", notice),
  () => bucket("PUT", `audit/bench-${randomUUID()}/2.json`, task.event),
);
process.exit();

async function reach(state: string): Promise<void> {
  const written = await vault("POST", record("rotation"), { data: { ...rotation, state }, options: { cas } });
  cas = written.data.version;
}

// biome-ignore lint/suspicious/noExplicitAny: answers are taken as they come, since to check them isn't necessary.
function vault(method: string, path: string, body?: unknown): Promise<any> {
  const type = method === "PATCH" ? "application/merge-patch+json" : "application/json";
  return http(
    `${task.vault}/v1/${path}`,
    method,
    { "X-Vault-Token": task.token, "Content-Type": type },
    body,
  );
}

function mailu(method: string, path: string, body?: unknown): Promise<unknown> {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  return http(`https://${address}/api/v1/${path}`, method, headers, body);
}

function bucket(method: string, object: string, body?: unknown): Promise<unknown> {
  const md5 = createHash("md5")
    .update(JSON.stringify(body ?? ""))
    .digest("base64");
  const headers = { Authorization: task.bucketAuthorization, ...(body ? { "Content-MD5": md5 } : {}) };
  return http(`${task.bucket}/${object}`, method, headers, body);
}

function post(url: string): Promise<unknown> {
  return http(url, "POST", { "Content-Type": "application/json" }, task.event);
}

// biome-ignore lint/suspicious/noExplicitAny: as above.
function http(url: string, method: string, headers: Record<string, string>, body: unknown): Promise<any> {
  const secure = url.startsWith("https:");
  return new Promise((resolve, reject) => {
    const options = { method, headers, agent: secure ? agents.mailu : agents.plain };
    const call = (secure ? tlsRequest : plainRequest)(url, options, async (response) => {
      const said = await text(response);
      if ((response.statusCode ?? 0) >= 300) reject(new Error(`${method} ${url}: ${said}`));
      else resolve(said.startsWith("{") ? JSON.parse(said) : said);
    });
    call.on("error", reject);
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function smtp(pass: string): Promise<void> {
  const auth = { user: username, pass };
  const transport = createTransport({ host: address, port: 465, secure: true, tls: trust, auth });
  await transport.verify().finally(() => transport.close());
}

async function imap(): Promise<void> {
  const auth = { user: username, pass: password };
  const client = new ImapFlow({
    ...{ host: address, port: 993, secure: true, tls: trust, servername: trust.servername },
    ...{ auth, logger: false, verifyOnly: true },
  });
  await client.connect();
  client.close();
}

async function mail(): Promise<void> {
  const transport = createTransport({ ...task.relay, ignoreTLS: true });
  await transport.sendMail({ ...task.mail, text: "a notice" });
  transport.close();
}

/** The very command that the real run was seen to start. */
function ssh(): Promise<void> {
  const [program = "", ...args] = task.ssh;
  return new Promise((resolve, reject) =>
    spawn(program, args, { stdio: ["ignore", "ignore", "inherit"] })
      .once("error", reject)
      .once("close", () => resolve()),
  );
}
