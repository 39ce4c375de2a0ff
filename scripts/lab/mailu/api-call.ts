// What the API's calls have in common: what they act on, and how they answer.
import type { Accounts } from "./accounts.ts";
import type { Settings } from "./config.ts";
import type { Connections } from "./connections.ts";
import type { DkimKeys } from "./dkim.ts";
import type { Limiter } from "./limits.ts";
import type { Store } from "./store.ts";

export interface Mailu {
  settings: Settings;
  store: Store;
  limiter: Limiter;
  accounts: Accounts;
  dkim: DkimKeys;
  connections: Connections;
}

export interface Answer {
  status: number;
  body: unknown;
}

export type Payload = Record<string, unknown>;

/**
 * Calls by `METHOD collection[/[/part[/]]]`: the path's words before and after the name, which is the second argument;
 * what follows the part is the last one.
 */
export type Calls = Record<
  string,
  (mailu: Mailu, name: string, data: Payload, item: string) => Answer | Promise<Answer>
>;

export const say = (status: number, message: string): Answer => ({ status, body: { code: status, message } });
export const invalid = (errors: Record<string, string>): Answer => ({
  status: 400,
  body: { errors, message: "Input payload validation failed" },
});
export const isEmail = (text: unknown): text is string =>
  typeof text === "string" && /^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(text);
export const isDomain = (text: unknown): text is string =>
  typeof text === "string" && /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*$/i.test(text);

export const notAnEmail = (email: unknown) =>
  say(400, `Provided email address ${email} is not a valid email address`);
export const noUser = (email: string) => say(404, `User ${email} cannot be found`);
export const noDomain = (name: string) => say(404, `Domain ${name} does not exist`);
export const noToken = (id: string) => say(404, `Record cannot be found for id ${id} or invalid id provided`);

export const withoutNulls = (record: object): object =>
  Object.fromEntries(Object.entries(record).filter(([, value]) => value !== null));
