import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Outbox } from "../../runbooks/lib/outbox.ts";
import { Hook } from "./lib/fixtures/hook.ts";
import { Running } from "./lib/fixtures/process.ts";
import { Relay } from "./lib/fixtures/relay.ts";
import { genericHook, newNotice, notifyYaml, ONCALL, toldSettings } from "./lib/fixtures/told.ts";

const MAIN = join(import.meta.dirname, "../../runbooks/main.ts");
/** Nothing answers there. */
const NO_BUCKETS = {
  AWS_ENDPOINT_URL: "http://127.0.0.1:1",
  AWS_REGION: "eu-central-1",
  AWS_ACCESS_KEY_ID: "test",
  AWS_SECRET_ACCESS_KEY: "test",
};
let folder: string;
let relay: Relay;
let hook: Hook;

beforeEach(async () => {
  folder = fs.mkdtempSync(join(tmpdir(), "notify-"));
  [relay, hook] = await Promise.all([Relay.start(), Hook.start()]);
});
afterEach(async () => {
  await Promise.all([relay.stop(), hook.stop()]);
  fs.rmSync(folder, { recursive: true });
});

async function notify(...args: string[]) {
  const env = { ...NO_BUCKETS, RECOVERY_CONFIG: join(folder, "recovery.yaml"), NO_COLOR: "1" };
  const { code, stdout, stderr } = await new Running(MAIN, ["notify", ...args], { env }).ended();
  return { code, stdout, stderr, json: () => JSON.parse(stdout) };
}

const settings = (path = "/in") =>
  toldSettings(folder, notifyYaml(relay.port, `, webhooks: [${genericHook(`${hook.url}${path}`)}]`));
const outboxFiles = () => fs.readdirSync(join(folder, "audit.jsonl.outbox"));
const WEBHOOK = expect.stringMatching(/^webhook:127\.0\.0\.1-[0-9a-f]{8}$/);

describe("runbook notify", () => {
  it("finds nothing waiting where nothing was stored yet, and creates nothing", async () => {
    settings();
    expect(await notify("list")).toMatchObject({ code: 0, stdout: "nothing waits\n" });
    expect(await notify("flush")).toMatchObject({ code: 0, stdout: "0 delivered\n" });
    expect(fs.readdirSync(folder).sort()).toEqual(["recovery.yaml", "signing-key"]);
  });

  it("lists what waits: since when, for whom, and why", async () => {
    const outbox = new Outbox(settings());
    const fresh = newNotice({ created: "2026-02-01T00:00:00.000Z" });
    const failed = newNotice({ created: "2026-01-01T00:00:00.000Z", name: "credential_compromise_response" });
    await outbox.keep(failed);
    hook.answer = () => ({ status: 404 });
    await outbox.deliver();
    await outbox.keep(fresh);
    const { code, json } = await notify("list", "--json");
    expect(code).toBe(0);
    const common = { tenant_id: "acme", event_id: expect.any(String) };
    expect(json().waiting).toEqual([
      {
        ...common,
        name: "credential_compromise_response",
        since: "2026-01-01T00:00:00.000Z",
        missing: [WEBHOOK],
        why: expect.stringMatching(/^webhook:.*: HTTP 404$/),
      },
      {
        ...common,
        name: "smtp_credentials_reset",
        since: "2026-02-01T00:00:00.000Z",
        missing: [`mail:${ONCALL}`, WEBHOOK],
        why: "not tried since it was stored",
      },
    ]);
    const { stdout } = await notify("list");
    expect(stdout.split("\n")[0]).toBe(
      `2026-01-01T00:00:00.000Z  credential_compromise_response  acme  ${failed.event_id}`,
    );
    expect(stdout).toContain(`  missing: mail:${ONCALL}, webhook:`);
    expect(relay.mails).toHaveLength(1);
  });

  it("delivers what waits, and exits with 5 and the next command while something is left", async () => {
    const outbox = new Outbox(settings());
    const notice = newNotice();
    await outbox.keep(notice);
    hook.answer = () => ({ status: 404 });
    const late = await notify("flush", "--json");
    expect(late.code).toBe(5);
    expect(late.json()).toMatchObject({
      delivered: [],
      waiting: [{ event_id: notice.event_id, name: notice.name, why: expect.stringContaining("HTTP 404") }],
      error: { exit_code: 5, next: "mend the cause, then: npx runbook notify flush" },
    });
    expect(relay.mails).toHaveLength(1);
    hook.answer = () => ({ status: 200 });
    const done = await notify("flush", "--json");
    expect(done.json()).toMatchObject({ delivered: [notice.event_id], waiting: [] });
    expect(done.code).toBe(0);
    expect(relay.mails).toHaveLength(1);
    expect(outboxFiles()).toEqual([]);
  });

  it("sends, writes and removes nothing in a dry run", async () => {
    const outbox = new Outbox(settings());
    await outbox.keep(newNotice());
    const before = outboxFiles();
    const { code, stderr, json } = await notify("flush", "--dry-run", "--json");
    expect(code).toBe(0);
    expect(stderr).toContain("would: deliver 1 waiting notices");
    expect(json()).toMatchObject({ delivered: [], waiting: [{ name: "smtp_credentials_reset" }] });
    expect([relay.mails, hook.posts]).toEqual([[], []]);
    expect(outboxFiles()).toEqual(before);
  });

  it("says where nobody is to be told, and leaves what waits", async () => {
    await new Outbox(settings()).keep(newNotice());
    toldSettings(folder, undefined);
    expect((await notify("list", "--json")).json().waiting).toMatchObject([
      { missing: [], why: expect.stringContaining("recovery.yaml has no notify section") },
    ]);
    const { code, stderr } = await notify("flush");
    expect(stderr).toContain("has no notify section");
    expect(code).toBe(5);
    expect(outboxFiles()).toHaveLength(1);
  });

  it("names a bucket that can't be read: a failure of the list, something left for a flush", async () => {
    await new Outbox(settings()).keep(newNotice());
    toldSettings(folder, notifyYaml(relay.port), "some-bucket");
    const list = await notify("list", "--json");
    expect(list.code).toBe(1);
    expect(list.json()).toMatchObject({
      waiting: [{ name: "smtp_credentials_reset" }],
      error: { message: expect.stringContaining("s3://some-bucket/outbox/: ") },
    });
    const flushed = await notify("flush", "--json");
    expect(flushed.code).toBe(5);
    expect(flushed.json()).toMatchObject({
      delivered: [expect.any(String)],
      waiting: [{ name: "s3://some-bucket/outbox/" }],
    });
    expect(relay.mails).toHaveLength(1);
  });

  it("says no secret: not the signing key, not a webhook's path, whatever the answer holds", async () => {
    const path = "/services/T0/B0/secret-path-0f-this-webh00k";
    const outbox = new Outbox(settings(path));
    await outbox.keep(newNotice());
    hook.answer = ({ headers }) => ({ status: 400, body: `bad ${path.split("/").at(-1)} ${headers.host}` });
    const seen: string[] = [];
    for (const args of [["flush"], ["list"], ["flush", "--json"], ["list", "--json"]]) {
      const { stdout, stderr } = await notify(...args);
      seen.push(stdout, stderr);
    }
    seen.push(
      ...outboxFiles().map((name) => fs.readFileSync(join(folder, "audit.jsonl.outbox", name), "utf8")),
    );
    expect(seen.join("\n")).toContain("HTTP 400");
    expect(seen.join("\n")).not.toMatch(/secret-path|signing-key-0/);
  });

  it("refuses another word, and a flag that it doesn't have", async () => {
    settings();
    expect((await notify("send")).code).toBe(2);
    expect((await notify("flush", "--event", "x")).code).toBe(2);
  });
});
