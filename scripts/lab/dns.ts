// The lab's DNS server: what moto's Route 53 holds but doesn't serve. It answers with authority for every hosted zone,
// over UDP and, for what is too long for that, TCP. An address leads back to the mail host that it was first
// given to, as a provider has it once it was asked, unless a zone of its own (in-addr.arpa) says otherwise.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import {
  ListResourceRecordSetsCommand,
  type ListResourceRecordSetsResponse,
  paginateListHostedZones,
  type ResourceRecordSet,
  Route53Client,
} from "@aws-sdk/client-route-53";
import {
  type Answer,
  type DecodedPacket,
  decode,
  encode,
  type Packet,
  type Question,
  streamEncode,
} from "dns-packet";
import { awsClient } from "./cloud.ts";

const PORT = 53;

/** Where DNS answers, on a lab whose services are at `address`. */
export const dnsServer = (address: string): string => `${address}:${PORT}`;

/** Milliseconds for which a reading of Route 53 is taken for the present. */
const FRESH_MS = 100;
/** Flags of a DNS message (RFC 1035, 4.1.1). */
const AUTHORITATIVE = 0x0400;
const TRUNCATED = 0x0200;
const RCODE = { ok: 0, broken: 2, unknown: 3, refused: 5 };
/** Bytes of an answer over UDP to whoever doesn't say how many he takes. */
const UDP_BYTES = 512;

interface Zone {
  /** Lower case, without the dot at its end. */
  name: string;
  answers: Answer[];
}

export interface LabDns {
  /** Has every address that a mail host has by now lead back to it. */
  nameAddresses(): Promise<void>;
  stop(): Promise<void>;
}

export async function startDns(endpoint: string, address: string): Promise<LabDns> {
  const route53 = new Route53Client(awsClient(endpoint));
  const hosts = new Map<string, string>();
  const zones = fresh(async () => {
    const all = await readZones(route53);
    for (const one of all.flatMap(({ answers }) => answers))
      if (one.type === "A" && one.name.startsWith("mail.") && !hosts.has(one.data))
        hosts.set(one.data, one.name);
    return all;
  });
  const answer = async (query: DecodedPacket): Promise<Packet> => {
    const [question] = query.questions ?? [];
    const base = { id: query.id, type: "response" as const, questions: query.questions };
    if (question === undefined) return { ...base, flags: RCODE.broken };
    const found = await zones()
      .then((all) => lookUp(all, hosts, question))
      .catch(() => undefined);
    return { ...base, ...(found ?? { flags: RCODE.broken }) };
  };

  const udp = createSocket("udp4", async (message, from) => {
    const query = parsed(message);
    if (query === undefined) return;
    const whole = await answer(query);
    const room = Math.max(
      UDP_BYTES,
      query.additionals?.find((one) => one.type === "OPT")?.udpPayloadSize ?? 0,
    );
    const bytes = encode(whole);
    const cut = { ...whole, answers: [], flags: (whole.flags ?? 0) | TRUNCATED };
    udp.send(bytes.length > room ? encode(cut) : bytes, from.port, from.address);
  });
  const tcp = createServer((socket) => {
    let held = Buffer.alloc(0);
    socket.on("error", () => socket.destroy());
    socket.on("data", async (chunk: Buffer) => {
      held = Buffer.concat([held, chunk]);
      if (held.length < 2 || held.length < 2 + held.readUInt16BE(0)) return;
      const query = parsed(held.subarray(2, 2 + held.readUInt16BE(0)));
      held = held.subarray(2 + held.readUInt16BE(0));
      if (query === undefined) socket.destroy();
      else socket.write(streamEncode(await answer(query)));
    });
  });
  udp.bind(PORT, address);
  tcp.listen(PORT, address);
  await Promise.all([once(udp, "listening"), once(tcp, "listening")]);
  for (const server of [udp, tcp]) server.unref();
  return {
    nameAddresses: async () => void (await zones()),
    stop: async () => {
      udp.close();
      tcp.close();
      route53.destroy();
    },
  };
}

/** What is said to a question: the answers, and whether the name is known at all. */
function lookUp(
  zones: readonly Zone[],
  hosts: ReadonlyMap<string, string>,
  { name, type }: Question,
): Pick<Packet, "flags" | "answers"> {
  const asked = undotted(name);
  const zone = zones
    .filter((one) => asked === one.name || asked.endsWith(`.${one.name}`))
    .sort((one, other) => other.name.length - one.name.length)[0];
  if (zone === undefined) return reverse(hosts, asked, type);
  const named = zone.answers.filter((one) => one.name === asked);
  const answers = named.filter((one) => one.type === type || one.type === "CNAME");
  const alias = answers.find((one) => one.type === "CNAME");
  const behind =
    type !== "CNAME" && alias?.type === "CNAME"
      ? lookUp(zones, hosts, { name: alias.data, type }).answers
      : [];
  const isThere = zone.answers.some((one) => one.name === asked || one.name.endsWith(`.${asked}`));
  return {
    flags: AUTHORITATIVE | (isThere ? RCODE.ok : RCODE.unknown),
    answers: [...answers, ...(behind ?? [])],
  };
}

/** Addresses have names without anybody's zone; of every other name this server knows nothing. */
function reverse(
  hosts: ReadonlyMap<string, string>,
  asked: string,
  type: string | undefined,
): Pick<Packet, "flags" | "answers"> {
  if (!asked.endsWith(".in-addr.arpa")) return { flags: RCODE.refused, answers: [] };
  const host = hosts.get(asked.replace(".in-addr.arpa", "").split(".").reverse().join("."));
  if (host === undefined) return { flags: AUTHORITATIVE | RCODE.unknown, answers: [] };
  const answers: Answer[] = type === "PTR" ? [{ type: "PTR", name: asked, ttl: 300, data: host }] : [];
  return { flags: AUTHORITATIVE | RCODE.ok, answers };
}

async function readZones(route53: Route53Client): Promise<Zone[]> {
  const zones: Zone[] = [];
  for await (const { HostedZones } of paginateListHostedZones({ client: route53 }, {})) {
    for (const { Id, Name = "" } of HostedZones ?? []) {
      const answers: Answer[] = [];
      let page: Partial<ListResourceRecordSetsResponse> | undefined;
      do {
        const from = { StartRecordName: page?.NextRecordName, StartRecordType: page?.NextRecordType };
        page = await route53.send(new ListResourceRecordSetsCommand({ HostedZoneId: Id, ...from }));
        answers.push(...(page.ResourceRecordSets ?? []).flatMap(answersOf));
      } while (page.IsTruncated === true);
      zones.push({ name: undotted(Name), answers });
    }
  }
  return zones;
}

function answersOf({ Name = "", Type, TTL = 300, ResourceRecords = [] }: ResourceRecordSet): Answer[] {
  const named = { name: undotted(Name), ttl: TTL };
  return ResourceRecords.flatMap(({ Value = "" }): Answer[] => {
    const words = Value.split(/\s+/);
    switch (Type) {
      case "A":
        return [{ ...named, type: "A", data: Value }];
      case "CNAME":
      case "NS":
      case "PTR":
        return [{ ...named, type: Type, data: undotted(Value) }];
      case "MX":
        return [
          {
            ...named,
            type: "MX",
            data: { preference: Number(words[0]), exchange: undotted(words[1] ?? "") },
          },
        ];
      case "SRV": {
        const [priority, weight, port] = words.map(Number);
        const data = {
          priority: priority ?? 0,
          weight: weight ?? 0,
          port: port ?? 0,
          target: undotted(words[3] ?? ""),
        };
        return [{ ...named, type: "SRV", data }];
      }
      case "TXT":
        return [{ ...named, type: "TXT", data: strings(Value) }];
      default:
        return [];
    }
  });
}

/** The strings of a TXT value, without quotes. */
const strings = (value: string): string[] =>
  [...value.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, text = ""]) => text.replaceAll(/\\(.)/g, "$1"));

const undotted = (name: string): string => name.toLowerCase().replaceAll("\\052", "*").replace(/\.$/, "");

function parsed(message: Buffer): DecodedPacket | undefined {
  try {
    return decode(message);
  } catch {
    return undefined;
  }
}

/** One reading serves all that ask while it is under way, and for a moment after. */
function fresh<T>(read: () => Promise<T>): () => Promise<T> {
  let reading: Promise<T> | undefined;
  let until = Number.POSITIVE_INFINITY;
  return () => {
    if (reading !== undefined && performance.now() < until) return reading;
    until = Number.POSITIVE_INFINITY;
    reading = read().finally(() => {
      until = performance.now() + FRESH_MS;
    });
    return reading;
  };
}
