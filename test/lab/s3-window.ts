// S3 seen through a window: every request is noted, and can be held back before S3 has it and before its answer is
// passed on.
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { lab } from "./lab.ts";

/** Called with `METHOD url`, and waited for. */
export type Gate = (call: string) => unknown;

export interface S3Window {
  /** `METHOD url` of every request, in order; of those that say elsewhere what they ask for, that too. */
  readonly calls: string[];
  /** For a runbook that shall look through it. */
  readonly env: Record<string, string>;
}

export async function withS3Window<T>(
  work: (window: S3Window) => Promise<T>,
  { before, after }: { before?: Gate; after?: Gate } = {},
): Promise<T> {
  const calls: string[] = [];
  const server = createServer(async (asked, answer) => {
    const call = `${asked.method} ${asked.url}`;
    const at = calls.push(call) - 1;
    try {
      const body = await buffer(asked);
      const target = asked.headers["x-amz-target"] ?? /\bAction=\w+/.exec(body.toString())?.[0];
      if (target !== undefined) calls[at] = `${call} ${target}`;
      await before?.(call);
      const headers = Object.entries(asked.headers).filter(
        ([name]) => !["host", "connection", "content-length", "expect"].includes(name),
      ) as [string, string][];
      const got = await fetch(`${lab.place.awsEndpoint}${asked.url}`, {
        method: asked.method ?? "GET",
        headers,
        ...(body.length === 0 ? {} : { body: new Uint8Array(body) }),
      });
      const content = Buffer.from(await got.arrayBuffer());
      await after?.(call);
      const kept = [...got.headers].filter(([name]) => !/^(connection|transfer-encoding)$/.test(name));
      answer.writeHead(got.status, { ...Object.fromEntries(kept), connection: "close" }).end(content);
    } catch {
      answer.destroy();
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    return await work({ calls, env: { AWS_ENDPOINT_URL: endpoint } });
  } finally {
    server.closeAllConnections();
    server.close();
  }
}
