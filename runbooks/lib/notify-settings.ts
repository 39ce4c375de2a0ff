// The `notify` section of recovery.yaml: who is told of an incident, and by which relay and webhooks. Secrets are
// named by a file or a variable and read at use: a run that tells nobody anything must not fail for one of them.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { z } from "zod";
import { messageOf } from "./errors.ts";
import { registerSecret } from "./redact.ts";

const text = z.string().min(1, { error: "takes a text that isn't empty" });
const email = z.email({ error: "takes an e-mail address" });
const variable = z.string().regex(/^[A-Za-z_]\w*$/, { error: "takes the name of a variable" });

const Relay = z
  .strictObject({
    host: z.string().regex(/^[\w.:-]+$/, { error: "takes a host's name or address" }),
    port: z
      .number()
      .refine((port) => Number.isInteger(port) && port > 0 && port < 65_536, { error: "takes a port" })
      .optional(),
    tls: z
      .enum(["implicit", "starttls", "none"], { error: "takes implicit, starttls or none" })
      .default("implicit"),
    username: text.optional(),
    password_file: text.optional(),
    password_env: variable.optional(),
  })
  .refine(({ tls, host }) => tls !== "none" || isLoopback(host), {
    path: ["tls"],
    error: "takes implicit or starttls: none is for a relay on this machine's loopback only",
  })
  .refine((relay) => given(relay, "password_file", "password_env") === given(relay, "username"), {
    error: "takes username together with one of password_file and password_env, or none of them",
  });

const WebhookEntry = z
  .strictObject({
    url: z.string().refine(isWebhookUrl, { error: "takes an https URL without a password in it" }).optional(),
    url_file: text.optional(),
    format: z.enum(["generic", "slack"], { error: "takes generic or slack" }),
    secret_file: text.optional(),
    secret_env: variable.optional(),
  })
  .refine((entry) => given(entry, "url", "url_file") === 1, { error: "takes one of url and url_file" })
  .refine((entry) => given(entry, "secret_file", "secret_env") === (entry.format === "generic" ? 1 : 0), {
    error: "takes one of secret_file and secret_env for the generic format, which is signed; none for slack",
  })
  .refine(({ format, url }) => format !== "slack" || url === undefined || isLoopback(hostOf(url)), {
    path: ["url"],
    error: "takes url_file in its place: Slack's URL is a secret",
  });

/** As it stands in the file. */
export const NotifySection = z
  .strictObject({
    from: email,
    security: z.array(email).default([]),
    relay: Relay,
    webhooks: z.array(WebhookEntry).default([]),
  })
  .refine(({ security, webhooks }) => security.length + webhooks.length > 0, {
    error: "takes an address under security or a webhook: the security team must be reached",
  })
  .refine(({ webhooks }) => new Set(webhooks.map(channelOf)).size === webhooks.length, {
    path: ["webhooks"],
    error: "takes each webhook once (by its URL, or by the name of its url_file)",
  });

/** Where a secret lies; the file's path is absolute. */
export type SecretSource = { file: string } | { variable: string };

export interface Webhook {
  /** Its name in lists and in a notice's `delivered`: the same on each machine with the same settings, no secret. */
  channel: string;
  url: string | SecretSource;
  format: "generic" | "slack";
  /** The key of the signature; undefined for Slack. */
  secret: SecretSource | undefined;
}

export interface Notify {
  /** The sender of every mail; its domain is the one of the Message-IDs. */
  from: string;
  /** Addresses of the security team. */
  security: string[];
  relay: {
    host: string;
    port: number;
    tls: "implicit" | "starttls" | "none";
    login: { username: string; password: SecretSource } | undefined;
  };
  webhooks: Webhook[];
}

/** @param path makes a path of the file absolute. */
export function notifyOf(section: z.output<typeof NotifySection>, path: (text: string) => string): Notify {
  const source = (file?: string, name?: string): SecretSource | undefined => {
    if (file !== undefined) return { file: path(file) };
    return name === undefined ? undefined : { variable: name };
  };
  const { from, security, relay } = section;
  const { host, tls, username } = relay;
  const password = source(relay.password_file, relay.password_env);
  const login = username === undefined || password === undefined ? undefined : { username, password };
  const port = relay.port ?? { implicit: 465, starttls: 587, none: 25 }[tls];
  const webhooks = section.webhooks.flatMap((entry): Webhook[] => {
    const url = entry.url ?? source(entry.url_file);
    const secret = source(entry.secret_file, entry.secret_env);
    return url === undefined ? [] : [{ channel: channelOf(entry), url, format: entry.format, secret }];
  });
  return { from, security: [...new Set(security)], relay: { host, port, tls, login }, webhooks };
}

/**
 * Reads a secret and registers it; blanks around it are no part of it.
 * @throws Error that names the file or the variable.
 */
export function readSecret(source: SecretSource, env: NodeJS.ProcessEnv): string {
  const secret = rawSecret(source, env).trim();
  if (secret === "") throw new Error(`${nameOf(source)} is empty`);
  registerSecret(secret);
  return secret;
}

/** A webhook's URL, which lets anybody post there who has it: registered, whole and by its telling parts. */
export function webhookUrl({ url }: Webhook, env: NodeJS.ProcessEnv): string {
  const whole = typeof url === "string" ? url : readSecret(url, env);
  registerSecret(whole);
  const parsed = URL.parse(whole);
  if (typeof url !== "string" && !isWebhookUrl(whole))
    throw new Error(`${nameOf(url)} holds no https URL without a password in it`);
  const path = parsed?.pathname ?? "";
  if (path.length >= TELLING) registerSecret(path);
  const parts = [...path.split("/"), ...(parsed?.searchParams.values() ?? [])];
  for (const part of parts) if (part.length >= TELLING && /\d/.test(part)) registerSecret(part);
  return whole;
}

/** Shorter ones, and those without a digit, are words such as `services`, which would blot out ordinary text. */
const TELLING = 16;

/** A name or an address that never leaves this machine. */
export const isLoopback = (host: string): boolean =>
  /^(?:localhost|127(?:\.\d{1,3}){3}|\[?::1\]?)$/i.test(host);

function isWebhookUrl(text: string): boolean {
  const parsed = URL.parse(text);
  if (parsed === null || parsed.username !== "" || parsed.password !== "") return false;
  return parsed.protocol === "https:" || (parsed.protocol === "http:" && isLoopback(parsed.hostname));
}

const hostOf = (url: string): string => URL.parse(url)?.hostname ?? "";

/** A file's name stays when the URL in it is replaced; of a URL in the settings, its path is not repeated. */
const channelOf = ({ url, url_file }: { url?: string | undefined; url_file?: string | undefined }): string =>
  url === undefined
    ? `webhook:${basename(url_file ?? "")}`
    : `webhook:${hostOf(url)}-${createHash("sha256").update(url).digest("hex").slice(0, 8)}`;

/** How many of these keys are there. */
const given = <T extends object>(entry: T, ...keys: (keyof T)[]): number =>
  keys.filter((key) => entry[key] !== undefined).length;

function rawSecret(source: SecretSource, env: NodeJS.ProcessEnv): string {
  if ("variable" in source) return env[source.variable] ?? "";
  try {
    return readFileSync(source.file, "utf8");
  } catch (cause) {
    throw new Error(`${source.file} can't be read: ${messageOf(cause)}`, { cause });
  }
}

const nameOf = (source: SecretSource): string =>
  "variable" in source ? `the variable ${source.variable}` : source.file;
