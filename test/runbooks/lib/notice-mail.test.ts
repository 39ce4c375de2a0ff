import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type NewNotice, Notice } from "../../../runbooks/lib/notice.ts";
import { Channels } from "../../../runbooks/lib/notify-channels.ts";
import { redact } from "../../../runbooks/lib/redact.ts";
import { header, headers, Relay, type RelayOptions, reply } from "./fixtures/relay.ts";
import { FROM, newNotice, ONCALL, toldSettings } from "./fixtures/told.ts";

const QUICK = { attempt: 15_000, pauses: [10, 20], dead: 0 };
const LOGIN = { user: "recovery", pass: "relay-pa55word-of-mine" };
let folder: string;
let relay: Relay;
let pair: { cert: string; key: string };

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "notice-mail-"));
  const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  const ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  execFileSync("openssl", ["req", "-x509", ...ec, ...subject, "-keyout", key, "-out", cert], {
    stdio: "ignore",
  });
  pair = { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
  writeFileSync(join(folder, "relay-password"), `${LOGIN.pass}\n`);
});
afterAll(() => rmSync(folder, { recursive: true }));

const started: Relay[] = [];
async function start(options: RelayOptions = {}): Promise<void> {
  relay = await Relay.start(options);
  started.push(relay);
}
beforeEach(() => start());
afterEach(async () => {
  await Promise.all(started.splice(0).map((one) => one.stop()));
});

const stored = (change: Partial<NewNotice> = {}) =>
  Notice.parse({ ...newNotice(change), created: "2026-01-31T14:00:00.000Z" });

/** Sends it once to every channel; what each one that failed says. */
async function send(notice: Notice, keys = `host: 127.0.0.1, tls: none`, env: NodeJS.ProcessEnv = {}) {
  const relayYaml = `{port: ${relay.port}, ${keys}}`;
  const { notify } = toldSettings(folder, `{from: ${FROM}, security: [${ONCALL}], relay: ${relayYaml}}`);
  if (notify === undefined) throw new Error("there is a notify section");
  const outcome = await new Channels(notify, env, QUICK).bring(notice);
  return Object.fromEntries([...outcome].filter(([, why]) => why !== undefined));
}

describe("a notice by mail", () => {
  it("goes to the security team with what a mail program and a filter look for", async () => {
    const notice = stored();
    expect(await send(notice)).toEqual({});
    const [mail] = relay.mails;
    expect(mail).toMatchObject({ from: FROM, to: [ONCALL] });
    expect(Object.fromEntries(headers(mail?.raw ?? ""))).toMatchObject({
      From: FROM,
      To: ONCALL,
      Subject: notice.subject,
      "Message-ID": `<${notice.event_id}@penguinmails.example>`,
      "Idempotency-Key": notice.event_id,
      "Auto-Submitted": "auto-generated",
      Date: "Sat, 31 Jan 2026 14:00:00 +0000",
      "Content-Type": expect.stringMatching(/^text\/plain/),
    });
    expect(mail?.raw.split("\r\n\r\n").slice(1).join("\r\n\r\n").trim()).toBe(
      notice.text.replaceAll("\n", "\r\n"),
    );
  });

  it("is the same to the last byte when it is sent again", async () => {
    const notice = stored({ text: "Größe: 5 €\n.\nFrom me" });
    await send(notice);
    await send(notice);
    expect(relay.mails).toHaveLength(2);
    expect(relay.mails[1]?.raw).toBe(relay.mails[0]?.raw);
  });

  it("goes to each of a tenant's addresses on its own, and to the security team only as a copy", async () => {
    const to = ["it@acme.example", "boss@people.example"];
    await send(stored({ audience: "tenant", to }));
    expect(relay.mails.map((mail) => mail.to).sort()).toEqual([["boss@people.example"], ["it@acme.example"]]);
    for (const mail of relay.mails) expect(header(mail.raw, "To")).toBe(mail.to[0]);
    expect(new Set(relay.mails.map(({ raw }) => header(raw, "Message-ID"))).size).toBe(1);
    relay.mails.length = 0;
    await send(stored({ audience: "tenant", to, copy_to_security: true }));
    expect(relay.mails.map((mail) => mail.to[0]).sort()).toEqual([...to, ONCALL].sort());
  });

  it("can't be given headers, recipients or markup by its texts", async () => {
    const notice = stored({
      subject: "reset\r\nBcc: mallory@evil.example\r\n\r\n<script>alert(1)</script>",
      text: "<b>hi</b>\r\n.\r\nQUIT\r\nMAIL FROM:<x@evil.example>\r\nRCPT TO:<mallory@evil.example>",
      incident_id: "INC-1\r\nX-Evil: yes",
    });
    expect(await send(notice)).toEqual({});
    expect(relay.mails).toHaveLength(1);
    const [mail] = relay.mails;
    expect(mail?.to).toEqual([ONCALL]);
    expect(headers(mail?.raw ?? "").map(([name]) => name)).not.toContain("Bcc");
    expect(headers(mail?.raw ?? "").map(([name]) => name)).not.toContain("X-Evil");
    expect(header(mail?.raw ?? "", "Subject")).toBe(
      "reset Bcc: mallory@evil.example <script>alert(1)</script>",
    );
    expect(header(mail?.raw ?? "", "Content-Type")).toMatch(/^text\/plain/);
    expect(mail?.raw).toContain("\r\n.\r\nQUIT");
  });

  it.each<["implicit" | "starttls"]>([["implicit"], ["starttls"]])(
    "is encrypted and logged in with %s TLS",
    async (tls) => {
      await start({ tls, pair, login: LOGIN });
      const known = getCACertificates("default");
      setDefaultCACertificates([...known, pair.cert]);
      try {
        const keys = `host: localhost, tls: ${tls}, username: recovery, password_file: relay-password`;
        expect(await send(stored(), keys)).toEqual({});
      } finally {
        setDefaultCACertificates(known);
      }
      expect(relay.mails).toMatchObject([{ user: "recovery", encrypted: true }]);
    },
  );

  it.each<["implicit" | "starttls"]>([["implicit"], ["starttls"]])(
    "isn't handed, with %s TLS, to a relay whose certificate nobody vouches for",
    async (tls) => {
      await start({ tls, pair, login: LOGIN });
      const keys = `host: localhost, tls: ${tls}, username: recovery, password_file: relay-password`;
      expect(await send(stored(), keys)).toEqual({
        [`mail:${ONCALL}`]: expect.stringContaining("certificate"),
      });
      expect(relay.mails).toEqual([]);
      expect(relay.logins).toBe(0);
    },
  );

  it("isn't sent in the clear where the relay leaves STARTTLS out", async () => {
    await start({ tls: "none", login: LOGIN });
    const keys = "host: localhost, tls: starttls, username: recovery, password_file: relay-password";
    expect(Object.keys(await send(stored(), keys))).toEqual([`mail:${ONCALL}`]);
    expect(relay.mails).toEqual([]);
    expect(relay.logins).toBe(0);
  });

  it("logs in with a password from a variable, and tries a wrong one once only", async () => {
    await start({ login: LOGIN });
    const keys = "host: 127.0.0.1, tls: none, username: recovery, password_env: RELAY_PASSWORD";
    expect(await send(stored(), keys, { RELAY_PASSWORD: LOGIN.pass })).toEqual({});
    expect(relay.logins).toBe(1);
    const failed = await send(stored(), keys, { RELAY_PASSWORD: "another-pa55word" });
    expect(failed).toEqual({ [`mail:${ONCALL}`]: expect.stringContaining("535") });
    expect(relay.logins).toBe(2);
    expect(redact("another-pa55word")).toBe("[redacted]");
  });

  it.each<[string, string, string]>([
    ["file", "password_file: no-such-file", "no-such-file can't be read"],
    ["variable", "password_env: NO_SUCH_VARIABLE", "the variable NO_SUCH_VARIABLE is empty"],
  ])("says which %s the relay's password was looked for in", async (_, key, says) => {
    const failed = await send(stored(), `host: 127.0.0.1, tls: none, username: u, ${key}`);
    expect(failed).toEqual({ [`mail:${ONCALL}`]: expect.stringContaining(says) });
  });

  it.each<[string, string]>([
    ["by its name", "LOCALHOST."],
    ["by its address", "127.0.0.1"],
  ])("isn't handed to the mail host of the tenant that it is about, known %s", async (_, host) => {
    const failed = await send(stored({ not_via: ["mail.acme.example", host] }), "host: localhost, tls: none");
    expect(failed).toEqual({ [`mail:${ONCALL}`]: expect.stringContaining("mail host of the tenant") });
    expect(relay.mails).toEqual([]);
    expect(await send(stored({ not_via: ["192.0.2.1"] }), "host: localhost, tls: none")).toEqual({});
  });

  it("is tried again after a passing refusal, and not after a final one", async () => {
    let refusals = 0;
    relay.onMail = () => {
      refusals += 1;
      if (refusals < 3) throw reply(451, "4.7.1 greylisted");
    };
    expect(await send(stored())).toEqual({});
    expect(refusals).toBe(3);
    relay.refused.set(ONCALL, 550);
    relay.refused.set("it@people.example", 450);
    const failed = await send(
      stored({ audience: "tenant", to: ["it@people.example"], copy_to_security: true }),
    );
    expect(failed).toEqual({
      [`mail:${ONCALL}`]: expect.stringContaining("550"),
      "mail:it@people.example": expect.stringContaining("450"),
    });
  });

  it("shows nothing of the relay's password, even when the relay repeats it", async () => {
    await start({ login: LOGIN });
    relay.onMail = () => {
      throw reply(554, `\u001b[31mspam ${LOGIN.pass} ${Buffer.from(LOGIN.pass).toString("base64")}`);
    };
    const keys = "host: 127.0.0.1, tls: none, username: recovery, password_file: relay-password";
    const [why = ""] = Object.values(await send(stored(), keys));
    expect(why).toContain("spam [redacted] [redacted]");
    expect(why).not.toContain("\u001b");
  });
});
