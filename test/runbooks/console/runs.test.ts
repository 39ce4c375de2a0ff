// Runs belong to the console, not to a page: a double click and two windows start one, and it is found again.
import { type AddressInfo, createServer, type Socket } from "node:net";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { DevVault } from "../../stacks/dev-vault.ts";
import { type Client, type OpenedConsole, openConsole, preparedVault } from "./open-console.ts";

let vault: DevVault;
let opened: OpenedConsole;
let admin: string;
beforeAll(async () => {
  vault = await preparedVault();
  opened = await openConsole(vault);
  admin = await vault.tokenWith("platform-admin");
});
afterAll(async () => {
  await opened[Symbol.asyncDispose]();
  await vault[Symbol.asyncDispose]();
});

/** The SDK reads it from this process's own environment. */
function s3Is(address: string): void {
  const settings = { ENDPOINT_URL: address, REGION: "us-east-1", MAX_ATTEMPTS: "1" };
  const login = { ACCESS_KEY_ID: "test", SECRET_ACCESS_KEY: "test" };
  for (const [name, value] of Object.entries({ ...settings, ...login })) vi.stubEnv(`AWS_${name}`, value);
}
const NOWHERE = "http://127.0.0.1:1";
s3Is(NOWHERE);

let count = 0;
const newOnce = () => `once-${count++}`;
/** No such bucket can be reached: the run fails, in its own words. */
const start = async (client: Client, form: Record<string, string>) => {
  const { headers } = await client.post("/start/verify-backup", {
    csrf: await client.csrf(),
    once: "",
    ...form,
  });
  return String(headers.location);
};
const ended = async (client: Client, run: string) =>
  vi.waitFor(async () => {
    const { text } = await client.get(run);
    expect(text).toContain('data-ended="true"');
    return text;
  }, 20_000);

test("a form that is sent twice at once, or from two windows, starts one run", async () => {
  // Keeps a run waiting until it is closed.
  const s3 = createServer((socket) => void sockets.push(socket.on("error", () => {})));
  const sockets: Socket[] = [];
  const { port } = await new Promise<AddressInfo>((resolve) =>
    s3.listen(0, "127.0.0.1", () => resolve(s3.address() as AddressInfo)),
  );
  s3Is(`http://127.0.0.1:${port}`);
  await using slow = await openConsole(vault);
  const [one, two] = [await slow.client().signIn(admin), await slow.client().signIn(admin)];
  const starts = [one, one, two].map((client) => start(client, { date: "2026-01-01", once: newOnce() }));
  const runs = new Set(await Promise.all(starts));
  expect(runs.size).toBe(1);
  const [run = ""] = runs;
  expect((await two.get("/runs")).text, "found again").toContain(`href="${run}"`);
  expect(await start(one, { date: "2026-01-02" }), "of another backup").not.toBe(run);
  expect((await two.get(run)).text, "still under way").toContain('data-ended="false"');
  s3.close();
  for (const socket of sockets) socket.destroy();
  await ended(two, run);
  s3Is(NOWHERE);
});

test("a form that is sent again when its run has ended leads to that run; a new form starts a new one", async () => {
  const client = await opened.client().signIn(admin);
  const once = newOnce();
  const first = await start(client, { date: "2026-01-02", once });
  await ended(client, first);
  expect(await start(client, { date: "2026-01-02", once })).toBe(first);
  expect(await start(client, { date: "2026-01-02", once: newOnce() })).not.toBe(first);
  const other = await opened.client().signIn(admin);
  expect(await start(other, { date: "2026-01-02", once })).not.toBe(first);
});

test("a run that fails says why and what to do next, and can be run again", async () => {
  const client = await opened.client().signIn(admin);
  const run = await start(client, { date: "2026-01-03" });
  const text = await ended(client, run);
  expect(text).toContain("<strong>Next:</strong>");
  const again = await client.post(`${run}/again`, { csrf: await client.csrf() });
  expect(again.headers.location).toMatch(/^\/runs\//);
  expect(again.headers.location).not.toBe(run);
});

test("what was to be rotated once more isn't rotated once more when that run is run again", async () => {
  const reader = await opened.client().signIn(await vault.tokenWith("drift-reader"));
  const csrf = await reader.csrf();
  const form = { csrf, once: "", incident: "INC-2", reason: "a test", name: "acme", again: "yes" };
  const run = String((await reader.post("/tenants/acme/reset", form)).headers.location);
  expect(await ended(reader, run)).toContain("--again");
  const again = String((await reader.post(`${run}/again`, { csrf })).headers.location);
  const text = await ended(reader, again);
  expect(text).toContain("--incident=INC-2");
  expect(text).not.toContain("--again");
});

test("a person without the rights reads the runbook's own refusal", async () => {
  const reader = await opened.client().signIn(await vault.tokenWith("drift-reader"));
  const form = { csrf: await reader.csrf(), once: "", incident: "INC-1", reason: "a test", name: "acme" };
  const { headers } = await reader.post("/tenants/acme/reset", form);
  const text = await ended(reader, String(headers.location));
  expect(text).toContain("Insufficient permissions: ");
  expect(text).toContain("log in to Vault with the policy &#39;platform-admin&#39;");
  expect(text).toContain('data-display="none"');
});

test("events tell of a run until it ends, and of the end of the session", async () => {
  await using short = await openConsole(vault, { idleMs: 1_500 });
  const client = await short.client().signIn(admin);
  const run = await start(client, { date: "2026-01-04" });
  const { text, headers } = await client.get(`${run}/events`, { "sec-fetch-dest": "empty" });
  expect(headers["content-type"]).toMatch(/^text\/event-stream/);
  expect(headers["cache-control"]).toBe("no-store");
  expect(text).toMatch(/event: update\ndata: \{"html":/);
  const last = text.trimEnd().split("\n\n").at(-1) ?? "";
  expect(last).toMatch(/"ended":true|^event: signed-out/);
});
