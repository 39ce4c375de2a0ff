// DNS servers that take their time for each answer: all of them know all that there is. Over UDP alone, since nothing
// that is asked here is too long for that.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { type Answer, decode, encode, type Packet } from "dns-packet";
import type { ZoneEntry } from "./declared.ts";
import type { Load } from "./slow-http.ts";

/** Bytes that a server's socket holds for it: a burst of questions is no reason to lose one. */
const BUFFER = 8 * 1024 * 1024;
const AUTHORITATIVE = 0x0400;
const NO_SUCH_NAME = 3;

/** Answers on port 53 of each address. */
export async function startSlowDns(
  addresses: readonly string[],
  records: readonly ZoneEntry[],
  latency: number,
  load: Load,
): Promise<void> {
  const known = new Map<string, Answer[]>();
  for (const record of records) {
    const key = `${record.name} ${record.type}`;
    known.set(key, [...(known.get(key) ?? []), answerOf(record)]);
  }
  for (const address of addresses) {
    const socket = createSocket({ type: "udp4", recvBufferSize: BUFFER });
    socket.on("message", async (message, from) => {
      load.begin();
      await sleep(latency);
      load.end();
      const { id, questions = [] } = decode(message);
      const [asked] = questions;
      const answers = known.get(`${asked?.name.toLowerCase()} ${asked?.type}`) ?? [];
      const flags = AUTHORITATIVE | (answers.length === 0 ? NO_SUCH_NAME : 0);
      const said: Packet = { type: "response", id: id ?? 0, flags, questions, answers };
      socket.send(encode(said), from.port, from.address);
    });
    socket.bind(53, address);
    await once(socket, "listening");
  }
}

function answerOf({ name, type, value }: ZoneEntry): Answer {
  const named = { name, ttl: 300 };
  const words = value.replace(/\.$/, "").split(" ");
  const [first, second, third] = words.map(Number);
  const last = words.at(-1) ?? "";
  switch (type) {
    case "TXT":
      return { ...named, type, data: value.match(/.{1,255}/gs) ?? [] };
    case "MX":
      return { ...named, type, data: { preference: first ?? 0, exchange: last } };
    case "SRV":
      return {
        ...named,
        type,
        data: { priority: first ?? 0, weight: second ?? 0, port: third ?? 0, target: last },
      };
    default:
      return { ...named, type, data: last };
  }
}
