// Mailu's database in the stand-in: one JSON file, replaced atomically before any call is answered, so that
// what was answered 200 survives a kill, and a full disk answers 500 and changes nothing.
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface User {
  email: string;
  password: string;
  comment: string | null;
  quota_bytes: number;
  global_admin: boolean;
  enabled: boolean;
  change_pw_next_login: boolean;
  enable_imap: boolean;
  enable_pop: boolean;
  allow_spoofing: boolean;
  forward_enabled: boolean;
  forward_destination: string[];
  forward_keep: boolean;
  reply_enabled: boolean;
  reply_subject: string | null;
  reply_body: string | null;
  reply_startdate: string;
  reply_enddate: string;
  displayed_name: string;
  spam_enabled: boolean;
  spam_mark_as_read: boolean;
  spam_threshold: number;
}

export interface Token {
  id: number;
  email: string;
  hash: string;
  comment: string | null;
  ip: string[];
  created: string;
}

export interface Domain {
  name: string;
  comment: string | null;
  max_users: number;
  max_aliases: number;
  max_quota_bytes: number;
  signup_enabled: boolean;
  alternatives: string[];
}

/** A fetchmail account: a mailbox elsewhere whose mails are fetched into the user's own. */
export interface Fetch {
  id: number;
  user_email: string;
  protocol: string;
  host: string;
  port: number;
  tls: boolean;
  username: string;
  password: string;
  keep: boolean;
}

export interface Database {
  domains: Record<string, Domain>;
  users: Record<string, User>;
  tokens: Token[];
  nextToken: number;
  fetches: Fetch[];
  /** Who may administer which domain besides the global administrators. */
  managers: { domain: string; email: string }[];
}

export class Store {
  #db: Database;
  readonly #file: string;

  constructor(dataDir: string) {
    mkdirSync(dataDir, { recursive: true });
    this.#file = join(dataDir, "main.db");
    this.#db = load(this.#file);
  }

  get db(): Readonly<Database> {
    return this.#db;
  }

  /** Applies `change` to a copy and keeps the copy only once it is on the disk. Throws what the disk throws. */
  update<T>(change: (db: Database) => T): T {
    const next = structuredClone(this.#db);
    const result = change(next);
    replaceFile(this.#file, JSON.stringify(next));
    this.#db = next;
    return result;
  }
}

/** Writes a file so that a reader, or a kill in between, sees the old text or the new one, never half. */
export function replaceFile(path: string, text: string, mode = 0o600): void {
  const draft = `${path}.new`;
  try {
    writeFileSync(draft, text, { mode });
    renameSync(draft, path);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}

function load(file: string): Database {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Database;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return { domains: {}, users: {}, tokens: [], nextToken: 1, fetches: [], managers: [] };
  }
}
