// Vault takes a record's data away before its metadata, and answers 500 to whoever reads in between, for good if it dies
// there: who offboards a tenant after such a death has to get on.
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { z } from "zod";
import { Vault } from "../../../runbooks/lib/vault.ts";

let answers: [status: number, body: object][] = [];
let asked = 0;
const server = createServer((_request, response) => {
  const [status, body] = answers[Math.min(asked++, answers.length - 1)] ?? [500, {}];
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
});
beforeAll(async () => {
  await once(server.listen(0, "127.0.0.1"), "listening");
});
afterAll(() => server.close());
beforeEach(() => {
  asked = 0;
});

const HALF: [number, object] = [500, { errors: ["1 error occurred:\n\t* could not find version data\n\n"] }];
const read = () => {
  const addr = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const vault = Vault.withToken({ addr, token: "a-token", namespace: undefined, ca: undefined });
  return vault.read("smtp/data/acme/mailu", z.object({ data: z.string() }));
};

it("is read again until the deletion is over", async () => {
  answers = [HALF, HALF, [404, { errors: [] }]];
  expect(await read()).toBeUndefined();
  expect(asked).toBe(3);
});

it("counts as gone where nobody ends its deletion", async () => {
  answers = [HALF];
  expect(await read()).toBeUndefined();
  expect(asked).toBe(4);
});

it("is told from every other failure, which is asked once", async () => {
  answers = [[500, { errors: ["internal error"] }]];
  await expect(read()).rejects.toThrow(
    /Vault failed to read smtp\/data\/acme\/mailu: internal error \(HTTP 500\)/,
  );
  expect(asked).toBe(1);
});
