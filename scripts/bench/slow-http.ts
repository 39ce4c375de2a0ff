// HTTP servers that take their time: a proxy before a real server (Vault, the cloud endpoint), Mailu's API as far as a
// reset asks it, and a webhook. Each counts how many requests it has before it at a time.
import { createServer as createHttp, type Server as HttpServer, type RequestListener } from "node:http";
import { connect, createServer, type Server } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

/** What a server had to do. */
export class Load {
  requests = 0;
  inFlight = 0;
  most = 0;
  #busy = 0;
  #since = performance.now();

  begin(): void {
    this.#count();
    this.requests += 1;
    this.inFlight += 1;
    this.most = Math.max(this.most, this.inFlight);
  }

  end(): void {
    this.#count();
    this.inFlight -= 1;
  }

  /** The sum of all requests' durations in seconds: by the time that passed it is how many there were on average. */
  get seconds(): number {
    this.#count();
    return this.#busy / 1000;
  }

  #count(): void {
    const now = performance.now();
    this.#busy += this.inFlight * (now - this.#since);
    this.#since = now;
  }
}

/**
 * Passes everything on to `upstream`, and an answer back no sooner than `latency` milliseconds after its request began.
 * It takes no request apart, since Node's server knows no LIST: on a connection of HTTP/1.1 questions and answers take
 * turns.
 */
export function slowProxy(upstream: string, latency: number, load: Load): Server {
  const { hostname, port } = new URL(upstream);
  return createServer({ allowHalfOpen: true }, (client) => {
    const server = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    let due: Promise<void> | undefined;
    let passing = Promise.resolve();
    client.on("data", (data) => {
      if (due === undefined) load.begin();
      due ??= sleep(latency);
      server.write(data);
    });
    server.on("data", (data) => {
      passing = passing.then(async () => {
        if (due !== undefined) {
          await due;
          due = undefined;
          load.end();
        }
        client.write(data);
      });
    });
    client.on("end", () => server.end());
    // The end of a stream comes through though the answer before it still waits.
    server.on("end", () => void passing.then(() => client.end()));
    client.on("error", () => server.destroy());
    server.on("error", () => client.destroy());
    client.once("close", () => {
      if (due !== undefined) load.end();
      server.destroy();
    });
  });
}

/** An account of the API's; a change of its password takes effect at once. */
export interface Account {
  readonly email: string;
  readonly token: string;
  password: string;
}

/**
 * GET and PATCH of a user, GET of its app tokens (none) and of all users of the host (only itself).
 * @param accounts by their tokens.
 */
export function slowMailu(
  accounts: ReadonlyMap<string, Account>,
  latency: number,
  load: Load,
): RequestListener {
  return async (incoming, outgoing) => {
    load.begin();
    outgoing.once("close", () => load.end());
    const body = await text(incoming);
    await sleep(latency);
    const account = accounts.get(incoming.headers.authorization?.replace("Bearer ", "") ?? "");
    const [, , , what = "", email] = (incoming.url ?? "").split("/").map(decodeURIComponent);
    const user = { email: account?.email, password: `$hash$${account?.password.length}`, enabled: true };
    if (account === undefined) outgoing.writeHead(403).end('{"message":"Invalid API token"}');
    else if (what === "tokenuser") outgoing.end("[]");
    else if (email === undefined) outgoing.end(JSON.stringify([user]));
    else if (incoming.method === "GET") outgoing.end(JSON.stringify(user));
    else {
      account.password = (JSON.parse(body) as { raw_password: string }).raw_password;
      outgoing.end('{"code":200,"message":"OK"}');
    }
  };
}

/** Takes every post. */
export function slowWebhook(latency: number, load: Load): HttpServer {
  return createHttp(async (incoming, outgoing) => {
    load.begin();
    outgoing.once("close", () => load.end());
    await text(incoming);
    await sleep(latency);
    outgoing.end("ok");
  });
}
