// What `flask mailu config-export` shows: attributes that differ from their defaults, and those that a filter names.
import { newDomain, newUser } from "./accounts.ts";
import type { Database, User } from "./store.ts";

export const SECTIONS: readonly string[] = ["domain", "user", "alias", "relay"];
const HIDDEN = "<hidden>";

type Item = Record<string, unknown>;

interface How {
  /** Also what has its default. */
  full: boolean;
  /** Hashes and passwords instead of `<hidden>`. */
  secrets: boolean;
}

/** The configuration by sections, or the first filter that names no attribute. `filters`: `user` or `user.enabled`. */
export function exported(db: Database, filters: string[], how: How): Record<string, Item[]> | string {
  const config: Record<string, Item[]> = {};
  for (const section of SECTIONS) {
    const own = filters.filter((filter) => filter.split(".")[0] === section);
    if (filters.length > 0 && own.length === 0) continue;
    const named = own.flatMap((filter) => filter.split(".").slice(1, 2));
    const known = Object.keys(section === "user" ? userItem(db, newUser(""), how) : newDomain(""));
    const strange = named.find((name) => !known.includes(name));
    if (strange !== undefined) return `${section}.${strange}`;
    config[section] = items(db, section, how).map(({ item, defaults }) => chosen(item, defaults, named, how));
  }
  return config;
}

function items(db: Database, section: string, how: How): { item: Item; defaults: Item }[] {
  if (section === "domain") {
    return Object.values(db.domains).map((domain) => ({
      item: { ...domain },
      defaults: { ...newDomain("") },
    }));
  }
  if (section !== "user") return [];
  return Object.values(db.users).map((user) => ({
    item: userItem(db, user, how),
    // Nobody's password is a default.
    defaults: { ...userItem(db, newUser(""), how), email: "", password: "" },
  }));
}

function userItem(db: Database, user: User, { secrets, full }: How): Item {
  const shown = (secret: string): string => (secrets ? secret : HIDDEN);
  return {
    ...user,
    comment: user.comment ?? "",
    password: shown(user.password),
    manager_of: db.managers.filter(({ email }) => email === user.email).map(({ domain }) => domain),
    tokens: db.tokens
      .filter(({ email }) => email === user.email)
      .map(({ id, comment, ip, hash }) => ({ id, comment: comment ?? "", ip, password: shown(hash) })),
    fetches: db.fetches
      .filter(({ user_email }) => user_email === user.email)
      .map(({ user_email: _, password, tls, keep, ...rest }) => ({
        ...rest,
        password: shown(password),
        // False is the default of both.
        ...(tls || full ? { tls } : {}),
        ...(keep || full ? { keep } : {}),
      })),
  };
}

const chosen = (item: Item, defaults: Item, named: string[], { full }: How): Item =>
  Object.fromEntries(
    Object.entries(item).filter(([name, value]) =>
      named.length > 0
        ? named.includes(name)
        : full || JSON.stringify(value) !== JSON.stringify(defaults[name]),
    ),
  );
