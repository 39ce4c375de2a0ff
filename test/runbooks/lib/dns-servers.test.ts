// DNS servers asked for many tenants at a time: how many questions are on their way, that no answer is lost, and that
// nothing is asked twice.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type Answer, decode, encode, type Question } from "dns-packet";
import { afterAll, expect, test } from "vitest";
import { DnsServer } from "../../../runbooks/lib/dns-server.ts";
import { Servers } from "../../../runbooks/lib/dns-servers.ts";

const closing: (() => void)[] = [];
afterAll(() => {
  for (const close of closing) close();
});

/** A server that waits until `held` questions have come before it answers all of them at once. */
async function server(answers: (question: Question) => Answer[]) {
  const asked: string[] = [];
  const waiting: (() => void)[] = [];
  let held = 1;
  const socket = createSocket({ type: "udp4", recvBufferSize: 2 ** 21 });
  socket.on("message", (message, from) => {
    const { id = 0, questions = [] } = decode(message);
    const [question] = questions;
    if (question === undefined) return;
    asked.push(`${question.name} ${question.type}`);
    const said = encode({ type: "response", id, questions, answers: answers(question) });
    waiting.push(() => socket.send(said, from.port, from.address));
    if (waiting.length >= held) for (const say of waiting.splice(0)) say();
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  closing.push(() => socket.close());
  const address = `127.0.0.1:${socket.address().port}`;
  const hold = (questions: number): void => {
    held = questions;
  };
  return { address, asked, hold };
}

const a = ({ name }: Question): Answer[] => [{ type: "A", name, ttl: 60, data: "192.0.2.1" }];

test("a thousand questions are on their way at a time, and none of the answers that come at once is lost", async () => {
  const { address, asked, hold } = await server(a);
  const dns = new DnsServer(address);
  await dns.ask("first.example", "A");
  hold(1024);
  const names = Array.from({ length: 1024 }, (_, index) => `host-${index}.example`);
  const answers = await Promise.all(names.map((name) => dns.ask(name, "A")));
  expect(answers).toEqual(names.map(() => ["192.0.2.1"]));
  // What was lost would have been asked again.
  expect(asked.length).toBe(1025);
});

test("a server of many zones is looked for once", async () => {
  const { address, asked } = await server(({ name, type }) =>
    type === "NS"
      ? ["ns1.dns.example", "ns2.dns.example"].map((data) => ({ type: "NS", name, ttl: 60, data }))
      : [{ type: "A", name, ttl: 60, data: name.startsWith("ns1") ? "192.0.2.1" : "192.0.2.2" }],
  );
  const servers = new Servers([address], undefined);
  const zones = Array.from({ length: 50 }, (_, index) => `zone-${index}.example`);
  const found = await Promise.all(zones.map((zone) => servers.authoritative(zone)));
  expect(new Set(found.map((all) => all.map((one) => one.address).join()))).toEqual(
    new Set(["192.0.2.1,192.0.2.2"]),
  );
  expect(asked.filter((one) => one.endsWith(" A")).sort()).toEqual([
    "ns1.dns.example A",
    "ns2.dns.example A",
  ]);
});
