// Passwords, app tokens and web sessions, and what becomes of a login (core/admin/mailu/internal/nginx.py and
// views/auth.py): the order of the checks is what the traps are made of.
import { randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";
import type { Settings } from "./config.ts";
import type { Limiter } from "./limits.ts";
import type { Database, Domain, Store, User } from "./store.ts";

const derive = promisify<string, Buffer, number, { N: number }, Buffer>(scrypt);
const COST = 12;

export type Verdict = "ok" | "refused" | "limited";

export class Accounts {
  readonly #store: Store;
  readonly #limiter: Limiter;
  readonly #sessions = new Map<string, string>();

  constructor(store: Store, limiter: Limiter) {
    this.#store = store;
    this.#limiter = limiter;
  }

  /** One login over IMAP, SMTP or the web page, with all that it does to the limits. */
  async login(
    protocol: "imap" | "smtp" | "web",
    email: string,
    password: string,
    ip: string,
  ): Promise<Verdict> {
    const appToken = protocol !== "web" && /^[0-9a-f]{32}$/.test(password);
    if (!appToken && this.#limiter.ipLimited(ip)) return "limited";
    const user = this.#store.db.users[email.toLowerCase()];
    const valid = user !== undefined && (await this.#accepts(user, protocol, password, ip));
    if (user !== undefined && !appToken && this.#limiter.userLimited(user.email, ip)) return "limited";
    if (valid) this.#limiter.exempt(ip);
    else if (user !== undefined) this.#limiter.countUser(user.email, ip, password);
    else this.#limiter.countIp(ip, email);
    return valid ? "ok" : "refused";
  }

  openSession(email: string): string {
    const id = randomBytes(16).toString("hex");
    this.#sessions.set(id, email);
    return id;
  }

  /** Who a web session belongs to; undefined once it was ended. */
  sessionOf(id: string | undefined): string | undefined {
    return id === undefined ? undefined : this.#sessions.get(id);
  }

  /** Ends web sessions; open IMAP and SMTP connections and app tokens go on. */
  endSessions(email: string): void {
    for (const [id, owner] of this.#sessions) if (owner === email) this.#sessions.delete(id);
  }

  /**
   * INITIAL_ADMIN_*, as at every start of the admin container: `update` brings the password of the
   * environment back, and a `'` in it breaks the shell command that Mailu runs, so nothing happens.
   */
  async initialAdmin(settings: Settings): Promise<string | undefined> {
    const [account, domain, password] = ["ACCOUNT", "DOMAIN", "PW"].map((key) =>
      settings(`INITIAL_ADMIN_${key}`),
    );
    if (!account || !domain || !password) return undefined;
    if (password.includes("'")) return "sh: 1: Syntax error: Unterminated quoted string";
    const email = `${account}@${domain}`.toLowerCase();
    const mode = settings("INITIAL_ADMIN_MODE", "ifmissing");
    const known = this.#store.db.users[email] !== undefined;
    if (known && mode === "ifmissing") return undefined;
    if (known && mode !== "update") return `user ${email} already exists, not updating`;
    const hash = await hashPassword(password);
    this.#store.update((db) => {
      db.domains[domain] ??= newDomain(domain);
      db.users[email] = { ...(db.users[email] ?? newUser(email)), password: hash, global_admin: true };
    });
    return undefined;
  }

  async #accepts(user: User, protocol: string, password: string, ip: string): Promise<boolean> {
    if (!user.enabled || (protocol === "imap" && !user.enable_imap)) return false;
    if (protocol !== "web" && password.length === 32) {
      for (const token of this.#store.db.tokens.filter(({ email }) => email === user.email)) {
        if (token.ip.length > 0 && !token.ip.includes(ip)) continue;
        if (await matches(token.hash, password)) return true;
      }
    }
    return matches(user.password, password);
  }
}

/** `$scrypt$ln=12,r=8,p=1$salt$hash`, where Mailu has bcrypt_sha256: no limit of 72 bytes in either. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(12);
  const hash = await derive(password, salt, 24, { N: 2 ** COST });
  return `$scrypt$ln=${COST},r=8,p=1$${salt.toString("base64")}$${hash.toString("base64")}`;
}

async function matches(stored: string, password: string): Promise<boolean> {
  const [, , , salt, hash] = stored.split("$");
  if (salt === undefined || hash === undefined) return false;
  const expected = Buffer.from(hash, "base64");
  return timingSafeEqual(expected, await derive(password, Buffer.from(salt, "base64"), 24, { N: 2 ** COST }));
}

export const newDomain = (name: string): Domain => ({
  name,
  comment: null,
  max_users: -1,
  max_aliases: -1,
  max_quota_bytes: 0,
  signup_enabled: false,
  alternatives: [],
});

/** A user as Mailu creates one; the hash matches no password. */
export const newUser = (email: string): User => ({
  email,
  password: "!",
  comment: null,
  quota_bytes: 1_000_000_000,
  global_admin: false,
  enabled: true,
  change_pw_next_login: false,
  enable_imap: true,
  enable_pop: true,
  allow_spoofing: false,
  forward_enabled: false,
  forward_destination: [],
  forward_keep: true,
  reply_enabled: false,
  reply_subject: null,
  reply_body: null,
  reply_startdate: "1900-01-01",
  reply_enddate: "2999-12-31",
  displayed_name: "",
  spam_enabled: true,
  spam_mark_as_read: true,
  spam_threshold: 80,
});

/** Whether a sender may be used by a logged-in user: the own address, one's domain's if allowed to spoof. */
export const maySendAs = (db: Readonly<Database>, email: string, sender: string): boolean =>
  sender.toLowerCase() === email || db.users[email]?.allow_spoofing === true;
