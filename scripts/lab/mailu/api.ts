// Mailu's REST API as it behaves (core/admin/mailu/api): what it answers, and what it accepts without effect.
import { randomBytes, timingSafeEqual } from "node:crypto";
import { type Accounts, hashPassword, newDomain, newUser } from "./accounts.ts";
import type { Settings } from "./config.ts";
import type { DkimKeys } from "./dkim.ts";
import { dnsRecords } from "./dns.ts";
import { DOMAIN_FIELDS, fieldErrors, known, TOKEN_FIELDS, USER_FIELDS } from "./fields.ts";
import type { Limiter } from "./limits.ts";
import type { Store, Token, User } from "./store.ts";

export interface Mailu {
  settings: Settings;
  store: Store;
  limiter: Limiter;
  accounts: Accounts;
  dkim: DkimKeys;
}

export interface Answer {
  status: number;
  body: unknown;
}

type Payload = Record<string, unknown>;

/** Answers one call. `path` is what follows /api/v1, decoded; `body` the request's text. Throws like a full disk. */
export async function answerCall(
  mailu: Mailu,
  method: string,
  path: string,
  authorization: string | undefined,
  body: string,
  ip: string,
): Promise<Answer> {
  const denied = refusal(mailu, authorization, ip);
  if (denied !== undefined) return denied;
  const [collection = "", name, part] = path.split("/").slice(1);
  const handler =
    ROUTES[`${method} ${collection}${name === undefined ? "" : "/"}${part === undefined ? "" : `/${part}`}`];
  if (handler === undefined) return { status: 404, body: { message: NOT_FOUND } };
  if (method === "GET" || method === "DELETE" || part === "dkim") return handler(mailu, name ?? "", {});
  const payload = parse(body);
  if (payload === undefined) return { status: 400, body: { message: BAD_REQUEST } };
  return handler(mailu, name ?? "", payload);
}

const NOT_FOUND =
  "The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again.";
const BAD_REQUEST = "The browser (or proxy) sent a request that this server could not understand.";

/** The limit comes before the token, so after five wrong ones the right one is refused as well. */
function refusal(
  { settings, limiter }: Mailu,
  authorization: string | undefined,
  ip: string,
): Answer | undefined {
  const say = (status: number, message: string): Answer => ({ status, body: { message } });
  if (limiter.ipLimited(ip)) return say(429, "Too many attempts from your IP (rate-limit)");
  if (!authorization) return say(401, "A valid Authorization header is mandatory");
  const token = Buffer.from(settings("API_TOKEN"));
  const given = Buffer.from(authorization.replace(/^Bearer /, ""));
  if (token.length >= 4 && given.length === token.length && timingSafeEqual(given, token)) return undefined;
  limiter.countIp(ip);
  return say(403, "Invalid API token");
}

function parse(body: string): Payload | undefined {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Payload)
      : undefined;
  } catch {
    return undefined;
  }
}

const say = (status: number, message: string): Answer => ({ status, body: { code: status, message } });
const invalid = (errors: Record<string, string>): Answer => ({
  status: 400,
  body: { errors, message: "Input payload validation failed" },
});
const isEmail = (text: unknown): text is string =>
  typeof text === "string" && /^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(text);
const isDomain = (text: unknown): text is string =>
  typeof text === "string" && /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*$/i.test(text);

const notAnEmail = (email: unknown) =>
  say(400, `Provided email address ${email} is not a valid email address`);
const noUser = (email: string) => say(404, `User ${email} cannot be found`);
const noDomain = (name: string) => say(404, `Domain ${name} does not exist`);
const noToken = (id: string) => say(404, `Record cannot be found for id ${id} or invalid id provided`);

/** `METHOD collection[/NAME[/part]]`, as the parts of the path before and after the name. */
const ROUTES: Record<string, (mailu: Mailu, name: string, data: Payload) => Answer | Promise<Answer>> = {
  "GET domain": ({ store, dkim, settings }) => ({
    status: 200,
    body: Object.values(store.db.domains).map((one) =>
      withoutNulls({ ...one, ...dnsRecords(one.name, dkim, settings) }),
    ),
  }),
  "POST domain": ({ store }, _, data) => {
    const errors = fieldErrors(data, DOMAIN_FIELDS, ["name"]);
    if (errors !== undefined) return invalid(errors);
    const { name } = data;
    if (!isDomain(name)) return say(400, `Domain ${name} is not a valid domain`);
    if (store.db.domains[name] !== undefined) return say(409, `Duplicate domain name ${name}`);
    store.update((db) => {
      db.domains[name] = { ...newDomain(name), ...known(data, DOMAIN_FIELDS) };
    });
    return say(200, `Domain ${name} has been created`);
  },
  "GET domain/": ({ store, dkim, settings }, name) => {
    if (!isDomain(name)) return say(400, `Domain ${name} is not a valid domain`);
    const domain = store.db.domains[name];
    if (domain === undefined) return noDomain(name);
    return { status: 200, body: { ...domain, ...dnsRecords(name, dkim, settings) } };
  },
  "POST domain//dkim": async ({ store, dkim }, name) => {
    if (store.db.domains[name] === undefined) return noDomain(name);
    await dkim.renew(name);
    return say(200, `DKIM/DMARC keys have been generated for domain ${name}`);
  },
  "GET domain//users": ({ store }, name) => {
    if (store.db.domains[name] === undefined) return noDomain(name);
    const users = Object.values(store.db.users).filter(({ email }) => email.endsWith(`@${name}`));
    return { status: 200, body: users.map(withoutNulls) };
  },

  "GET user": ({ store }) => ({ status: 200, body: Object.values(store.db.users).map(withoutNulls) }),
  "POST user": async ({ store }, _, data) => {
    const errors = fieldErrors(data, USER_FIELDS, ["email", "raw_password"]);
    if (errors !== undefined) return invalid(errors);
    if (!isEmail(data.email)) return notAnEmail(data.email);
    const email = data.email.toLowerCase();
    const domain = email.slice(email.lastIndexOf("@") + 1);
    if (store.db.domains[domain] === undefined) return noDomain(domain);
    if (store.db.users[email] !== undefined) return say(409, `User ${email} already exists`);
    const password = await hashPassword(String(data.raw_password));
    store.update((db) => {
      db.users[email] = { ...newUser(email), ...userChanges(data), password };
    });
    return say(200, `User ${email} has been created`);
  },
  "GET user/": ({ store }, email) => {
    if (!isEmail(email)) return notAnEmail(email);
    const user = store.db.users[email.toLowerCase()];
    return user === undefined ? noUser(email) : { status: 200, body: user };
  },
  "PATCH user/": async ({ store, accounts }, email, data) => {
    const errors = fieldErrors(data, USER_FIELDS, []);
    if (errors !== undefined) return invalid(errors);
    if (!isEmail(email)) return notAnEmail(email);
    const id = email.toLowerCase();
    if (store.db.users[id] === undefined) return noUser(email);
    const password =
      data.raw_password === undefined ? {} : { password: await hashPassword(String(data.raw_password)) };
    store.update((db) => {
      db.users[id] = { ...(db.users[id] ?? newUser(id)), ...userChanges(data), ...password };
    });
    if (data.raw_password !== undefined) accounts.endSessions(id);
    return say(200, `User ${email} has been updated`);
  },
  "DELETE user/": ({ store, accounts }, email) => {
    const id = email.toLowerCase();
    if (store.db.users[id] === undefined) return noUser(email);
    store.update((db) => {
      delete db.users[id];
      db.tokens = db.tokens.filter((token) => token.email !== id);
    });
    accounts.endSessions(id);
    return say(200, `User ${email} has been deleted`);
  },

  "GET token": ({ store }) => ({
    status: 200,
    body: store.db.tokens.map((token) => ({ ...shown(token), id: String(token.id) })),
  }),
  "POST token": (mailu, _, data) => {
    const errors = fieldErrors(data, TOKEN_FIELDS, ["email"]);
    return errors === undefined ? newToken(mailu, data.email, data) : invalid(errors);
  },
  "GET token/": ({ store }, id) => {
    const token = store.db.tokens.find((one) => String(one.id) === id);
    return token === undefined ? noToken(id) : { status: 200, body: shown(token) };
  },
  "DELETE token/": ({ store }, id) => {
    if (!store.db.tokens.some((token) => String(token.id) === id)) return noToken(id);
    store.update((db) => {
      db.tokens = db.tokens.filter((token) => String(token.id) !== id);
    });
    return say(200, `Token with id ${id} has been deleted`);
  },
  "GET tokenuser/": ({ store }, email) => {
    if (!isEmail(email)) return notAnEmail(email);
    if (store.db.users[email.toLowerCase()] === undefined) return noUser(email);
    return {
      status: 200,
      body: store.db.tokens.filter((token) => token.email === email.toLowerCase()).map(shown),
    };
  },
  "POST tokenuser/": (mailu, email, data) => {
    const errors = fieldErrors(data, TOKEN_FIELDS, []);
    return errors === undefined ? newToken(mailu, email, data) : invalid(errors);
  },
};

async function newToken({ store }: Mailu, email: unknown, data: Payload): Promise<Answer> {
  if (!isEmail(email)) return notAnEmail(email);
  const id = email.toLowerCase();
  if (store.db.users[id] === undefined) return noUser(email);
  const ip = (data.AuthorizedIP as string[] | undefined) ?? [];
  const bad = ip.find((one) => !/^[0-9a-f.:]+(\/\d+)?$/i.test(one));
  if (bad !== undefined) return say(400, `Provided AuthorizedIP ${bad} in ${JSON.stringify(ip)} is invalid`);
  const secret = randomBytes(16).toString("hex");
  const hash = await hashPassword(secret);
  const token = store.update((db) => {
    const created = new Date().toISOString().slice(0, 10);
    const made: Token = {
      id: db.nextToken++,
      email: id,
      hash,
      comment: (data.comment as string) ?? null,
      ip,
      created,
    };
    db.tokens.push(made);
    return made;
  });
  const { "Last edit": _, ...rest } = shown(token);
  return { status: 200, body: { ...rest, token: secret } };
}

const shown = ({ id, email, comment, ip, created }: Token) => ({
  id,
  email,
  comment,
  AuthorizedIP: ip,
  Created: created,
  "Last edit": "None",
});

const userChanges = (data: Payload): Partial<User> => {
  const { email: _, raw_password: __, ...changes } = known(data, USER_FIELDS);
  return changes;
};

const withoutNulls = (record: object): object =>
  Object.fromEntries(Object.entries(record).filter(([, value]) => value !== null));
