// A port that nobody listens at, for a server that cannot choose one by itself and say which.
import { once } from "node:events";
import { createServer } from "node:net";

/** On 127.0.0.1. It is free as of now: whoever asked starts the server at once. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
