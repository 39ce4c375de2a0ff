// What no real Vault does on demand: it answers a stream before it has read it.
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { upload } from "../../../runbooks/lib/vault-stream.ts";

let server: Server | undefined;
afterEach(() => server?.close());

/** Answers 204 at the first bytes, and reads on. */
async function hasty(): Promise<{ addr: string; got: () => number }> {
  let bytes = 0;
  server = createServer((request, answer) => {
    request.once("data", () => answer.writeHead(204).end());
    request.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    request.on("error", () => {});
  });
  await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
  return { addr: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, got: () => bytes };
}

const slowly = (parts: number, end?: Error): Readable =>
  Readable.from(
    (async function* () {
      for (let part = 0; part < parts; part++) {
        yield Buffer.alloc(1000);
        await sleep(50);
      }
      if (end !== undefined) throw end;
    })(),
    { objectMode: false },
  );

test("a stream that fails after Vault has taken it has failed", async () => {
  const { addr } = await hasty();
  const sent = upload(
    { addr, token: "t", namespace: undefined, ca: undefined },
    "sys/storage/raft/snapshot-force",
    slowly(4, new Error("its seal is broken")),
  );
  await expect(sent).rejects.toThrow("its seal is broken");
});

test("a stream that ends well has been sent to its end", async () => {
  const { addr, got } = await hasty();
  await upload({ addr, token: "t", namespace: undefined, ca: undefined }, "sys/storage", slowly(4));
  expect(got()).toBe(4000);
});
