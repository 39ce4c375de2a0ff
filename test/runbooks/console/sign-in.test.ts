// Who gets in, for how long, and what guessing costs.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { DevVault } from "../../stacks/dev-vault.ts";
import { type Client, openConsole, PASSWORD, preparedVault, tokensOf } from "./open-console.ts";

let vault: DevVault;
beforeAll(async () => {
  vault = await preparedVault();
});
afterAll(() => vault[Symbol.asyncDispose]());

const admin = () => vault.tokenWith("platform-admin");
const lives = async (token: string) =>
  (await vault.call(token, "GET", "auth/token/lookup-self")).status === 200;
const isIn = async (client: Client) => (await client.get("/session")).status === 200;
/** How a page asks for itself, in contrast to a person. */
const BY_SCRIPT = { "sec-fetch-dest": "empty" };

describe("by a token", () => {
  test.each([
    ["", "That is no token"],
    ["hello", "That is no token"],
    [`hvs.${"x".repeat(90)}`, "wrong, expired or revoked"],
  ])("%j is refused", async (token, why) => {
    await using opened = await openConsole(vault, { refusalMs: 1 });
    const answer = await opened.client().post("/sign-in/token", { token });
    expect(answer).toMatchObject({ status: 403, text: expect.stringContaining(why) });
    expect(answer.headers["set-cookie"]).toBeUndefined();
  });

  test("a root token is refused, as by every runbook", async () => {
    const made = await vault.call(vault.rootToken, "POST", "auth/token/create", { policies: ["root"] });
    await using opened = await openConsole(vault, { refusalMs: 1 });
    const { status, text } = await opened
      .client()
      .post("/sign-in/token", { token: made.body.auth?.client_token ?? "" });
    expect(status).toBe(403);
    expect(text).toContain("root token");
  });

  test("a pasted token stays the person's own: signing out doesn't revoke it", async () => {
    await using opened = await openConsole(vault);
    const token = await admin();
    const client = await opened.client().signIn(token);
    await client.post("/sign-out", { csrf: await client.csrf() });
    expect(await isIn(client)).toBe(false);
    expect((await client.get("/")).headers.location).toBe("/sign-in");
    await sleep(300);
    expect(await lives(token)).toBe(true);
  });
});

describe("by a password", () => {
  const enter = async (client: Client, name: string, password: string) => {
    const begin = performance.now();
    const answer = await client.post("/sign-in/password", { name, password });
    client.cookie = String(answer.headers["set-cookie"]?.[0] ?? "").split(";")[0] ?? "";
    return { ...answer, took: performance.now() - begin };
  };
  const people = () => tokensOf(vault, "userpass-alice");

  test("the session acts as that person, and its token is revoked when it ends", async () => {
    await using opened = await openConsole(vault);
    const client = opened.client();
    expect((await enter(client, "alice", PASSWORD)).status).toBe(303);
    expect((await client.get("/")).text).toContain("userpass-alice");
    expect(await people()).toBe(1);
    await client.post("/sign-out", { csrf: await client.csrf() });
    await vi.waitFor(async () => expect(await people()).toBe(0), 5_000);
  });

  test("tokens are revoked when the console ends", async () => {
    {
      await using opened = await openConsole(vault);
      await enter(opened.client(), "alice", PASSWORD);
      expect(await people()).toBe(1);
    }
    expect(await people()).toBe(0);
  });

  test("a wrong name and a wrong password are refused with the same words, after the same time", async () => {
    await using opened = await openConsole(vault, { refusalMs: 1_000 });
    const names = ["alice", "nobody", "{{password}}", "../../token/lookup-self"];
    const answers = [];
    for (const name of names) answers.push(await enter(opened.client(), name, "wrong"));
    const main = (text: string) => /<div class="problem"[\s\S]*?<\/div>/.exec(text)?.[0];
    for (const { status, text, took } of answers) {
      expect(status).toBe(403);
      expect(main(text)).toBe(main(answers[0]?.text ?? ""));
      expect(took).toBeGreaterThan(990);
    }
  });

  test("what was typed comes back in no page", async () => {
    await using opened = await openConsole(vault, { refusalMs: 1 });
    const { text } = await enter(opened.client(), "alice", "a-password-that-was-nearly-right");
    expect(text).not.toContain("a-password-that-was-nearly-right");
  });
});

describe("guessing", () => {
  const refusals = { name: 3, address: 5, all: 100 };
  const guess = (client: Client, name: string, password = "wrong") =>
    client.post("/sign-in/password", { name, password });

  test("after so many wrong passwords for a name the right one is refused too, for others it isn't", async () => {
    await using opened = await openConsole(vault, { refusalMs: 1, refusals });
    const client = opened.client();
    for (let tries = 0; tries < 3; tries++) expect((await guess(client, "alice")).status).toBe(403);
    const answer = await guess(client, "Alice", PASSWORD);
    expect(answer.status).toBe(429);
    expect(Number(answer.headers["retry-after"])).toBeGreaterThan(200);
    await client.signIn(await admin());
  });

  test("many at once are no way around it", async () => {
    await using opened = await openConsole(vault, { refusalMs: 1, refusals });
    const answers = await Promise.all(Array.from({ length: 10 }, () => guess(opened.client(), "alice")));
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(7);
  });

  test("an address has so many attempts under all names, and all together have so many", async () => {
    await using one = await openConsole(vault, { refusalMs: 1, refusals });
    const statuses = [];
    for (let tries = 0; tries < 6; tries++)
      statuses.push((await guess(one.client(), `name-${tries}`)).status);
    expect(statuses).toEqual([403, 403, 403, 403, 403, 429]);
    await using all = await openConsole(vault, { refusalMs: 1, refusals: { ...refusals, all: 2 } });
    for (const token of ["a", "b"])
      expect((await all.client().post("/sign-in/token", { token })).status).toBe(403);
    expect((await all.client().post("/sign-in/token", { token: await admin() })).status).toBe(429);
  });

  test("signing in well counts for nothing", async () => {
    await using opened = await openConsole(vault, { refusals: { name: 2, address: 2, all: 2 } });
    const token = await admin();
    for (let times = 0; times < 5; times++) await opened.client().signIn(token);
  });
});

describe("a session", () => {
  test("ends after so long without a person's request; what a page asks by itself doesn't keep it", async () => {
    await using opened = await openConsole(vault, { idleMs: 2_000 });
    const token = await admin();
    const [watched, used] = [await opened.client().signIn(token), await opened.client().signIn(token)];
    for (let times = 0; times < 8; times++) {
      await sleep(400);
      await watched.get("/session", BY_SCRIPT);
      await watched.get("/runs", BY_SCRIPT);
      await used.get("/runs");
    }
    expect(await isIn(watched)).toBe(false);
    expect(await isIn(used)).toBe(true);
    const late = await watched.get("/runs", BY_SCRIPT);
    expect(late).toMatchObject({ status: 401, text: "signed out" });
  });

  test("outlives its token's hour while the person is at work, and not for longer than the role allows", async () => {
    const times = { token_ttl: "4s", token_max_ttl: "9s", token_policies: ["platform-admin"] };
    await vault.call(vault.rootToken, "POST", "auth/userpass/users/bob", { password: PASSWORD, ...times });
    await using opened = await openConsole(vault);
    const client = opened.client();
    const { headers } = await client.post("/sign-in/password", { name: "bob", password: PASSWORD });
    client.cookie = String(headers["set-cookie"]?.[0]).split(";")[0] ?? "";
    const begin = performance.now();
    const statuses: number[] = [];
    while (performance.now() - begin < 6_000) {
      statuses.push((await client.get("/respond")).status);
      await sleep(300);
    }
    expect(new Set(statuses)).toEqual(new Set([200]));
    await vi.waitFor(async () => expect((await client.get("/respond")).status).toBe(403), 6_000);
  });

  test("another sign-in in the same browser ends the one before", async () => {
    await using opened = await openConsole(vault);
    const client = await opened.client().signIn(await admin());
    const before = { ...client };
    await client.signIn(await admin());
    expect(await isIn(client)).toBe(true);
    expect((await opened.client().get("/", { cookie: before.cookie })).status).toBe(303);
  });

  test("an invented cookie is no session", async () => {
    await using opened = await openConsole(vault);
    const client = await opened.client().signIn(await admin());
    client.cookie = `${client.cookie.split("=")[0]}=${"A".repeat(43)}`;
    expect((await client.get("/")).status).toBe(303);
  });
});

describe("rights", () => {
  test("whoever may not list the tenants, such as a tenant's own reader, sees no page, also none that needs no Vault", async () => {
    await using opened = await openConsole(vault);
    const reader = await vault.call(vault.rootToken, "POST", "auth/token/create", {
      policies: ["tenant-acme"],
    });
    const client = await opened.client().signIn(reader.body.auth?.client_token ?? "");
    for (const path of ["/", "/tenants/acme", "/incidents", "/runs", "/backups", "/drills", "/respond"]) {
      const { status, text } = await client.get(path);
      expect(status, path).toBe(403);
      expect(text, path).toContain("Insufficient permissions");
    }
    const csrf = /name="csrf" content="([^"]+)"/.exec((await client.get("/")).text)?.[1] ?? "";
    const answer = await client.post("/start/verify-backup", { date: "latest", once: "", csrf });
    expect(answer.status).toBe(403);
  });
});
