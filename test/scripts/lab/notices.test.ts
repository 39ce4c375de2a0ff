// The lab's receivers of notices, asked by real clients.
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createTransport } from "nodemailer";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  type NoticeFault,
  notifySection,
  receivedNotices,
  setNoticeFaults,
  startReceivers,
} from "../../../scripts/lab/notices.ts";
import { freeAddress } from "./mailu-host.ts";

const dir = mkdtempSync(join(tmpdir(), "lab-notices-"));
const address = freeAddress();
const { relay, webhooks } = notifySection(address);
let stop: () => Promise<void>;
beforeAll(async () => {
  stop = await startReceivers(dir, address);
});
afterEach(() => setNoticeFaults(dir, undefined));
afterAll(async () => {
  await stop();
  rmSync(dir, { recursive: true });
});

const secret = (name: string) => readFileSync(join(dir, name), "utf8").trim();

/** Hands one mail to the relay; resolves to the code of its answer, 0 where there is none. */
async function mail(to: string[], subject: string): Promise<number> {
  const transport = createTransport({ host: relay.host, port: relay.port, socketTimeout: 1_000 });
  try {
    await transport.sendMail({ from: "security@penguinmails.example", to, subject, text: "Körper" });
    return 250;
  } catch (error) {
    return (error as { responseCode?: number }).responseCode ?? 0;
  } finally {
    transport.close();
  }
}

/** Posts to a webhook; resolves to the status, 0 where there is none. */
const post = (url: string, body: string, method = "POST"): Promise<number> =>
  fetch(url, { method, headers: { "x-signature": "abc" }, body, signal: AbortSignal.timeout(1_000) }).then(
    ({ status }) => status,
    () => 0,
  );

const subjects = () => receivedNotices(dir).mails.map(({ raw }) => /^Subject: (.*)\r$/m.exec(raw)?.[1] ?? "");
const bodies = () => receivedNotices(dir).posts.map(({ body }) => body);

describe("the relay", () => {
  test("keeps each mail with its envelope, the first one first", async () => {
    for (let number = 1; number <= 12; number++)
      expect(await mail(["a@people.example", "b@people.example"], `number ${number}`)).toBe(250);
    expect(subjects()).toEqual(Array.from({ length: 12 }, (_, index) => `number ${index + 1}`));
    expect(receivedNotices(dir).mails[0]).toMatchObject({
      from: "security@penguinmails.example",
      to: ["a@people.example", "b@people.example"],
    });
    expect(readFileSync(join(dir, "notices/mail/000001.json"), "utf8")).toContain("K=C3=B6rper");
  });
});

describe("the webhooks", () => {
  test("keep headers and raw body, and of Slack's URL nothing that is secret", async () => {
    expect(await post(webhooks[0]?.url ?? "", '{"a": 1}\n')).toBe(200);
    expect(await post(secret("slack-url"), "{}")).toBe(200);
    expect(receivedNotices(dir).posts).toMatchObject([
      { path: "/generic", headers: { "x-signature": "abc" }, body: '{"a": 1}\n' },
      { path: "/slack", body: "{}" },
    ]);
    expect(JSON.stringify(receivedNotices(dir).posts)).not.toContain(
      secret("slack-url").split("/").at(-1) ?? "",
    );
  });

  test("take nothing at another URL or by another method", async () => {
    const before = bodies();
    const url = new URL(secret("slack-url"));
    expect(await post(`${url.origin}/slack/guessed`, "{}")).toBe(404);
    expect(await post(`${url.origin}/generic`, "{}", "PUT")).toBe(404);
    expect(bodies()).toEqual(before);
  });

  test("have secrets that only their owner can read", () => {
    for (const name of ["webhook-secret", "slack-url"]) {
      expect(statSync(join(dir, name)).mode & 0o777).toBe(0o600);
      expect(secret(name).length).toBeGreaterThan(30);
    }
  });
});

describe("told to fail", () => {
  const cases: { fault: NoticeFault; mail: number; post: number; kept: boolean }[] = [
    { fault: { status: 451, times: 1 }, mail: 451, post: 451, kept: false },
    { fault: { status: 550, times: 1 }, mail: 550, post: 550, kept: false },
    { fault: { status: "hang", times: 1 }, mail: 0, post: 0, kept: false },
    { fault: { status: "cut", times: 1 }, mail: 0, post: 0, kept: false },
    { fault: { status: "lost", times: 1 }, mail: 0, post: 0, kept: true },
  ];
  test.each(cases)("by $fault.status, both answer so once and are well again", async (expected) => {
    const count = () => [subjects().length, bodies().length];
    const [mails = 0, posts = 0] = count();
    setNoticeFaults(dir, { smtp: expected.fault, webhook: expected.fault });
    const url = webhooks[0]?.url ?? "";
    expect(await mail(["a@people.example"], "fails")).toBe(expected.mail);
    expect(await post(url, "fails")).toBe(expected.post);
    const kept = expected.kept ? 1 : 0;
    expect(count()).toEqual([mails + kept, posts + kept]);
    expect(await mail(["a@people.example"], "works")).toBe(250);
    expect(await post(url, "works")).toBe(200);
    expect(count()).toEqual([mails + kept + 1, posts + kept + 1]);
  });

  test("fail for one receiver only where the file says so, and without an end until it's gone", async () => {
    setNoticeFaults(dir, { smtp: { status: 550, match: "bad@" }, webhook: { status: 500, match: "/slack" } });
    for (let time = 0; time < 2; time++) {
      expect(await mail(["bad@people.example"], "no")).toBe(550);
      expect(await mail(["good@people.example"], "yes")).toBe(250);
      expect(await post(secret("slack-url"), "no")).toBe(500);
      expect(await post(webhooks[0]?.url ?? "", "yes")).toBe(200);
    }
    setNoticeFaults(dir, undefined);
    expect(await mail(["bad@people.example"], "again")).toBe(250);
  });
});

test("both end although somebody is connected", async () => {
  const other = mkdtempSync(join(tmpdir(), "lab-notices-"));
  const at = freeAddress();
  const end = await startReceivers(other, at);
  setNoticeFaults(other, { webhook: { status: "hang" } });
  const hanging = post(`http://${at}:8085/generic`, "{}");
  await sleep(100);
  const begin = performance.now();
  await end();
  expect(performance.now() - begin).toBeLessThan(800);
  expect(await hanging).toBe(0);
  rmSync(other, { recursive: true });
});
