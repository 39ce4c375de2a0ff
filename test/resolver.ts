// A resolver that tests let answer as they like, and that passes on what they have no opinion of.
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { type Answer, decode, encode, type Question } from "dns-packet";

/** The answers to a question; `silent`: none at all; undefined: what the server behind it says. */
export type Opinion = (question: Question) => Answer[] | "silent" | undefined;

export interface TestResolver {
  /** IP address and port, as settings take it. */
  readonly address: string;
  /** How many questions reached it. */
  readonly asked: () => number;
  close(): void;
}

/** @param behind IP address and port of the server that knows the rest; without it there is no such name. */
export async function testResolver(opinion: Opinion, behind?: string): Promise<TestResolver> {
  let asked = 0;
  const socket = createSocket("udp4", async (message, from) => {
    asked += 1;
    const query = decode(message);
    const [question] = query.questions ?? [];
    if (question === undefined) return;
    const own = opinion(question);
    if (own === "silent") return;
    const say = (bytes: Buffer) => socket.send(bytes, from.port, from.address);
    if (own === undefined && behind !== undefined) return say(await passOn(message, behind));
    const flags = own === undefined ? 3 : 0;
    say(encode({ type: "response", id: query.id, flags, questions: query.questions, answers: own ?? [] }));
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return {
    address: `127.0.0.1:${socket.address().port}`,
    asked: () => asked,
    close: () => socket.close(),
  };
}

async function passOn(message: Buffer, behind: string): Promise<Buffer> {
  const [address = "", port = "53"] = behind.split(":");
  const onward: Socket = createSocket("udp4");
  onward.send(message, Number(port), address);
  const [answer] = (await once(onward, "message")) as [Buffer];
  onward.close();
  return answer;
}
