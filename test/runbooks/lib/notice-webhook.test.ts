import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type NewNotice, Notice } from "../../../runbooks/lib/notice.ts";
import { Channels } from "../../../runbooks/lib/notify-channels.ts";
import { redact } from "../../../runbooks/lib/redact.ts";
import { Hook } from "./fixtures/hook.ts";
import { FROM, genericHook, newNotice, SIGNING_KEY, toldSettings } from "./fixtures/told.ts";

const QUICK = { attempt: 15_000, pauses: [10, 20], dead: 0 };
const SLACK_PATH = "/services/T0000/B0000/Abcdefghijklmnop01234567";
let folder: string;
let hook: Hook;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "notice-webhook-"));
});
afterAll(() => rmSync(folder, { recursive: true }));
beforeEach(async () => {
  hook = await Hook.start();
  writeFileSync(join(folder, "slack-url"), `${hook.url}${SLACK_PATH}\n`);
});
afterEach(() => hook.stop());

const SLACK = "{url_file: slack-url, format: slack}";
const stored = (change: Partial<NewNotice> = {}) =>
  Notice.parse({ ...newNotice(change), created: "2026-01-31T14:00:00.000Z" });

async function send(notice: Notice, webhook: string, env: NodeJS.ProcessEnv = {}) {
  const section = `{from: ${FROM}, relay: {host: 127.0.0.1, tls: none}, webhooks: [${webhook}]}`;
  const { notify } = toldSettings(folder, section);
  if (notify === undefined) throw new Error("there is a notify section");
  return [...(await new Channels(notify, env, QUICK).bring(notice))];
}
const whyOf = async (...args: Parameters<typeof send>) => (await send(...args))[0]?.[1];

/** As docs/notifications.md tells a receiver to compute it, by another program. */
function opensslHmac(key: string, text: string): string {
  const args = ["dgst", "-sha256", "-hmac", key, "-r"];
  return execFileSync("openssl", args, { input: text, encoding: "utf8" }).slice(0, 64);
}

describe("a notice to a generic webhook", () => {
  it("is JSON with a signature over its time and its bytes", async () => {
    const notice = stored({ text: "Größe <&>" });
    expect(await whyOf(notice, genericHook(hook.url))).toBeUndefined();
    const [post] = hook.posts;
    const {
      to: _1,
      audience: _2,
      copy_to_security: _3,
      not_via: _4,
      delivered: _5,
      failed: _6,
      ...told
    } = notice;
    expect(JSON.parse(post?.body ?? "")).toEqual(told);
    expect(post?.headers["content-type"]).toBe("application/json");
    expect(post?.headers["idempotency-key"]).toBe(notice.event_id);
    const time = String(post?.headers["x-timestamp"]);
    expect(Math.abs(Number(time) - Date.now() / 1000)).toBeLessThan(10);
    expect(post?.headers["x-signature"]).toBe(`sha256=${opensslHmac(SIGNING_KEY, `${time}.${post?.body}`)}`);
  });

  it("is signed with a key from a variable, and isn't sent where that is empty", async () => {
    const webhook = `{url: '${hook.url}', format: generic, secret_env: HOOK_KEY}`;
    expect(await whyOf(stored(), webhook, { HOOK_KEY: "from-a-variable" })).toBeUndefined();
    const [post] = hook.posts;
    const time = String(post?.headers["x-timestamp"]);
    const expected = opensslHmac("from-a-variable", `${time}.${post?.body}`);
    expect(post?.headers["x-signature"]).toBe(`sha256=${expected}`);
    expect(await whyOf(stored(), webhook)).toBe("the variable HOOK_KEY is empty");
    expect(hook.posts).toHaveLength(1);
  });

  it.each([500, 503, 429, 408])("is tried again after %i", async (status) => {
    hook.answer = () => ({ status: hook.posts.length < 3 ? status : 200 });
    expect(await whyOf(stored(), genericHook(hook.url))).toBeUndefined();
    expect(hook.posts).toHaveLength(3);
    expect(new Set(hook.posts.map(({ headers }) => headers["idempotency-key"])).size).toBe(1);
  });

  it.each([400, 401, 403, 404, 410, 413])("is tried once where the answer is %i", async (status) => {
    hook.answer = () => ({ status, body: "<html>\u001b[2J a whole page" });
    expect(await whyOf(stored(), genericHook(hook.url))).toBe(`HTTP ${status}`);
    expect(hook.posts).toHaveLength(1);
  });

  it("doesn't follow a redirect to where nobody sent it", async () => {
    const elsewhere = await Hook.start();
    hook.answer = () => ({ status: 307, headers: { Location: elsewhere.url } });
    expect(await whyOf(stored(), genericHook(hook.url))).toBe("HTTP 307");
    expect(elsewhere.posts).toEqual([]);
    await elsewhere.stop();
  });
});

describe("a notice to Slack", () => {
  const message = () => JSON.parse(hook.posts.at(-1)?.body ?? "");

  it("is a message of plain texts, unsigned, with what there is to know", async () => {
    const notice = stored();
    expect(await whyOf(notice, SLACK)).toBeUndefined();
    expect(hook.posts[0]?.path).toBe(SLACK_PATH);
    expect(hook.posts[0]?.headers["x-signature"]).toBeUndefined();
    expect(hook.posts[0]?.headers["idempotency-key"]).toBe(notice.event_id);
    const { text, mrkdwn, blocks } = message();
    expect([text, mrkdwn]).toEqual([notice.subject, false]);
    expect(blocks[0]).toEqual({
      type: "header",
      text: { type: "plain_text", text: notice.subject, emoji: false },
    });
    expect(blocks[1].text.text).toBe(notice.text);
    expect(blocks[2].fields.map((field: { text: string }) => field.text)).toEqual([
      "Severity: critical",
      "Tenant: acme",
      "Incident: INC-2024-001",
      `Event: ${notice.event_id}`,
    ]);
  });

  it("can't call a channel, link, or write markup by its texts", async () => {
    const evil = "<!channel> <https://evil.example|reset it here> <@U1> & *bold* :tada:";
    const escaped =
      "&lt;!channel&gt; &lt;https://evil.example|reset it here&gt; &lt;@U1&gt; &amp; *bold* :tada:";
    await send(stored({ subject: evil, text: evil, tenant_id: evil, incident_id: evil }), SLACK);
    expect(hook.posts[0]?.body).not.toMatch(/[<>]/);
    const { text, blocks } = message();
    expect(text).toBe(escaped);
    expect(blocks[2].fields.map((field: { text: string }) => field.text)).toContain(`Tenant: ${escaped}`);
    const texts = [blocks[0].text, blocks[1].text, ...blocks[2].fields];
    expect(texts.map(({ type, emoji }) => [type, emoji])).toEqual(texts.map(() => ["plain_text", false]));
  });

  it("keeps to Slack's lengths without cutting an escape or a character in two", async () => {
    await send(stored({ subject: "&".repeat(200), text: `a${"😀".repeat(2000)}` }), SLACK);
    const { blocks } = message();
    expect(blocks[0].text.text).toMatch(/^(&amp;)+…$/);
    expect(blocks[0].text.text.length).toBeLessThanOrEqual(150);
    expect(blocks[0].text.text.length).toBeGreaterThan(140);
    expect(blocks[1].text.text.isWellFormed()).toBe(true);
    expect(blocks[1].text.text.length).toBeLessThanOrEqual(3000);
    await send(stored({ subject: "&".repeat(30), text: "" }), SLACK);
    expect(message().blocks[0].text.text).toBe("&amp;".repeat(30));
    expect(message().blocks[1].text.text).not.toBe("");
  });

  it("that Slack refuses is reported with Slack's own word", async () => {
    hook.answer = () => ({ status: 404, body: "no_service\n" });
    expect(await whyOf(stored(), SLACK)).toBe("HTTP 404 (no_service)");
  });
});

describe("a webhook's secrets", () => {
  it("stay out of what is said about it, its URL's telling part too", async () => {
    hook.answer = ({ path }) => ({ status: 400, body: path.split("/").at(-1) ?? "" });
    const [[channel, why] = []] = await send(stored(), SLACK);
    expect(channel).toBe("webhook:slack-url");
    expect(why).toBe("HTTP 400 ([redacted])");
    expect(redact(`POST ${hook.url}${SLACK_PATH} failed`)).toBe("POST [redacted] failed");
    expect(redact(`path ${SLACK_PATH}`)).toBe("path [redacted]");
    expect(redact("last: Abcdefghijklmnop01234567")).toBe("last: [redacted]");
    await send(stored(), genericHook(`${hook.url}/hooks/penguinmails-recovery`));
    expect(redact("/hooks/penguinmails-recovery")).toBe("[redacted]");
    expect(redact("/var/lib/penguinmails-recovery")).toBe("/var/lib/penguinmails-recovery");
    expect(redact(`key ${SIGNING_KEY}`)).toBe("key [redacted]");
  });

  it("don't turn up in the error of a connection, a wrong file or a token in a query", async () => {
    const token = "tok-0123456789abcdef0123";
    const url = `${hook.url}/in?key=${token}`;
    await hook.stop();
    const [[channel, why] = []] = await send(stored(), genericHook(url));
    expect(channel).toMatch(/^webhook:127\.0\.0\.1-[0-9a-f]{8}$/);
    expect(why).toContain("ECONNREFUSED");
    expect(`${channel} ${why}`).not.toContain(token);
    expect(redact(`?key=${token}`)).toBe("?key=[redacted]");
    expect(redact(`POST ${url}`)).toBe("POST [redacted]");

    writeFileSync(join(folder, "slack-url"), "http://hooks.slack.com/services/not-encrypted-at-all");
    expect(await whyOf(stored(), SLACK)).toBe(
      `${join(folder, "slack-url")} holds no https URL without a password in it`,
    );
    rmSync(join(folder, "slack-url"));
    expect(await whyOf(stored(), SLACK)).toContain(`${join(folder, "slack-url")} can't be read`);
    hook = await Hook.start();
  });
});
