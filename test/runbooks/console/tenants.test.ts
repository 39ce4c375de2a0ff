// The list of tenants over HTTP, on a real Vault with more of them than fit on a page.
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Load, slowProxy } from "../../../scripts/bench/slow-http.ts";
import type { DevVault } from "../../stacks/dev-vault.ts";
import { type Client, type OpenedConsole, openConsole, preparedVault } from "./open-console.ts";

let vault: DevVault;
let opened: OpenedConsole;
let client: Client;
/** Counts what Vault is asked. */
const load = new Load();
const NAMES = Array.from({ length: 59 }, (_, index) => `tenant-${String(index + 1).padStart(2, "0")}`);

beforeAll(async () => {
  vault = await preparedVault();
  for (const name of NAMES)
    await vault.call(vault.rootToken, "POST", `smtp/data/${name}/admin`, { data: { username: "x" } });
  const proxy = slowProxy(vault.address, 0, load).listen(0, "127.0.0.1");
  await once(proxy, "listening");
  opened = await openConsole({
    ...vault,
    address: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
  });
  client = await opened.client().signIn(await vault.tokenWith("platform-admin"));
  return () => proxy.close();
});
afterAll(async () => {
  await opened[Symbol.asyncDispose]();
  await vault[Symbol.asyncDispose]();
});

/** The names in the list, in its order. */
const listed = (text: string): string[] =>
  [...text.matchAll(/<tr data-tenant="([^"]+)">/g)].map(([, name = ""]) => name);

const show = async (path: string): Promise<string> => (await client.get(path)).text;

test("the first page has the first ones and costs Vault one read, whatever their number", async () => {
  const before = load.requests;
  const text = await show("/");
  expect(load.requests - before).toBe(1);
  expect(listed(text)).toEqual(["acme", ...NAMES.slice(0, 24)]);
  expect(text).toContain("60 tenants");
  expect(text).toContain("Page 1 of 3");
});

test("every tenant is on one page, and a page that isn't there is the nearest one", async () => {
  const pages = await Promise.all(["/?page=1", "/?page=2", "/?page=3"].map(show));
  expect(pages.flatMap(listed)).toEqual(["acme", ...NAMES]);
  expect(listed(await show("/?page=99"))).toEqual(NAMES.slice(49));
  for (const page of ["0", "-3", "x", "1e99x", ""])
    expect(listed(await show(`/?page=${page}`)), page).toEqual(["acme", ...NAMES.slice(0, 24)]);
});

test("a search goes over all of them, and its pages stay in it", async () => {
  const text = await show("/?q=NANT-1");
  expect(listed(text)).toEqual(NAMES.filter((name) => name.includes("nant-1")));
  expect(text).toContain("10 of 60 tenants");
  expect(await show("/?q=tenant")).toContain('href="/?q=tenant&amp;page=2"');
  expect(listed(await show("/?q=tenant&page=3"))).toEqual(NAMES.slice(50));
});

test("what was searched for comes back as text", async () => {
  const hostile = `"><script>alert(1)</script>`;
  for (const path of ["/", "/tenants/list"]) {
    const text = await show(`${path}?${new URLSearchParams({ q: hostile })}`);
    expect(text).not.toContain("<script>alert");
    expect(text).toContain("&lt;script&gt;alert(1)");
  }
});

test("a stream tells of the tenants asked for and of no others, and ends with the session", async () => {
  const person = await opened.client().signIn(await vault.tokenWith("platform-admin"));
  const csrf = await person.csrf();
  const stream = person.get("/tenants/live?tenant=tenant-07&tenant=..%2Fx&tenant=tenant-08", {
    "sec-fetch-dest": "empty",
  });
  await new Promise((resolve) => setTimeout(resolve, 1500));
  expect((await person.post("/sign-out", { csrf })).status).toBe(303);
  const { status, headers, text } = await stream;
  expect(status).toBe(200);
  expect(headers["content-type"]).toContain("text/event-stream");
  expect(new Set(listed(text))).toEqual(new Set(["tenant-07", "tenant-08"]));
});
