// Where the console listens, and by which names it may be called there. A page of some other site that lets its own
// name point here (DNS rebinding) calls the console by that name, and gets nothing.
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { BlockList, isIP } from "node:net";
import { createSecureContext } from "node:tls";
import { messageOf } from "../lib/errors.ts";
import { usage } from "../lib/flags.ts";

export interface ServerAddress {
  readonly host: string;
  /** 0: any. */
  readonly port: number;
  /** Files. */
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
}

/** As read, PEM. */
export interface Tls {
  readonly cert: string;
  readonly key: string;
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/** Whether only this machine reaches it. */
export function isLoopback(host: string): boolean {
  const family = isIP(host);
  return family === 0 ? host === "localhost" : LOOPBACK.check(host, family === 6 ? "ipv6" : "ipv4");
}

/** @throws RunbookError (exit 2) for files that can't be read or don't belong together. */
export function readTls({ tls }: ServerAddress): Tls | undefined {
  if (tls === undefined) return undefined;
  const read = (flag: string, file: string) => {
    try {
      return readFileSync(file, "utf8");
    } catch (error) {
      throw usage(`${flag} can't be read: ${messageOf(error)}`);
    }
  };
  const pair = { cert: read("--tls-cert", tls.cert), key: read("--tls-key", tls.key) };
  try {
    createSecureContext(pair);
  } catch (error) {
    throw usage(`--tls-cert and --tls-key can't be used together: ${messageOf(error)}`);
  }
  return pair;
}

/** Tells whether a request's Host header names this server. `port` is the one that it really has. */
export function hostCheck(
  { host }: ServerAddress,
  port: number,
  tls: Tls | undefined,
): (header: string | undefined) => boolean {
  const certificate = tls === undefined ? undefined : new X509Certificate(tls.cert);
  const own = new Set([host, ...(isLoopback(host) ? ["localhost", "127.0.0.1", "::1"] : [])]);
  return (header) => {
    const url =
      header === undefined ? null : URL.parse(`${tls === undefined ? "http" : "https"}://${header}/`);
    if (url === null || url.host !== header?.toLowerCase()) return false;
    if (Number(url.port || (tls === undefined ? 80 : 443)) !== port) return false;
    const name = url.hostname.replace(/^\[|\]$/g, "");
    if (own.has(name)) return true;
    const named = isIP(name) === 0 ? certificate?.checkHost(name) : certificate?.checkIP(name);
    return named !== undefined;
  };
}
