// The wire to Vault: requests over connections that stay open, and node-vault's transport on top of them. Its own one, of
// axios, takes two milliseconds of processor for each request, and an incident with hundreds of tenants has thousands.
import {
  type ClientRequest,
  Agent as HttpAgent,
  type IncomingMessage,
  request as requestHttp,
} from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";

/** How to reach a Vault. */
export interface VaultAccess {
  /** No slash at its end. */
  addr: string;
  token: string;
  namespace: string | undefined;
  /** PEM certificates to trust. */
  ca: Buffer | undefined;
  /** The Unix socket at which it listens, where no network leads to it. */
  socket?: string | undefined;
}

/** From a standby to the active node, and once more if that has just changed. */
export const REDIRECTS = 2;

/** Milliseconds for which a connection is kept for the next request: far less than Vault's own five minutes. */
const IDLE = 30_000;

const agentOptions = { keepAlive: true, timeout: IDLE, proxyEnv: process.env };
const httpAgent = new HttpAgent(agentOptions);
const httpsAgent = new HttpsAgent(agentOptions);

/** A request that is yet to be ended; silence of `timeout` milliseconds is its event `timeout`. */
export function requestTo(
  { token, namespace, ca, socket }: Omit<VaultAccess, "token" | "addr"> & { token?: string },
  method: string,
  url: string,
  timeout: number,
  more: Record<string, string> = {},
): ClientRequest {
  const headers = {
    ...(token === undefined ? {} : { "X-Vault-Token": token }),
    ...(namespace === undefined ? {} : { "X-Vault-Namespace": namespace }),
    ...more,
  };
  const options = { method, headers, timeout, ...(socket === undefined ? {} : { socketPath: socket }) };
  return url.startsWith("https:")
    ? requestHttps(url, { ...options, agent: httpsAgent, ...(ca === undefined ? {} : { ca }) })
    : requestHttp(url, { ...options, agent: httpAgent });
}

/** What node-vault hands to its transport, and takes back: any status is an answer. */
interface Asked {
  method: string;
  uri: string;
  headers: Record<string, string>;
  json?: unknown;
}
interface Answered {
  statusCode: number;
  /** Parsed where it is JSON. */
  body: unknown;
  request: { path: string };
}

/**
 * For node-vault's option `request-promise`; token and namespace come with each request's headers.
 * @param timeout milliseconds after which a request without a whole answer fails.
 */
export function transport(wire: Pick<VaultAccess, "ca" | "socket">, timeout: number) {
  const send = async ({ method, uri, headers, json }: Asked): Promise<Answered> => {
    const body = typeof json === "object" ? JSON.stringify(json) : undefined;
    const typed = body === undefined ? headers : { "Content-Type": "application/json", ...headers };
    const { statusCode, said } = await answerTo(
      { ...wire, namespace: undefined },
      method,
      uri,
      typed,
      body,
      timeout,
    );
    return { statusCode, body: parsed(said), request: { path: uri } };
  };
  return { defaults: () => send };
}

async function answerTo(
  wire: Parameters<typeof requestTo>[0],
  method: string,
  uri: string,
  headers: Record<string, string>,
  body: string | undefined,
  timeout: number,
): Promise<{ statusCode: number; said: string }> {
  let url = uri;
  for (let hop = 0; ; hop++) {
    const request = requestTo(wire, method, url, timeout, headers);
    let late: Error | undefined;
    // All of it counts, not only silence: whoever trickles must not hold up an incident.
    const timer = setTimeout(() => {
      late = new Error(`timeout of ${timeout}ms exceeded`);
      request.destroy(late);
    }, timeout);
    try {
      const answer = await new Promise<IncomingMessage>((resolve, reject) => {
        request.once("response", resolve).on("error", reject).end(body);
      });
      const said = await wholeText(answer);
      const { statusCode = 0 } = answer;
      const { location } = answer.headers;
      if (statusCode !== 307 || location === undefined || hop === REDIRECTS) return { statusCode, said };
      url = new URL(location, url).href;
    } catch (error) {
      throw late ?? error;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** As `node:stream/consumers` does it, without an iterator's promises for each piece. */
function wholeText(answer: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = "";
    answer
      .setEncoding("utf8")
      .on("data", (piece: string) => {
        said += piece;
      })
      .once("end", () => resolve(said))
      .once("error", reject);
  });
}

function parsed(said: string): unknown {
  try {
    return JSON.parse(said);
  } catch {
    return said;
  }
}
