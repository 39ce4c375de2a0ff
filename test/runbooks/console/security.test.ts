// What the console must refuse, tried by a client that can send anything.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DevVault } from "../../stacks/dev-vault.ts";
import { type OpenedConsole, openConsole, preparedVault } from "./open-console.ts";

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

const PAGES = [
  "/",
  "/tenants/acme",
  "/tenants/acme/reset",
  "/incidents",
  "/runs",
  "/backups",
  "/drills",
  "/respond",
];
const signedIn = () => opened.client().signIn(admin);

describe("names", () => {
  test.each([
    "evil.example",
    "127.0.0.1.evil.example",
    "evil.example:PORT",
    "localhost:1",
    "localhost",
    "127.0.0.1:PORT@evil.example",
    "a b",
  ])("a request for the host %j gets nothing, signed in or not", async (host) => {
    const client = await signedIn();
    const answer = await client
      .get("/", { host: host.replace("PORT", new URL(opened.served.url).port) })
      .catch(() => undefined);
    expect(answer?.status ?? 400).toSatisfy((status: number) => status === 421 || status === 400);
    expect(answer?.text ?? "").not.toContain("acme");
  });

  test("its own names are answered", async () => {
    const client = await signedIn();
    const { port } = new URL(opened.served.url);
    for (const name of ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
      expect((await client.get("/", { host: `${name}:${port}` })).status, name).toBe(200);
  });
});

describe("pages", () => {
  test.each(["/sign-in", ...PAGES])(
    "%s allows nothing inline, is kept by no cache and framed by nobody",
    async (path) => {
      const client = await signedIn();
      const { status, headers, text } = await client.get(path);
      const policy = String(headers["content-security-policy"]);
      expect(policy.split("; ").sort()).toEqual([
        "base-uri 'none'",
        "connect-src 'self'",
        "default-src 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "img-src 'self' data:",
        "script-src 'self'",
        "style-src 'self'",
      ]);
      expect(headers).toMatchObject({
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
      });
      // Backups and drills may fail here, with a page as well.
      expect([200, 400, 502]).toContain(status);
      expect(text).toContain("<main");
      expect(text).not.toMatch(/<script(?![^>]* src="\/public\/)/);
      expect(text).not.toMatch(/<[^>]+ (?:style|on[a-z]+)=/);
      expect(text).not.toMatch(/(?:src|href)="(?:https?:)?\/\//);
    },
  );

  test("an error's page and a page that there isn't have the same protection", async () => {
    const client = await signedIn();
    for (const path of ["/nowhere", "/runs/nothing", "/tenants/NO"]) {
      const { headers } = await client.get(path);
      expect(headers["content-security-policy"], path).toContain("default-src 'none'");
      expect(headers["cache-control"], path).toBe("no-store");
    }
  });

  test("the token stands in no page, no address and no header", async () => {
    const client = await signedIn();
    for (const path of PAGES) {
      const { text, headers } = await client.get(path);
      expect(text + JSON.stringify(headers), path).not.toContain(admin);
    }
    // Also when a person pastes it where it doesn't belong.
    const form = { incident: "?", reason: admin, name: "acme", csrf: await client.csrf(), once: "" };
    const { status, text } = await client.post("/tenants/acme/reset", form);
    expect(status).toBe(400);
    expect(text).not.toContain(admin);
    expect(text).toContain("[redacted]");
  });

  test("files are served from the folder of public files alone", async () => {
    const client = await signedIn();
    expect((await client.get("/public/console.css")).status).toBe(200);
    for (const path of [
      "/public/../server.ts",
      "/public/%2e%2e/server.ts",
      "/public/..%2fserver.ts",
      "/public/..",
    ])
      expect((await client.get(path)).text, path).not.toContain("startConsole");
  });
});

const HOSTILE = `"'><img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}\u0026lt;`;

describe("what people type", () => {
  test("comes back as text: in a form that was filled in wrong, on a run's page, and in its events", async () => {
    const client = await signedIn();
    const csrf = await client.csrf();
    const post = (form: Record<string, string>) =>
      client.post("/tenants/acme/reset", { csrf, once: "", ...form });
    const wrong = await post({ incident: HOSTILE, reason: HOSTILE, name: HOSTILE });
    expect(wrong.status).toBe(400);
    const started = await post({ incident: "INC-1", reason: HOSTILE, name: "acme" });
    const run = String(started.headers.location);
    const [page, events] = [await client.get(run), await client.get(`${run}/events`)];
    for (const { text } of [wrong, page, events])
      expect(text).not.toMatch(/<img|<script>|onerror=alert\(1\)>/);
    for (const { text } of [wrong, page]) expect(text).toContain("&lt;img src=x onerror=alert(1)&gt;");
  });

  test("is refused where it is no tenant, no stack and no day", async () => {
    const client = await signedIn();
    const csrf = await client.csrf();
    const statuses = [
      await client.post("/start/check-drift", { csrf, once: "", stack: HOSTILE }),
      await client.post("/start/verify-backup", { csrf, once: "", date: HOSTILE }),
      await client.post("/start/go-on", { csrf, once: "", tenant: HOSTILE }),
      await client.get(`/tenants/${encodeURIComponent(HOSTILE)}`),
    ];
    expect(statuses.map(({ status }) => status)).toEqual([400, 400, 404, 404]);
    for (const { text } of statuses) expect(text).not.toMatch(/<img|<script>/);
  });

  test("can't be a flag of its own", async () => {
    const client = await signedIn();
    const form = { once: "", csrf: await client.csrf(), incident: "INC-2", name: "acme" };
    const { headers } = await client.post("/tenants/acme/reset", { ...form, reason: "--again --take-over" });
    const { text } = await client.get(String(headers.location));
    expect(text).toContain("--reason=&#39;--again --take-over&#39;");
  });
});

describe("forms of other sites", () => {
  const form = { date: "latest", once: "" };
  const start = "/start/verify-backup";
  const runs = async (client: Awaited<ReturnType<typeof signedIn>>) =>
    ((await client.get("/runs")).text.match(/href="\/runs\//g) ?? []).length;

  test.each<[string, Record<string, string>]>([
    ["another origin", { origin: "https://evil.example" }],
    ["another port of this machine", { origin: "http://127.0.0.1:1" }],
    ["an origin that is hidden", { origin: "null" }],
    ["an origin that is hidden, of another site", { origin: "null", "sec-fetch-site": "cross-site" }],
    [
      "another origin that claims this site",
      { origin: "https://evil.example", "sec-fetch-site": "same-origin" },
    ],
    ["a browser that names another site", { "sec-fetch-site": "cross-site" }],
    ["a browser that names another port of the same site", { "sec-fetch-site": "same-site" }],
    ["a browser that says nothing", {}],
  ])("a request from %s starts nothing, with a good token too", async (_what, headers) => {
    const client = await signedIn();
    const before = await runs(client);
    const answer = await client.post(start, { ...form, csrf: await client.csrf() }, headers);
    expect(answer.status).toBe(403);
    expect(await runs(client)).toBe(before);
  });

  test.each(["", "wrong", "of another session"])("a form with the token %j starts nothing", async (what) => {
    const client = await signedIn();
    const other = await signedIn();
    const before = await runs(client);
    const csrf = what === "of another session" ? await other.csrf() : what;
    for (const path of [
      start,
      "/start/check-drift",
      "/start/go-on",
      "/respond",
      "/tenants/acme/reset",
      "/runs/x/again",
      "/runs/x/credential",
    ])
      expect((await client.post(path, { ...form, csrf })).status, path).toBe(403);
    expect(await runs(client)).toBe(before);
    expect((await client.get("/session")).status).toBe(200);
  });

  test("the same form from a page of the session starts one", async () => {
    const client = await signedIn();
    const before = await runs(client);
    const answer = await client.post(start, { ...form, csrf: await client.csrf() });
    expect(answer).toMatchObject({ status: 303, headers: { location: expect.stringMatching(/^\/runs\//) } });
    expect(await runs(client)).toBe(before + 1);
  });

  test("nobody is signed out by another site's form", async () => {
    const client = await signedIn();
    await client.post("/sign-out", { csrf: "wrong" });
    expect((await client.get("/session")).status).toBe(200);
  });
});

describe("over TLS", () => {
  test("cookies are for TLS and this host alone, and the browser is told to stay with TLS", async () => {
    const folder = mkdtempSync(join(tmpdir(), "console-tls-"));
    const files = { key: join(folder, "key.pem"), cert: join(folder, "cert.pem") };
    execFileSync(
      "openssl",
      [
        ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"],
        ...["-keyout", files.key, "-out", files.cert, "-subj", "/CN=console.example"],
        ...["-addext", "subjectAltName=DNS:console.example"],
      ],
      { stdio: "ignore" },
    );
    const pair = { cert: readFileSync(files.cert, "utf8"), key: readFileSync(files.key, "utf8") };
    rmSync(folder, { recursive: true });
    await using secure = await openConsole(vault, {}, { tls: pair });
    const client = secure.client();
    const { headers } = await client.post("/sign-in/token", { token: admin });
    const { port } = new URL(secure.served.url);
    expect(headers["set-cookie"]?.[0]).toMatch(
      new RegExp(`^__Host-console-${port}=[\\w-]{43}; Path=/; HttpOnly; Secure; SameSite=Strict$`),
    );
    expect(headers["strict-transport-security"]).toBe("max-age=31536000");
    const byName = { host: `console.example:${port}` };
    expect((await client.get("/sign-in", byName)).status, "the certificate's name").toBe(200);
    expect((await client.get("/sign-in", { host: `other.example:${port}` })).status).toBe(421);
  });

  test("without TLS a cookie is no script's, and of no other site's request", async () => {
    const { headers } = await opened.client().post("/sign-in/token", { token: admin });
    expect(headers["set-cookie"]?.[0]).toMatch(/^console-\d+=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict$/);
  });
});
