// One DNS server, asked in person: what it answers is what the world that asks it believes. Bounded: a server that is
// silent once isn't asked again, so that it costs a few seconds and not a few for each record.
import { Resolver } from "node:dns/promises";
import { turnstile } from "./parallel.ts";

/** Milliseconds for the first try; the second one gets about twice that. */
const TIMEOUT_MS = 1_500;
const TRIES = 2;
/** Questions on their way at a time: a slow server must not make the last of a hundred tenants wait for ten others. */
const AT_ONCE = 1024;
/** Sockets for them: the kernel keeps some 250 answers for one that isn't read at once, and loses the others. */
const SOCKETS = 8;

/** The server gave no answer at all. */
export class SilentServer extends Error {}

export class DnsServer {
  /** IP address, with a port where it isn't 53. */
  readonly address: string;
  readonly #resolvers = Array.from(
    { length: SOCKETS },
    () => new Resolver({ timeout: TIMEOUT_MS, tries: TRIES }),
  );
  #asked = 0;
  readonly #turn = turnstile(AT_ONCE);
  #first: Promise<unknown> | undefined;
  #silent: SilentServer | undefined;

  constructor(address: string) {
    this.address = address;
    for (const resolver of this.#resolvers) resolver.setServers([address]);
  }

  /**
   * The values of a name's records as a zone file has them, TXT joined to one text; none where there is no such record.
   * @throws SilentServer, or an Error that says what the server refused.
   */
  async ask(name: string, type: string): Promise<string[]> {
    // The first question finds out whether anybody is there; the others wait for that.
    if (this.#first === undefined) {
      const first = this.#query(name, type);
      this.#first = first.catch(() => {});
      return first;
    }
    await this.#first;
    return this.#turn(() => this.#query(name, type));
  }

  async #query(name: string, type: string): Promise<string[]> {
    if (this.#silent !== undefined) throw this.#silent;
    try {
      const resolver = this.#resolvers[this.#asked++ % SOCKETS];
      if (resolver === undefined) throw new Error("unreachable");
      return await resolve(resolver, name, type);
    } catch (error) {
      const { code = "" } = error as NodeJS.ErrnoException;
      if (code === "ENOTFOUND" || code === "ENODATA") return [];
      if (!["ETIMEOUT", "ECONNREFUSED", "ECANCELLED"].includes(code))
        throw new Error(
          `the DNS server ${this.address} doesn't answer ${name} ${type}: ${code.replace(/^E/, "")}`,
          {
            cause: error,
          },
        );
      this.#silent = new SilentServer(
        `the DNS server ${this.address} gives no answer${code === "ECONNREFUSED" ? ": nothing listens there" : ""}`,
        { cause: error },
      );
      throw this.#silent;
    }
  }
}

async function resolve(resolver: Resolver, name: string, type: string): Promise<string[]> {
  switch (type) {
    case "A":
      return resolver.resolve4(name);
    case "CNAME":
      return (await resolver.resolveCname(name)).map(absolute);
    case "NS":
      return (await resolver.resolveNs(name)).map(absolute);
    case "PTR":
      return (await resolver.resolvePtr(name)).map(absolute);
    case "MX":
      return (await resolver.resolveMx(name)).map((one) => `${one.priority} ${absolute(one.exchange)}`);
    case "SRV":
      return (await resolver.resolveSrv(name)).map(
        (one) => `${one.priority} ${one.weight} ${one.port} ${absolute(one.name)}`,
      );
    case "TXT":
      return (await resolver.resolveTxt(name)).map((strings) => strings.join(""));
    default:
      throw new Error(`${type} records aren't known here`);
  }
}

const absolute = (name: string): string => `${name.toLowerCase().replace(/\.$/, "")}.`;

/** The name whose PTR record belongs to an IPv4 address. */
export const reverseName = (address: string): string =>
  `${address.split(".").reverse().join(".")}.in-addr.arpa`;
