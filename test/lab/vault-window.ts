// A Vault seen through a window: every request is noted and can be held back; an answer can be held back or lost.
import { readFile, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type AddressInfo, createServer as createDoor } from "node:net";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { lab } from "./lab.ts";

/** What becomes of an answer that Vault has given: a promise to wait for first, or `lost`. */
export type Fate = Promise<unknown> | "lost" | undefined;

export interface Window {
  /** `METHOD path` of every request, in order; path without `/v1/`. */
  readonly calls: string[];
  /** For a runbook that shall look through it. */
  readonly env: Record<string, string>;
}

/**
 * Runs `work` with a window on the lab's Vault and settings that belong to it.
 * @param fate is asked once per answer, with `METHOD path`.
 * @param gate is asked once per request, before Vault has it: a promise to wait for first.
 * @param snapshot stands between Vault's snapshots and whoever reads them.
 */
export async function withWindow<T>(
  work: (window: Window) => Promise<T>,
  fate: (call: string) => Fate = () => undefined,
  gate: (call: string) => Promise<unknown> | undefined = () => undefined,
  snapshot?: (archive: Readable, answer: ServerResponse) => Promise<void>,
): Promise<T> {
  const calls: string[] = [];
  const server = createServer((request, response) => {
    void pass(request, response, calls, fate, gate, snapshot).catch(() => response.destroy());
  });
  const door = createDoor((socket) => {
    socket.once("data", (first) => {
      // Node's server doesn't know Vault's own method: it hears of it in Vault's other spelling.
      const text = first.toString("latin1").replace(/^LIST (\S+)/, "GET $1?list=true");
      socket.unshift(Buffer.from(text, "latin1"));
      server.emit("connection", socket);
    });
    socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => door.listen(0, "127.0.0.1", resolve));
  const addr = `http://127.0.0.1:${(door.address() as AddressInfo).port}`;
  const settings = join(lab.place.dir, `window-${addr.split(":").at(-1)}.yaml`);
  const own = await readFile(join(lab.place.dir, "recovery.yaml"), "utf8");
  await writeFile(settings, own.replace(lab.place.vaultAddr, addr));
  try {
    return await work({ calls, env: { VAULT_ADDR: addr, RECOVERY_CONFIG: settings } });
  } finally {
    server.closeAllConnections();
    door.close();
  }
}

async function pass(
  request: IncomingMessage,
  response: ServerResponse,
  calls: string[],
  fate: (call: string) => Fate,
  gate: (call: string) => Promise<unknown> | undefined,
  snapshot: ((archive: Readable, answer: ServerResponse) => Promise<void>) | undefined,
): Promise<void> {
  const call = `${request.method} ${request.url?.replace(/^\/v1\//, "")}`;
  calls.push(call);
  const body = await buffer(request);
  await gate(call);
  const headers = Object.entries(request.headers).flatMap(([name, value]): [string, string][] =>
    name.startsWith("x-vault-") || name === "content-type" ? [[name, String(value)]] : [],
  );
  const answer = await fetch(`${lab.place.vaultAddr}${request.url}`, {
    method: request.method ?? "GET",
    headers,
    ...(body.length === 0 ? {} : { body }),
  });
  if (call === "GET sys/storage/raft/snapshot" && answer.ok && answer.body !== null) {
    response.writeHead(200, { "content-type": "application/gzip", connection: "close" });
    const archive = Readable.fromWeb(answer.body);
    return snapshot === undefined ? pipeline(archive, response) : snapshot(archive, response);
  }
  const text = await answer.text();
  const becomes = fate(call);
  if (becomes === "lost") {
    response.destroy();
    return;
  }
  await becomes;
  // One request a connection: only its first line is looked at above.
  response.writeHead(answer.status, { "content-type": "application/json", connection: "close" }).end(text);
}
