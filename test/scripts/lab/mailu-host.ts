// A lab host with the mail stand-in on it, and the clients with which the tests knock at its doors.
import { execFile, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import { ImapFlow } from "imapflow";
import { createTransport } from "nodemailer";
import { bootHost, type Host } from "../../../scripts/lab/host/host.ts";

export const DOMAIN = "acme.example";
export const ADMIN = `admin@${DOMAIN}`;
export const TOKEN = "0123456789-api-token";
export const SERVER_NAME = `mail.${DOMAIN}`;
export const COMPOSE = "docker compose -f /opt/mailu/docker-compose.yml";

/** A scratch directory with a key pair for ssh and a certificate for the mail host. */
export function scratch() {
  const dir = mkdtempSync(join(tmpdir(), "lab-host-"));
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", join(dir, "id")]);
  return {
    dir,
    key: join(dir, "id"),
    authorizedKey: readFileSync(join(dir, "id.pub"), "utf8"),
    address: freeAddress(),
    remove: () => rmSync(dir, { recursive: true, force: true }),
  };
}

/** Far from the labs' own choices in practice: two tests at once meet once in fifty thousand runs. */
export const freeAddress = (): string => `127.${random(200, 250)}.${random(1, 250)}.${random(2, 250)}`;
const random = (low: number, high: number): number => low + Math.floor(Math.random() * (high - low));

export const pemPair = (dir: string, name: string): { cert: string; key: string } => {
  const [cert, key] = [join(dir, `${name}.cert.pem`), join(dir, `${name}.key.pem`)];
  const subject = ["-subj", `/CN=${SERVER_NAME}`, "-addext", `subjectAltName=DNS:${SERVER_NAME}`];
  const ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  execFileSync("openssl", ["req", "-x509", ...ec, ...subject, "-keyout", key, "-out", cert], {
    stdio: "ignore",
  });
  return { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
};

export interface Ran {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a command on a host with the OpenSSH client. */
export async function ssh(address: string, key: string, command: string, input = ""): Promise<Ran> {
  const options = [
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "LogLevel=ERROR",
    "BatchMode=yes",
  ];
  const args = [
    "-F",
    "none",
    "-i",
    key,
    ...options.flatMap((one) => ["-o", one]),
    `root@${address}`,
    command,
  ];
  const child = spawn("ssh", args, { env: { PATH: process.env.PATH } });
  child.stdin.end(input);
  const ended = new Promise<number | null>((done) => child.once("close", done));
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  return { code, stdout, stderr };
}

export const run = promisify(execFile);

export interface Call {
  token?: string | null;
  /** The client's own address: limits count by its /24. */
  from?: string;
}

export interface MailHost {
  host: Host;
  dir: string;
  run(command: string, input?: string): Promise<Ran>;
  /** Writes mailu.env with these on top of the usual ones, and brings the containers up. */
  configure(extra: Record<string, string>): Promise<Ran>;
  call(
    method: string,
    path: string,
    body?: unknown,
    options?: Call,
  ): Promise<{ status: number; body: never }>;
  /** Logs in over SMTP, sends a mail if asked to; resolves to the server's code. */
  smtp(user: string, password: string, from?: string): Promise<number>;
  /** Logs in over IMAP and out again: "ok", or the server's words. */
  imap(user: string, password: string, from?: string): Promise<string>;
  close(): Promise<void>;
}

/** Boots a host and brings Mailu up on it, with domain and admin (password `first-password`) unless `bare`. */
export async function mailHost(options: { bare?: boolean; dataVolume?: string } = {}): Promise<MailHost> {
  const { dir, key, authorizedKey, address, remove } = scratch();
  const volume = options.dataVolume === undefined ? {} : { dataVolume: options.dataVolume };
  const host = await bootHost({
    name: "mail",
    dir: join(dir, "host"),
    address,
    authorizedKey,
    ...volume,
  }).catch((error) => {
    remove();
    throw error;
  });
  const on = (command: string, input = "") => ssh(address, key, command, input);
  const tls = pemPair(dir, "first");
  const call: MailHost["call"] = (method, path, body, { token = TOKEN, from = "127.0.0.1" } = {}) =>
    callApi(address, method, path, body, token, from);
  const configure = async (extra: Record<string, string>) => {
    const lines = Object.entries({ ...ENV, ...extra }).map(([name, value]) => `${name}=${value}\n`);
    await on("cat >/opt/mailu/mailu.env", lines.join(""));
    return on(`${COMPOSE} up -d --wait`);
  };
  const result: MailHost = {
    host,
    dir,
    run: on,
    configure,
    call,
    smtp: (user, password, from) => smtpLogin(address, user, password, from),
    imap: (user, password, from) => imapLogin(address, user, password, from),
    close: async () => {
      await host.kill();
      remove();
    },
  };
  try {
    await setUp(result, tls, options.bare ?? false);
    return result;
  } catch (error) {
    await result.close();
    throw error;
  }
}

async function setUp(mail: MailHost, tls: { cert: string; key: string }, bare: boolean): Promise<void> {
  const { run: on, call } = mail;
  await on(
    "install -d -m 700 /opt/mailu/secrets /mailu/certs && cat >/opt/mailu/docker-compose.yml",
    COMPOSE_FILE,
  );
  await on("umask 077; cat >/opt/mailu/secrets/api_token", TOKEN);
  await on("umask 077; cat >/opt/mailu/secrets/secret_key", "0123456789abcdef");
  await on("cat >/mailu/certs/cert.pem", tls.cert);
  await on("umask 077; cat >/mailu/certs/key.pem", tls.key);
  const up = await mail.configure({});
  if (up.code !== 0) throw new Error(up.stderr);
  if (!bare) {
    await call("POST", "/domain", { name: DOMAIN });
    await call("POST", "/user", { email: ADMIN, raw_password: "first-password", global_admin: true });
  }
}

const ENV: Record<string, string> = {
  DOMAIN,
  HOSTNAMES: SERVER_NAME,
  TLS_FLAVOR: "cert",
  API: "true",
  WEB_API: "/api",
  PORTS: "25,80,443,465,993",
  API_TOKEN_FILE: "/run/secrets/api_token",
  SECRET_KEY_FILE: "/run/secrets/secret_key",
};

export const COMPOSE_FILE = `
x-mailu: &mailu {restart: always, env_file: mailu.env}
services:
  front: {<<: *mailu, image: nginx, ports: ["25:25", "80:80", "443:443", "465:465", "993:993"], volumes: ["/mailu/certs:/certs", "/mailu/overrides/nginx:/overrides:ro"]}
  redis: {<<: *mailu, image: redis, volumes: ["/mailu/redis:/data"]}
  admin: {<<: *mailu, image: admin, volumes: ["/mailu/data:/data", "/mailu/dkim:/dkim"], secrets: [api_token, secret_key], depends_on: [redis]}
  imap: {<<: *mailu, image: dovecot, volumes: ["/mailu/mail:/mail"]}
  smtp: {<<: *mailu, image: postfix, volumes: ["/mailu/mailqueue:/queue"]}
secrets:
  api_token: {file: ./secrets/api_token}
  secret_key: {file: ./secrets/secret_key}
`;

async function callApi(
  address: string,
  method: string,
  path: string,
  body: unknown,
  token: string | null,
  from: string,
): Promise<{ status: number; body: never }> {
  const headers: Record<string, string> = { "content-type": "application/json" };
  if (token !== null) headers.authorization = `Bearer ${token}`;
  const options = { method, headers, localAddress: from, servername: SERVER_NAME, rejectUnauthorized: false };
  return new Promise((done, fail) => {
    const sent = request(
      `https://${address}/api/v1${path}`,
      { ...options, agent: false },
      async (response) => {
        const answer = await text(response);
        done({ status: response.statusCode ?? 0, body: JSON.parse(answer) as never });
      },
    );
    sent.once("error", fail);
    sent.end(typeof body === "string" || body === undefined ? body : JSON.stringify(body));
  });
}

async function smtpLogin(
  host: string,
  user: string,
  pass: string,
  localAddress = "127.0.0.1",
): Promise<number> {
  const tls = { rejectUnauthorized: false, servername: SERVER_NAME };
  const client = createTransport({ host, port: 465, secure: true, auth: { user, pass }, tls, localAddress });
  try {
    await client.verify();
    return 235;
  } catch (error) {
    return (error as { responseCode?: number }).responseCode ?? 0;
  } finally {
    client.close();
  }
}

async function imapLogin(host: string, user: string, pass: string, localAddress?: string): Promise<string> {
  const tls = {
    rejectUnauthorized: false,
    servername: SERVER_NAME,
    localAddress: localAddress ?? "127.0.0.1",
  };
  const client = new ImapFlow({ host, port: 993, secure: true, auth: { user, pass }, tls, logger: false });
  client.on("error", () => {});
  try {
    await client.connect();
    await client.mailboxOpen("INBOX");
    await client.logout();
    return "ok";
  } catch (error) {
    return String((error as { responseText?: string }).responseText ?? error);
  }
}
