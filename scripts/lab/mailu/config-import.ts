// What `flask mailu config-import -u` does with users: it merges what is given into what is there. A user who isn't
// there would be made from a password or a hash in the real one; here he is refused, with a password in other words.
import { fieldErrors, USER_FIELDS } from "./fields.ts";
import type { Database, Fetch } from "./store.ts";

/** What marshmallow found wrong, in its words. */
export class ValidationError extends Error {
  constructor(problems: [where: string, what: string][]) {
    const width = Math.max(...problems.map(([where]) => where.length));
    const lines = problems.map(([where, what]) => `     - ${where.padEnd(width)} : ${what}`);
    const errors = `${problems.length} error${problems.length === 1 ? "" : "s"}`;
    super([`[ValidationError] ${errors} occurred during input validation`, ...lines].join("\n"));
  }
}

type Item = Record<string, unknown>;
const { raw_password: _, email: __, ...CHANGEABLE } = USER_FIELDS;

/** Merges `{user: [{email, enabled, fetches, …}]}` into the database. Returns how many users changed. */
export function applyUsers(db: Database, given: unknown): number {
  const { user: users = [], ...others } = object(given, "_schema");
  const strange = Object.keys(others)[0];
  if (strange !== undefined) throw new ValidationError([[strange, "Unknown field."]]);
  return list(users, "user").filter((item, index) => applyUser(db, object(item, `user.${index}`), index))
    .length;
}

function applyUser(db: Database, item: Item, index: number): boolean {
  const at = `user.${index}`;
  const { email, fetches, ...changes } = item;
  if (typeof email !== "string")
    throw new ValidationError([[`${at}.email`, "Missing data for required field."]]);
  const problems = Object.keys(changes)
    .filter((name) => !(name in CHANGEABLE))
    .map((name): [string, string] => [`${at}.${name}`, "Unknown field."]);
  for (const [name, what] of Object.entries(fieldErrors(changes, CHANGEABLE, []) ?? {}))
    problems.push([`${at}.${name}`, what]);
  const user = db.users[email.toLowerCase()];
  if (user === undefined) problems.push([`${at}.password`, "Missing data for required field."]);
  if (user === undefined || problems.length > 0) throw new ValidationError(problems);
  const before = JSON.stringify([user, db.fetches]);
  Object.assign(user, changes);
  if (fetches !== undefined) applyFetches(db, user.email, list(fetches, `${at}.fetches`), `${at}.fetches`);
  return JSON.stringify([user, db.fetches]) !== before;
}

/** A fetch with a known id changes that one, `-id` deletes it, and every other one is new. */
function applyFetches(db: Database, user_email: string, items: unknown[], at: string): void {
  for (const [index, one] of items.entries()) {
    const item = object(one, `${at}.${index}`);
    const id = Number(item["-id"] ?? item.id);
    const known = db.fetches.find((fetch) => fetch.user_email === user_email && fetch.id === id);
    if (item["-id"] !== undefined) {
      if (known === undefined)
        throw new ValidationError([[`${at}.${index}.id`, `Item to delete not found: ${item["-id"]}.`]]);
      db.fetches = db.fetches.filter((fetch) => fetch !== known);
    } else if (known !== undefined) Object.assign(known, item);
    else db.fetches.push(newFetch(db, user_email, item, `${at}.${index}`));
  }
}

function newFetch(db: Database, user_email: string, item: Item, at: string): Fetch {
  const text = (name: string): string => {
    const value = item[name];
    if (typeof value === "string" || typeof value === "number") return String(value);
    throw new ValidationError([[`${at}.${name}`, "Missing data for required field."]]);
  };
  return {
    id: Math.max(0, ...db.fetches.map(({ id }) => id)) + 1,
    user_email,
    protocol: text("protocol"),
    host: text("host"),
    port: Number(text("port")),
    tls: item.tls === true,
    username: text("username"),
    password: text("password"),
    keep: item.keep === true,
  };
}

function object(value: unknown, at: string): Item {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Item;
  throw new ValidationError([[at, "Invalid input type."]]);
}

function list(value: unknown, at: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw new ValidationError([[at, "Invalid type."]]);
}
