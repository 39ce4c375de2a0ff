// The `dns` section of recovery.yaml: whom to ask what the world sees.
import { getServers } from "node:dns";
import { isIP } from "node:net";
import { z } from "zod";

const server = z.string().refine(isServer, {
  error: "takes an IP address such as 192.0.2.53, with a port if it isn't 53: 192.0.2.53:5353",
});

export const DnsSection = z.strictObject({
  resolvers: z.array(server).min(1, { error: "takes at least one server" }).optional(),
  authoritative: z.array(server).min(1, { error: "takes at least one server" }).optional(),
});

export interface Dns {
  /** Whose answers the tenants' correspondents get. */
  readonly resolvers: readonly string[];
  /** Servers of the tenants' zones; undefined: found by each zone's NS records. */
  readonly authoritative: readonly string[] | undefined;
}

/** Two public resolvers of different operators: what they hold in their caches is what much of the world sees. */
const PUBLIC = ["1.1.1.1", "9.9.9.9"];

/** Without a word in the settings: the machine's own resolvers and two public ones. */
export function dnsOf(section: z.output<typeof DnsSection>): Dns {
  const resolvers = section.resolvers ?? [...new Set([...getServers(), ...PUBLIC])];
  return { resolvers, authoritative: section.authoritative };
}

function isServer(text: string): boolean {
  const [, address = "", port = "53"] = /^(?:\[?([^\]]*?)\]?)(?::(\d{1,5}))?$/.exec(text) ?? [];
  const whole = isIP(text) === 6 || isIP(address) > 0;
  return whole && Number(port) > 0 && Number(port) < 65_536;
}
