import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { afterEach, describe, expect, it } from "vitest";
import { transport } from "../../../runbooks/lib/vault-wire.ts";

type Answer = (request: IncomingMessage, response: ServerResponse) => void;
const ends: (() => void)[] = [];

afterEach(() => {
  for (const end of ends.splice(0)) end();
});

describe("a request to Vault", () => {
  it("carries method, headers and a JSON body, and brings back any status with its parsed body", async () => {
    const { url } = await serve(async (request, response) => {
      const { method, headers } = request;
      const heard = {
        method,
        token: headers["x-vault-token"],
        type: headers["content-type"],
        body: await json(request),
      };
      response.writeHead(418).end(JSON.stringify({ heard }));
    });
    const asked = {
      method: "PATCH",
      uri: `${url}/v1/a?b=c`,
      headers: { "X-Vault-Token": "t-1" },
      json: { d: "é" },
    };
    expect(await send(asked)).toEqual({
      statusCode: 418,
      body: { heard: { method: "PATCH", token: "t-1", type: "application/json", body: { d: "é" } } },
      request: { path: `${url}/v1/a?b=c` },
    });
  });

  it("keeps a body's own type, and takes an answer that isn't JSON as text", async () => {
    const { url } = await serve((request, response) =>
      response.writeHead(502).end(`<${request.headers["content-type"]}>`),
    );
    const asked = {
      method: "POST",
      uri: url,
      headers: { "Content-Type": "application/merge-patch+json" },
      json: {},
    };
    expect(await send(asked)).toMatchObject({ statusCode: 502, body: "<application/merge-patch+json>" });
  });

  it("uses one connection for one after the other", async () => {
    const { url, connections } = await serve((_, response) => response.end("{}"));
    for (let i = 0; i < 5; i++) await send({ method: "GET", uri: url, headers: {} });
    expect(connections()).toBe(1);
  });

  it("follows a standby to the active node with the same method, body and token", async () => {
    const active = await serve(async (request, response) => {
      response.end(
        JSON.stringify([request.method, request.url, request.headers["x-vault-token"], await json(request)]),
      );
    });
    const standby = await serve((request, response) =>
      response.writeHead(307, { Location: `${active.url}${request.url}` }).end(),
    );
    const asked = {
      method: "POST",
      uri: `${standby.url}/v1/x`,
      headers: { "X-Vault-Token": "t-2" },
      json: { y: 1 },
    };
    expect((await send(asked)).body).toEqual(["POST", "/v1/x", "t-2", { y: 1 }]);
  });

  it("gives up on nodes that send it round in a circle", async () => {
    let asked = 0;
    const { url } = await serve((_, response) => {
      asked++;
      response.writeHead(307, { Location: "/v1/again" }).end();
    });
    expect((await send({ method: "GET", uri: url, headers: {} })).statusCode).toBe(307);
    expect(asked).toBe(3);
  });

  it.each<[string, Answer]>([
    ["never comes", () => {}],
    [
      "trickles without end",
      (_, response) => {
        const timer = setInterval(() => response.write(" "), 20);
        response.on("close", () => clearInterval(timer));
      },
    ],
  ])("fails in its time where the answer %s", async (_, answer) => {
    const { url } = await serve(answer);
    await expect(
      transport({ ca: undefined }, 200).defaults()({ method: "GET", uri: url, headers: {} }),
    ).rejects.toThrow("timeout of 200ms exceeded");
  });

  it("fails where the answer breaks off", async () => {
    const { url } = await serve((_, response) => {
      response.writeHead(200, { "Content-Length": "100" });
      response.write("{");
      setTimeout(() => response.destroy(), 20);
    });
    await expect(send({ method: "GET", uri: url, headers: {} })).rejects.toThrow(/aborted/);
  });
});

const send = transport({ ca: undefined }, 5_000).defaults();

async function serve(answer: Answer): Promise<{ url: string; connections: () => number }> {
  let connections = 0;
  const server = createServer(answer).on("connection", () => connections++);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  ends.push(() => server.close().closeAllConnections());
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    connections: () => connections,
  };
}
