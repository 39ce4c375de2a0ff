import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ADMIN, COMPOSE, DOMAIN, type MailHost, mailHost } from "./mailu-host.ts";

let mail: MailHost;
beforeAll(async () => {
  mail = await mailHost();
});
afterAll(() => mail.close());

const user = async (email = ADMIN) =>
  (await mail.call("GET", `/user/${email}`)).body as Record<string, unknown>;

describe("Mailu's API on a lab host answers", () => {
  const created = { email: "new@acme.example", raw_password: "secret-1" };
  const cases: [method: string, path: string, body: unknown, status: number, says: RegExp][] = [
    [
      "POST",
      "/domain",
      { name: "other.example", max_users: 5 },
      200,
      /"code":200.*other.example has been created/,
    ],
    ["POST", "/domain", { name: "other.example" }, 409, /Duplicate domain name other.example/],
    ["POST", "/domain", { name: "no domain" }, 400, /not a valid domain/],
    [
      "POST",
      "/domain",
      { name: "x.example", max_users: "5" },
      400,
      /"errors":\{"max_users":".*not of type 'integer'"\}/,
    ],
    ["GET", "/domain/absent.example", undefined, 404, /absent.example does not exist/],
    ["POST", "/domain/absent.example/dkim", undefined, 404, /does not exist/],
    ["POST", "/user", created, 200, /new@acme.example has been created/],
    ["POST", "/user", created, 409, /already exists/],
    ["POST", "/user", { email: "a@absent.example", raw_password: "x" }, 404, /absent.example does not exist/],
    ["POST", "/user", { email: "b@acme.example" }, 400, /'raw_password' is a required property/],
    ["POST", "/user", { email: "nobody", raw_password: "x" }, 400, /not a valid email address/],
    ["POST", "/user", "{half", 400, /could not understand/],
    ["GET", "/user/absent@acme.example", undefined, 404, /cannot be found/],
    ["PATCH", "/user/absent@acme.example", { enabled: true }, 404, /cannot be found/],
    ["PATCH", "/user/new@acme.example", { enabled: "yes" }, 400, /not of type 'boolean'/],
    ["PATCH", "/user/new@acme.example", { comment: "hello" }, 200, /has been updated/],
    ["DELETE", "/user/new@acme.example", undefined, 200, /has been deleted/],
    ["POST", "/token", { email: "absent@acme.example" }, 404, /cannot be found/],
    [
      "POST",
      "/token",
      { email: ADMIN, AuthorizedIP: ["anywhere"] },
      400,
      /AuthorizedIP anywhere .* is invalid/,
    ],
    ["DELETE", "/token/99", undefined, 404, /cannot be found for id 99/],
    ["POST", `/domain/${DOMAIN}/manager`, { user_email: "absent@acme.example" }, 404, /does not exist/],
    ["POST", `/domain/${DOMAIN}/manager`, { user_email: ADMIN }, 200, /has been added as manager/],
    ["POST", `/domain/${DOMAIN}/manager`, { user_email: ADMIN }, 409, /already a manager/],
    ["GET", `/domain/${DOMAIN}/manager/${ADMIN}`, undefined, 200, /"user_email":null/],
    ["GET", `/domain/${DOMAIN}/manager`, undefined, 500, /Internal Server Error/],
    ["DELETE", `/domain/${DOMAIN}/manager/${ADMIN}`, undefined, 200, /has been removed as a manager/],
    ["DELETE", `/domain/${DOMAIN}/manager/${ADMIN}`, undefined, 404, /is not a manager/],
    ["POST", `/domain/${DOMAIN}/manager/${ADMIN}`, {}, 404, /requested URL was not found/],
    ["GET", "/nowhere", undefined, 404, /requested URL was not found/],
  ];
  for (const [method, path, body, status, says] of cases) {
    test(`${status} to ${method} ${path} ${body === undefined ? "" : JSON.stringify(body)}`, async () => {
      const answer = await mail.call(method, path, body);
      expect(answer.status).toBe(status);
      expect(JSON.stringify(answer.body)).toMatch(says);
    });
  }
});

describe("a 200 of Mailu's proves nothing:", () => {
  test("a field that it doesn't know changes nothing", async () => {
    const before = await user();
    expect(
      (await mail.call("PATCH", `/user/${ADMIN}`, { rawPassword: "other", Enabled: false })).status,
    ).toBe(200);
    expect(await user()).toEqual(before);
    expect(await mail.smtp(ADMIN, "first-password")).toBe(235);
  });

  test("an empty password is accepted, and works", async () => {
    await mail.call("POST", "/user", { email: "empty@acme.example", raw_password: "x" });
    expect((await mail.call("PATCH", "/user/empty@acme.example", { raw_password: "" })).status).toBe(200);
    expect((await mail.call("PATCH", "/user/empty@acme.example", { raw_password: "a" })).status).toBe(200);
    expect(await mail.smtp("empty@acme.example", "a")).toBe(235);
  });
});

describe("what Mailu's API shows", () => {
  test("a user with the password's hash, which changes with the password and is not the password", async () => {
    const first = await user();
    expect(first.password).toMatch(/^\$scrypt\$/);
    await mail.call("PATCH", `/user/${ADMIN}`, { raw_password: "first-password" });
    const second = await user();
    expect(second.password).not.toBe(first.password);
    expect(JSON.stringify(second)).not.toContain("first-password");
  });

  test("an app token once, and its record from then on", async () => {
    const made = (await mail.call("POST", "/token", { email: ADMIN, comment: "phone" })).body as Record<
      string,
      string
    >;
    expect(made.token).toMatch(/^[0-9a-f]{32}$/);
    const listed = (await mail.call("GET", `/tokenuser/${ADMIN}`)).body as Record<string, unknown>[];
    expect(listed).toMatchObject([{ id: made.id, email: ADMIN, comment: "phone" }]);
    expect(JSON.stringify(listed)).not.toContain(made.token);
    expect((await mail.call("DELETE", `/token/${made.id}`)).status).toBe(200);
    expect((await mail.call("GET", `/tokenuser/${ADMIN}`)).body).toEqual([]);
    expect(await mail.smtp(ADMIN, String(made.token))).toBe(535);
  });

  test("DNS records, without DKIM and DMARC until a key was made", async () => {
    const domain = (await mail.call("GET", `/domain/${DOMAIN}`)).body as Record<string, unknown>;
    expect(domain.dns_mx).toBe("acme.example. 600 IN MX 10 mail.acme.example.");
    expect(domain.dns_spf).toBe('acme.example. 600 IN TXT "v=spf1 mx a:mail.acme.example ~all"');
    expect(domain).toMatchObject({ dns_dkim: null, dns_dmarc: null });
    expect(domain.dns_autoconfig).toContain(
      "_submissions._tcp.acme.example. 600 IN SRV 10 1 465 mail.acme.example.",
    );
  });
});

describe("DKIM", () => {
  const record = async () =>
    ((await mail.call("GET", `/domain/${DOMAIN}`)).body as { dns_dkim: string }).dns_dkim;
  const file = `/mailu/dkim/${DOMAIN}.dkim.key`;

  test("gets a new key at every POST, as a PKCS#8 file whose public half is the record's", async () => {
    await mail.call("POST", `/domain/${DOMAIN}/dkim`);
    const first = await record();
    await mail.call("POST", `/domain/${DOMAIN}/dkim`);
    const second = await record();
    expect(second).not.toBe(first);
    expect(second).toMatch(
      /^dkim\._domainkey\.acme\.example\. 600 IN TXT "v=DKIM1; k=rsa; p=[^"]{1,235}" "[^"]+"$/,
    );
    const pem = readFileSync(join(mail.host.disk, file), "utf8");
    expect(pem).toMatch(/^-----BEGIN PRIVATE KEY-----/);
  });

  test("sees a key that was put back only when the process starts", async () => {
    const before = await record();
    const options = { modulusLength: 2048, publicKeyEncoding: { type: "spki", format: "der" } } as const;
    const { privateKey, publicKey } = generateKeyPairSync("rsa", {
      ...options,
      privateKeyEncoding: { type: "pkcs8", format: "pem" },
    });
    await mail.run(`cat >${file}`, privateKey);
    expect(await record()).toBe(before);
    await mail.run(`${COMPOSE} restart admin && ${COMPOSE} up -d --wait`);
    expect((await record()).replace(/" "/, "")).toContain(publicKey.toString("base64"));
  });
});

describe("the API token", () => {
  test("is asked for, and a missing one counts for nothing", async () => {
    for (let attempt = 0; attempt < 6; attempt++) {
      expect(await mail.call("GET", "/domain", undefined, { token: null, from: "127.41.0.1" })).toEqual({
        status: 401,
        body: { message: "A valid Authorization header is mandatory" },
      });
    }
    expect((await mail.call("GET", "/domain", undefined, { from: "127.41.0.1" })).status).toBe(200);
  });

  test("five times wrong from one /24 locks the right one out there, and nowhere else", async () => {
    for (let attempt = 1; attempt <= 5; attempt++) {
      const from = `127.42.0.${attempt}`;
      expect(await mail.call("GET", "/domain", undefined, { token: "wrong", from })).toEqual({
        status: 403,
        body: { message: "Invalid API token" },
      });
    }
    expect((await mail.call("GET", "/domain", undefined, { from: "127.42.0.9" })).status).toBe(429);
    expect((await mail.call("GET", "/domain", undefined, { from: "127.42.1.9" })).status).toBe(200);
  });

  test("is read when the process starts, and not again before the next start", async () => {
    await mail.run("cat >/opt/mailu/secrets/api_token", "another-api-token");
    const status = async (token: string) =>
      (await mail.call("GET", "/domain", undefined, { token, from: "127.43.0.1" })).status;
    expect(await status("another-api-token")).toBe(403);
    await mail.run(`${COMPOSE} up -d --wait`);
    expect(await status("another-api-token")).toBe(403);
    await mail.run(`${COMPOSE} up -d --wait --force-recreate admin`);
    expect(await status("another-api-token")).toBe(200);
  });
});
