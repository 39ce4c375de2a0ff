// Mailu's guard against guessing, with its side effects (core/admin/mailu/limiter.py): distinct user names and
// wrong API tokens count per network, distinct wrong passwords per user, and a success exempts an address.
import { createHmac } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { BlockList, isIPv6 } from "node:net";
import { join } from "node:path";
import type { Settings } from "./config.ts";
import { replaceFile } from "./store.ts";

const UNITS: Record<string, number> = { second: 1e3, minute: 60e3, hour: 3600e3, day: 86_400e3 };

interface Memory {
  /** Times (ms since the epoch) of the hits per network or user. */
  hits: Record<string, number[]>;
  /** Ends (ms since the epoch) of exemptions and of what counts only once. */
  until: Record<string, number>;
}

export class Limiter {
  readonly #file: string;
  readonly #memory: Memory;
  readonly #ip: { count: number; window: number };
  readonly #user: { count: number; window: number };
  readonly #exemption: number;
  readonly #exempt: BlockList;

  /** Counts live in Redis' directory, and so survive a restart wherever that is a volume. */
  constructor(redisDir: string, settings: Settings) {
    mkdirSync(redisDir, { recursive: true });
    this.#file = join(redisDir, "dump.rdb");
    this.#memory = recall(this.#file);
    this.#ip = rate(settings("AUTH_RATELIMIT_IP", "5/hour"));
    this.#user = rate(settings("AUTH_RATELIMIT_USER", "50/day"));
    this.#exemption = Number(settings("AUTH_RATELIMIT_EXEMPTION_LENGTH", "86400")) * 1000;
    this.#exempt = networks(settings("AUTH_RATELIMIT_EXEMPTION"));
  }

  ipLimited(ip: string): boolean {
    return !this.#isExempt(ip) && this.#recent(`ip ${networkOf(ip)}`, this.#ip.window) >= this.#ip.count;
  }

  userLimited(user: string, ip: string): boolean {
    return !this.#isExempt(ip) && this.#recent(`user ${user}`, this.#user.window) >= this.#user.count;
  }

  /** A wrong API token (no `user`), or a login as a user who doesn't exist. */
  countIp(ip: string, user?: string): void {
    if (this.#isExempt(ip)) return;
    const network = networkOf(ip);
    if (user !== undefined && !this.#once(`once ${network} ${user}`, this.#ip.window)) return;
    this.#hit(`ip ${network}`);
  }

  /** A wrong password of a user who exists; the same wrong one counts once. */
  countUser(user: string, ip: string, password: string): void {
    if (this.#isExempt(ip)) return;
    const short = createHmac("sha256", user).update(password).digest("hex").slice(-6);
    if (this.#once(`once ${user} ${short}`, this.#user.window)) this.#hit(`user ${user}`);
  }

  /** A login that succeeded frees its address from both limits for a day. */
  exempt(ip: string): void {
    this.#memory.until[`exempt ${ip}`] = Date.now() + this.#exemption;
    this.#save();
  }

  #isExempt(ip: string): boolean {
    const address = plain(ip);
    return this.#exempt.check(address, isIPv6(address) ? "ipv6" : "ipv4") || this.#running(`exempt ${ip}`);
  }

  #running = (key: string): boolean => (this.#memory.until[key] ?? 0) > Date.now();

  #once(key: string, window: number): boolean {
    if (this.#running(key)) return false;
    this.#memory.until[key] = Date.now() + window;
    return true;
  }

  #recent(key: string, window: number): number {
    const since = Date.now() - window;
    return (this.#memory.hits[key] ?? []).filter((at) => at > since).length;
  }

  #hit(key: string): void {
    this.#memory.hits[key] = [...(this.#memory.hits[key] ?? []).slice(-200), Date.now()];
    this.#save();
  }

  #save(): void {
    try {
      replaceFile(this.#file, JSON.stringify(this.#memory));
    } catch {
      // Redis too goes on from memory when its disk is full.
    }
  }
}

function recall(file: string): Memory {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Memory;
  } catch {
    return { hits: {}, until: {} };
  }
}

function rate(text: string): { count: number; window: number } {
  const [, count, unit] = /^(\d+)\s*(?:\/|per)\s*(second|minute|hour|day)$/.exec(text.trim()) ?? [];
  const window = UNITS[unit ?? ""];
  if (count === undefined || window === undefined)
    throw new Error(`couldn't parse rate limit string '${text}'`);
  return { count: Number(count), window };
}

function networks(text: string): BlockList {
  const list = new BlockList();
  for (const item of text.split(",").map((part) => part.trim())) {
    if (item === "") continue;
    const [address = "", bits] = item.split("/");
    const type = isIPv6(address) ? "ipv6" : "ipv4";
    list.addSubnet(address, Number(bits ?? (type === "ipv6" ? 128 : 32)), type);
  }
  return list;
}

const plain = (ip: string): string => ip.replace(/^::ffff:/, "");
/** The /24 of an IPv4 address, the /48 of an IPv6 one. */
const networkOf = (ip: string): string => {
  const address = plain(ip);
  return isIPv6(address)
    ? address.split(":").slice(0, 3).join(":")
    : address.split(".").slice(0, 3).join(".");
};
