// All DNS servers that a run asks: the resolvers, and the zones' own, found by them or named in the settings.
import { DnsServer, SilentServer } from "./dns-server.ts";
import { messageOf } from "./errors.ts";

/** Servers of one zone that are asked. */
const AUTHORITATIVE = 4;

/** The servers that are asked, each one object for all tenants, so that a silent one is waited for once. */
export class Servers {
  readonly resolvers: readonly DnsServer[];
  readonly #authoritative: readonly DnsServer[] | undefined;
  readonly #known = new Map<string, DnsServer>();
  readonly #addresses = new Map<string, Promise<string | undefined>>();
  /** What was wrong with a server first, and how many of its answers are missing. */
  readonly #troubles = new Map<string, { why: string; missing: number; silent: boolean }>();

  constructor(resolvers: readonly string[], authoritative: readonly string[] | undefined) {
    this.resolvers = resolvers.map((address) => this.#at(address));
    this.#authoritative = authoritative?.map((address) => this.#at(address));
  }

  /** Servers of which answers are missing, each once, however many. */
  troubles(): { address: string; why: string }[] {
    return [...this.#troubles].map(([address, { why, missing, silent }]) => ({
      address,
      why: silent || missing === 1 ? why : `${why}; nor ${missing - 1} others`,
    }));
  }

  isSilent(address: string): boolean {
    return this.#troubles.get(address)?.silent ?? false;
  }

  /** What each server answers; those that don't are kept for `troubles`. */
  async ask(
    servers: readonly DnsServer[],
    name: string,
    type: string,
  ): Promise<{ at: string; values: string[] }[]> {
    const answers = await Promise.all(
      servers.map(async (server) => {
        const { address } = server;
        try {
          return [{ at: address, values: await server.ask(name, type) }];
        } catch (error) {
          const before = this.#troubles.get(address);
          this.#troubles.set(address, {
            why: before?.why ?? messageOf(error),
            missing: (before?.missing ?? 0) + 1,
            silent: error instanceof SilentServer || (before?.silent ?? false),
          });
          return [];
        }
      }),
    );
    return answers.flat();
  }

  /** The servers that know a domain's zone at first hand; none where they can't be found. */
  async authoritative(domain: string): Promise<readonly DnsServer[]> {
    if (this.#authoritative !== undefined) return this.#authoritative;
    for (let zone = domain; zone.includes("."); zone = zone.slice(zone.indexOf(".") + 1)) {
      const names = (await this.ask(this.resolvers, zone, "NS")).find(
        ({ values }) => values.length > 0,
      )?.values;
      if (names === undefined) continue;
      const addresses = await Promise.all(names.slice(0, AUTHORITATIVE).map((name) => this.#addressOf(name)));
      return addresses.flatMap((address) => (address === undefined ? [] : [this.#at(address)]));
    }
    return [];
  }

  /** Many zones have the same servers: each is looked for once. */
  #addressOf(name: string): Promise<string | undefined> {
    const address =
      this.#addresses.get(name) ??
      this.ask(this.resolvers, name.replace(/\.$/, ""), "A").then(
        (found) => found.find(({ values }) => values.length > 0)?.values[0],
      );
    this.#addresses.set(name, address);
    return address;
  }

  #at(address: string): DnsServer {
    const server = this.#known.get(address) ?? new DnsServer(address);
    this.#known.set(address, server);
    return server;
  }
}
