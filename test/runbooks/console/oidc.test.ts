// Signing in at an identity provider, against a real one. A person's browser is played by hand.
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { DevVault } from "../../stacks/dev-vault.ts";
import { beProvider, type Provider } from "./be-provider.ts";
import { type Client, type OpenedConsole, openConsole, preparedVault, tokensOf } from "./open-console.ts";

let vault: DevVault;
let opened: OpenedConsole;
let provider: Provider;

beforeAll(async () => {
  vault = await preparedVault();
  opened = await openConsole(vault, { refusalMs: 1, refusals: { name: 99, address: 99, all: 99 } });
  provider = await beProvider(vault, opened.served.url);
});
afterAll(async () => {
  await opened[Symbol.asyncDispose]();
  await vault[Symbol.asyncDispose]();
});

/** Leaves for the provider: where to, and the cookie that the browser keeps. */
async function leave(client: Client, role = "platform-admin") {
  const { text, headers } = await client.post("/sign-in/oidc", { role });
  const [, url = ""] = /http-equiv="refresh" content="0;url=([^"]+)"/.exec(text) ?? [];
  const cookie = String(headers["set-cookie"]?.[0]);
  return { url: url.replaceAll("&amp;", "&"), cookie, text };
}

const nameAndValue = (cookie: string) => ({ cookie: cookie.split(";")[0] ?? "" });

test("a person signs in with the role of his group, as himself, and his token is revoked at the end", async () => {
  const client = opened.client();
  expect((await client.get("/sign-in")).text).toContain("At your identity provider");
  const { url, cookie } = await leave(client);
  expect(cookie).toMatch(/^console-oidc-\d+=[\w-]+; Max-Age=300; Path=\/oidc; HttpOnly; SameSite=Lax$/);
  const back = await client.get(await provider.consent(url), {
    ...nameAndValue(cookie),
    "sec-fetch-site": "cross-site",
  });
  expect(back.status).toBe(200);
  // No redirect: after one, the browser would hold back the strict cookie.
  expect(back.text).toContain('http-equiv="refresh" content="0;url=/"');
  const cookies = back.headers["set-cookie"] ?? [];
  expect(cookies.find((one) => one.startsWith("console-oidc"))).toContain("Max-Age=0");
  client.cookie = nameAndValue(cookies.find((one) => !one.startsWith("console-oidc")) ?? "").cookie;
  expect((await client.get("/")).text).toContain("people-alice@people.example");
  expect(await tokensOf(vault, "people-alice@people.example")).toBe(1);
  await client.post("/sign-out", { csrf: await client.csrf() });
  await vi.waitFor(async () => expect(await tokensOf(vault, "people-alice@people.example")).toBe(0), 5_000);
});

test("nobody is led into a login that somebody else began, and none is used twice", async () => {
  const [one, two] = [await leave(opened.client()), await leave(opened.client())];
  const path = await provider.consent(one.url);
  const client = opened.client();
  for (const headers of [{}, nameAndValue(two.cookie)]) {
    const { status, headers: answered, text } = await client.get(path, headers);
    expect(status).toBe(403);
    expect(answered["set-cookie"]?.join() ?? "").not.toMatch(/console-\d+=/);
    expect(text).not.toContain(new URLSearchParams(path.split("?")[1]).get("code"));
  }
  const again = await leave(client);
  const used = await provider.consent(again.url);
  expect((await client.get(used, nameAndValue(again.cookie))).status).toBe(200);
  expect((await client.get(used, nameAndValue(again.cookie))).status).toBe(403);
});

test("a person who isn't in the role's group is refused, in Vault's words", async () => {
  const client = opened.client();
  const { url, cookie } = await leave(client, "drift-reader");
  const { status, text } = await client.get(await provider.consent(url), nameAndValue(cookie));
  expect(status).toBe(403);
  expect(text).toContain("claim");
  expect(text).toContain("are you in the group of that role?");
});

test("a role that may not come back here is told which address to allow", async () => {
  const { text } = await leave(opened.client(), "tenant-deployer");
  expect(text).toContain(new URL("/oidc/callback", opened.served.url).href);
  expect(text).toContain("people.redirectUris");
});

test("a role that there isn't goes nowhere", async () => {
  expect((await leave(opened.client(), "root")).url).toBe("");
});

test("where the platform stack enabled no such login, none is offered", async () => {
  await using other = await preparedVault();
  await using console = await openConsole(other);
  expect((await console.client().get("/sign-in")).text).not.toContain("identity provider");
});
