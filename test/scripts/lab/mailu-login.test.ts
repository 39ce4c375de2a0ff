import { readdirSync } from "node:fs";
import { request } from "node:https";
import { connect } from "node:net";
import { join } from "node:path";
import { ImapFlow } from "imapflow";
import { createTransport } from "nodemailer";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ADMIN, COMPOSE, DOMAIN, type MailHost, mailHost, pemPair, SERVER_NAME } from "./mailu-host.ts";

let mail: MailHost;
beforeAll(async () => {
  mail = await mailHost();
});
afterAll(() => mail.close());

const setPassword = (password: string, email = ADMIN) =>
  mail.call("PATCH", `/user/${email}`, { raw_password: password });
const insecure = { rejectUnauthorized: false, servername: SERVER_NAME };

/** A client's whole talk on a plain port: sends each line after an answer, returns all that came back. */
const talk = (port: number, lines: string[]) =>
  new Promise<string>((done, fail) => {
    const socket = connect(port, mail.host.address);
    let heard = "";
    socket.on("data", (data) => {
      heard += data.toString();
      const next = lines.shift();
      if (next === undefined) socket.end();
      else socket.write(`${next}\r\n`);
    });
    socket.once("close", () => done(heard)).once("error", fail);
  });

const web = (
  path: string,
  options: { method?: string; cookie?: string; form?: Record<string, string> } = {},
) =>
  new Promise<{ status: number; body: string; cookie: string }>((done, fail) => {
    const headers = { cookie: options.cookie ?? "", "content-type": "application/x-www-form-urlencoded" };
    const url = `https://${mail.host.address}${path}`;
    const sent = request(
      url,
      { ...insecure, method: options.method ?? "GET", headers, agent: false },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () =>
          done({
            status: response.statusCode ?? 0,
            body: Buffer.concat(chunks).toString(),
            cookie: response.headers["set-cookie"]?.[0]?.split(";")[0] ?? "",
          }),
        );
      },
    );
    sent.once("error", fail).end(new URLSearchParams(options.form ?? {}).toString());
  });

describe("a login on a lab host", () => {
  test("works with the right password and is refused with a wrong one, over SMTP and IMAP", async () => {
    expect(await mail.smtp(ADMIN, "first-password")).toBe(235);
    expect(await mail.imap(ADMIN, "first-password")).toBe("ok");
    expect(await mail.smtp(ADMIN, "first-passwor")).toBe(535);
    expect(await mail.imap(ADMIN, "first-passwor")).toBe("Authentication credentials invalid");
    expect(await mail.smtp("nobody@acme.example", "first-password")).toBe(535);
  });

  test("takes any characters and more than 72 bytes, by IMAP literals as well", async () => {
    const odd = `${"ä\"\\ {3}'$x".repeat(9)}end`;
    await setPassword(odd);
    expect(await mail.smtp(ADMIN, odd)).toBe(235);
    expect(await mail.imap(ADMIN, odd)).toBe("ok");
    expect(await mail.smtp(ADMIN, odd.slice(0, -1))).toBe(535);
    await setPassword("first-password");
  });

  test("works with the new password at once, and with the old no longer", async () => {
    await setPassword("second-password");
    expect(await mail.smtp(ADMIN, "second-password")).toBe(235);
    expect(await mail.imap(ADMIN, "first-password")).toMatch(/invalid/);
    await setPassword("first-password");
  });

  test("is closed for a disabled user, and to IMAP alone where that is switched off", async () => {
    await mail.call("PATCH", `/user/${ADMIN}`, { enabled: false });
    expect(await mail.smtp(ADMIN, "first-password")).toBe(535);
    await mail.call("PATCH", `/user/${ADMIN}`, { enabled: true, enable_imap: false });
    expect(await mail.smtp(ADMIN, "first-password")).toBe(235);
    expect(await mail.imap(ADMIN, "first-password")).toMatch(/invalid/);
    await mail.call("PATCH", `/user/${ADMIN}`, { enable_imap: true });
  });
});

describe("a password change", () => {
  test("leaves an app token working", async () => {
    const { token } = (await mail.call("POST", "/token", { email: ADMIN })).body as { token: string };
    await setPassword("third-password");
    expect(await mail.smtp(ADMIN, token)).toBe(235);
    expect(await mail.imap(ADMIN, token)).toBe("ok");
    await setPassword("first-password");
  });

  test("doesn't cut an open IMAP or submission connection", async () => {
    const auth = { user: ADMIN, pass: "first-password" };
    const imap = new ImapFlow({
      host: mail.host.address,
      port: 993,
      secure: true,
      auth,
      tls: insecure,
      logger: false,
    });
    await imap.connect();
    const smtp = createTransport({
      host: mail.host.address,
      port: 465,
      secure: true,
      auth,
      tls: insecure,
      pool: true,
    });
    const send = () => smtp.sendMail({ from: ADMIN, to: "x@y.example", subject: "s", text: "t" });
    await send();
    await setPassword("third-password");
    expect(await imap.status("INBOX", { messages: true })).toMatchObject({ messages: 0 });
    expect((await send()).accepted).toEqual(["x@y.example"]);
    await imap.logout();
    smtp.close();
    await setPassword("first-password");
  });

  test("ends web sessions", async () => {
    expect(await web("/webmail")).toMatchObject({ status: 200, body: expect.stringContaining("Sign in") });
    const form = { email: ADMIN, pw: "first-password" };
    const { status, cookie } = await web("/sso/login", { method: "POST", form });
    expect(status).toBe(302);
    expect((await web("/webmail", { cookie })).body).toContain(ADMIN);
    await setPassword("third-password");
    expect((await web("/webmail", { cookie })).body).toContain("Sign in");
    await setPassword("first-password");
  });
});

describe("mail", () => {
  test("from a logged-in user reaches a mailbox here, the queue for elsewhere, and bears the own address only", async () => {
    const auth = { user: ADMIN, pass: "first-password" };
    const smtp = createTransport({ host: mail.host.address, port: 465, secure: true, auth, tls: insecure });
    await smtp.sendMail({ from: ADMIN, to: [ADMIN, "x@y.example"], subject: "hello", text: "t" });
    expect(readdirSync(join(mail.host.disk, "mailu/mail", ADMIN, "new"))).toHaveLength(1);
    await expect(smtp.sendMail({ from: `boss@${DOMAIN}`, to: ADMIN, text: "t" })).rejects.toThrow(
      /not owned by user/,
    );
    smtp.close();
  });

  test("on port 25 is taken for own users only, and AUTH is answered 502", async () => {
    const hello = ["EHLO x.example", "MAIL FROM:<x@y.example>"];
    expect(await talk(25, [...hello, `RCPT TO:<${ADMIN}>`, "DATA", "Subject: x\r\n\r\nhi\r\n."])).toContain(
      "queued",
    );
    expect(await talk(25, [...hello, "RCPT TO:<x@y.example>"])).toContain("554 5.7.1 Relay access denied");
    const plain = Buffer.from(`\0${ADMIN}\0first-password`).toString("base64");
    expect(await talk(25, ["EHLO x.example", `AUTH PLAIN ${plain}`])).toContain(
      "502 5.5.1 AUTH not supported",
    );
  });

  test("on port 587 takes a login after STARTTLS only", async () => {
    const auth = { user: ADMIN, pass: "first-password" };
    const options = { host: mail.host.address, port: 587, auth, tls: insecure };
    await mail.run(
      `sed -i 's/"465:465"/"465:465", "587:587"/' /opt/mailu/docker-compose.yml; ${COMPOSE} up -d --wait`,
    );
    const secure = createTransport({ ...options, requireTLS: true });
    expect(await secure.verify()).toBe(true);
    secure.close();
    const plain = createTransport({ ...options, ignoreTLS: true });
    await expect(plain.verify()).rejects.toThrow(/538|STARTTLS|TLS/);
    plain.close();
  });
});

describe("the web", () => {
  test("redirects from port 80 to HTTPS", async () => {
    const head = await new Promise<string>((done) => {
      const socket = connect(80, mail.host.address, () =>
        socket.write("GET /x HTTP/1.0\r\nHost: mail.acme.example\r\n\r\n"),
      );
      socket.once("data", (data) => {
        done(data.toString());
        socket.destroy();
      });
    });
    expect(head).toMatch(/301[\s\S]*location: https:\/\/mail\.acme\.example\/x/i);
  });

  test("leaves MTA-STS to nginx's overrides, which it reads when it starts", async () => {
    const path = "/.well-known/mta-sts.txt";
    expect((await web(path)).status).toBe(404);
    await mail.run(
      "mkdir -p /mailu/overrides/nginx; cat >/mailu/overrides/nginx/mta-sts.conf",
      `location = ${path} {\n  default_type text/plain;\n  return 200 "version: STSv1\\r\\nmode: enforce\\r\\n";\n}\n`,
    );
    await mail.run(`${COMPOSE} restart front; ${COMPOSE} up -d --wait`);
    expect(await web(path)).toMatchObject({ status: 200, body: "version: STSv1\r\nmode: enforce\r\n" });
  });
});

describe("Mailu's limits", () => {
  test("count five unknown user names from one /24, then say 'later' to the right password as well", async () => {
    for (let n = 1; n <= 5; n++) {
      expect(await mail.smtp("nobody1@acme.example", "x", "127.51.0.7")).toBe(535);
      expect(await mail.smtp(`nobody${n}@acme.example`, "x", `127.51.0.${n}`)).toBe(535);
    }
    expect(await mail.smtp(ADMIN, "first-password", "127.51.0.9")).toBe(451);
    expect(await mail.imap(ADMIN, "first-password", "127.51.0.9")).toMatch(/rate-limit/);
    expect(await mail.smtp(ADMIN, "first-password", "127.51.1.9")).toBe(235);
    expect((await mail.call("GET", "/domain", undefined, { from: "127.51.0.9" })).status).toBe(429);
  });

  test("let an app token through, and whatever looks like one", async () => {
    const { token } = (await mail.call("POST", "/token", { email: ADMIN })).body as { token: string };
    expect(await mail.smtp(ADMIN, token, "127.51.0.9")).toBe(235);
    await setPassword("0123456789abcdef0123456789abcdef");
    expect(await mail.smtp(ADMIN, "0123456789abcdef0123456789abcdef", "127.51.0.8")).toBe(235);
    await setPassword("first-password");
  });

  test("close a user to everyone after fifty distinct wrong passwords, a repeated one counting once", async () => {
    const victim = "victim@acme.example";
    await mail.call("POST", "/user", { email: victim, raw_password: "right" });
    for (let n = 1; n <= 49; n++) await mail.imap(victim, `wrong-${n}`, "127.52.0.1");
    expect(await mail.smtp(victim, "wrong-1", "127.52.0.1")).toBe(535);
    expect(await mail.imap(victim, "wrong-50", "127.52.0.1")).toMatch(/invalid/);
    expect(await mail.smtp(victim, "right", "127.53.0.1")).toBe(451);
    expect(await mail.smtp(ADMIN, "first-password", "127.53.0.1")).toBe(235);
    // A success frees its address, also for users who are closed to everyone else.
    expect(await mail.smtp(victim, "right", "127.53.0.1")).toBe(235);
    expect(await mail.smtp(victim, "right", "127.53.0.2")).toBe(451);
    // Redis keeps the counts, so a restart is no way out; an exempt network is.
    await mail.configure({ AUTH_RATELIMIT_EXEMPTION: "127.54.0.0/16,10.0.0.0/8" });
    expect(await mail.smtp(victim, "right", "127.53.0.2")).toBe(451);
    expect(await mail.smtp(victim, "right", "127.54.7.7")).toBe(235);
  });

  test("never count against an exempt network", async () => {
    const from = "127.54.0.1";
    for (let n = 0; n < 7; n++) await mail.call("GET", "/domain", undefined, { token: "wrong", from });
    expect((await mail.call("GET", "/domain", undefined, { from })).status).toBe(200);
  });
});

describe("INITIAL_ADMIN_*", () => {
  const initial = (password: string, mode?: string) => ({
    INITIAL_ADMIN_ACCOUNT: "chief",
    INITIAL_ADMIN_DOMAIN: DOMAIN,
    INITIAL_ADMIN_PW: password,
    ...(mode === undefined ? {} : { INITIAL_ADMIN_MODE: mode }),
  });
  const chief = `chief@${DOMAIN}`;

  test("makes the admin; with `ifmissing` the password changed since stays", async () => {
    await mail.configure(initial("from-env", "ifmissing"));
    expect(await mail.smtp(chief, "from-env")).toBe(235);
    await setPassword("changed", chief);
    await mail.run(`${COMPOSE} restart admin && ${COMPOSE} up -d --wait`);
    expect(await mail.smtp(chief, "changed")).toBe(235);
  });

  test("with `update` brings the old password back at every start", async () => {
    await mail.configure(initial("from-env", "update"));
    expect(await mail.smtp(chief, "changed")).toBe(535);
    expect(await mail.smtp(chief, "from-env")).toBe(235);
  });

  test("does nothing with a password that holds a quotation mark", async () => {
    await mail.configure(initial(`"it's"`, "update"));
    expect(await mail.smtp(chief, "it's")).toBe(535);
  });
});

describe("the certificate", () => {
  test("is taken up when it changes, without a restart, on every TLS port", async () => {
    const next = pemPair(mail.dir, "next");
    await mail.run(
      "umask 077; cat >/mailu/certs/new.pem && mv /mailu/certs/new.pem /mailu/certs/key.pem",
      next.key,
    );
    await mail.run("cat >/mailu/certs/new.pem && mv /mailu/certs/new.pem /mailu/certs/cert.pem", next.cert);
    for (const port of [443, 465, 993]) {
      const shown = async () =>
        (
          await mail.run(
            `openssl s_client -connect ${mail.host.address}:${port} </dev/null 2>/dev/null | openssl x509`,
          )
        ).stdout;
      await expect.poll(shown, { timeout: 15_000 }).toBe(next.cert);
    }
    expect(await mail.smtp(ADMIN, "first-password")).toBe(235);
  });
});
