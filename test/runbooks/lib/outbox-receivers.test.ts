// When and how long an outbox tries: receivers that hang, that are down or refuse one notice, and a run that tells of a
// tenant while others are still at work.
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { NewNotice } from "../../../runbooks/lib/notice.ts";
import { Receiver } from "../../../runbooks/lib/notify-attempt.ts";
import { Outbox } from "../../../runbooks/lib/outbox.ts";
import { Hook, Silence } from "./fixtures/hook.ts";
import { clientEnv } from "./fixtures/moto.ts";
import { DISK, outboxFolder, QUICK, relay, useReceivers } from "./fixtures/outboxes.ts";
import { Running } from "./fixtures/process.ts";
import { header, reply } from "./fixtures/relay.ts";
import { genericHook, newNotice, notifyYaml, ONCALL, toldSettings } from "./fixtures/told.ts";

const KEEPER = join(import.meta.dirname, "fixtures", "keeper.ts");
const REMEMBERING = { ...QUICK, dead: 60_000 };
let hanging: {
  receivers: ReturnType<typeof hangingReceivers>;
  bucket: ReturnType<typeof hangingBucket>;
};

useReceivers();
beforeAll(() => {
  hanging = { receivers: hangingReceivers(), bucket: hangingBucket() };
  for (const slow of Object.values(hanging)) slow.catch(() => {});
});
afterAll(() => Promise.allSettled(Object.values(hanging)));

describe("receivers that fail", () => {
  const keepMany = async (outbox: Outbox, count: number, change: Partial<NewNotice> = {}) => {
    for (let n = 0; n < count; n += 1) await outbox.keep(newNotice(change));
  };

  it("hold up nobody for long when they hang: 40 notices for a relay and a webhook end in seconds", async () => {
    const { took, delivered, waiting, posts } = await hanging.receivers;
    expect(took).toBeLessThan(40_000);
    expect([delivered.length, waiting.length]).toEqual([0, 40]);
    expect(waiting[0]?.why).toContain(`mail:${ONCALL}: no answer within 5 s`);
    expect(posts).toBe(40);
  });

  it("aren't asked for each notice once they are known to be down", async () => {
    const silence = await Silence.start({ hangUp: true });
    const outbox = new Outbox(DISK.settings(notifyYaml(silence.port)), process.env, REMEMBERING);
    await keepMany(outbox, 60);
    const { waiting } = await outbox.deliver();
    expect(waiting.filter(({ why }) => why.startsWith(`mail:${ONCALL}: `))).toHaveLength(60);
    // Eight notices at a time, three attempts each.
    expect(silence.sockets.length).toBeGreaterThanOrEqual(3);
    expect(silence.sockets.length).toBeLessThanOrEqual(24);
    await silence.stop();
  });

  it("end in time even where a library takes no notice of the time", async () => {
    const receiver = new Receiver({ attempt: 50, pauses: [1], dead: 0 });
    expect(await receiver.bring(() => new Promise(() => {}))).toBe("no answer within 0.05 s");
  });

  it("for one notice alone keep no other back, wherever it stands", async () => {
    relay.onMail = ({ raw }) => {
      if (header(raw, "Subject") === "poison") throw reply(451, "4.3.0 try again");
    };
    const outbox = new Outbox(DISK.settings(notifyYaml(relay.port)), process.env, REMEMBERING);
    await outbox.keep(newNotice({ subject: "poison", created: "2020-01-01T00:00:00Z" }));
    await keepMany(outbox, 30);
    const { delivered, waiting } = await outbox.deliver();
    expect([delivered.length, waiting.length]).toEqual([30, 1]);
  });

  it("hold up a run for seconds once when it is the bucket that hangs", async () => {
    const { code, took, kept } = await hanging.bucket;
    expect(code).toBe(0);
    const [first = 0, ...others] = took;
    expect(first).toBeGreaterThan(5_000);
    expect(first).toBeLessThan(40_000);
    expect(others).toHaveLength(2);
    for (const milliseconds of others) expect(milliseconds).toBeLessThan(5_000);
    expect(kept).toBe(3);
  }, 60_000);
});

describe("a run on many tenants", () => {
  const kept = (pace = REMEMBERING) => new Outbox(DISK.settings(notifyYaml(relay.port)), process.env, pace);
  const waitingFiles = () => fs.readdirSync(outboxFolder()).length;

  it("tells of a tenant while the others are still at work, and of the rest at its end", async () => {
    const outbox = kept();
    const [first, second] = [newNotice({ tenant_id: "acme" }), newNotice({ tenant_id: "globex" })];
    await outbox.keep(first);
    await outbox.keep(second);
    outbox.deliverMeanwhile("acme");
    await vi.waitFor(() => expect(waitingFiles()).toBe(1), 10_000);
    await sleep(500);
    expect([relay.mails.length, waitingFiles()]).toEqual([1, 1]);
    expect(await outbox.deliver()).toEqual({ delivered: [first.event_id, second.event_id], waiting: [] });
    expect(relay.mails).toHaveLength(2);
  });

  it("tries once more at its end what failed meanwhile, and tells no receiver twice", async () => {
    let refusals = 3;
    relay.onMail = () => {
      if (refusals-- > 0) throw reply(451, "4.3.0 try again");
    };
    const outbox = kept(QUICK);
    const notice = newNotice();
    await outbox.keep(notice);
    outbox.deliverMeanwhile("acme");
    await vi.waitFor(() => expect(refusals).toBe(0), 10_000);
    outbox.deliverMeanwhile("acme");
    expect(await outbox.deliver()).toEqual({ delivered: [notice.event_id], waiting: [] });
    expect(relay.mails).toHaveLength(1);
  });

  it("doesn't wait at its end for a receiver that was found dead a moment ago", async () => {
    let asked = 0;
    relay.onMail = () => {
      asked += 1;
      throw reply(451, "4.3.0 try again");
    };
    const outbox = kept();
    const notice = newNotice();
    await outbox.keep(notice);
    outbox.deliverMeanwhile("acme");
    const { waiting } = await outbox.deliver();
    expect(waiting).toMatchObject([{ event_id: notice.event_id, why: expect.stringContaining("try again") }]);
    expect(asked).toBe(3);
  });
});

/** With the pace of a real run, which takes its time beside the other tests. */
async function hangingReceivers() {
  const place = fs.mkdtempSync(join(tmpdir(), "outbox-hanging-"));
  const [silence, answering] = await Promise.all([Silence.start(), Hook.start()]);
  const webhooks = `, webhooks: [${genericHook(`http://127.0.0.1:${silence.port}`)}, ${genericHook(answering.url)}]`;
  const outbox = new Outbox(toldSettings(place, notifyYaml(silence.port, webhooks)));
  for (let n = 0; n < 40; n += 1) await outbox.keep(newNotice());
  const start = performance.now();
  const ended = await outbox.deliver();
  const took = performance.now() - start;
  await Promise.all([silence.stop(), answering.stop()]);
  fs.rmSync(place, { recursive: true });
  return { ...ended, took, posts: answering.posts.length };
}

async function hangingBucket() {
  const place = fs.mkdtempSync(join(tmpdir(), "outbox-hanging-"));
  const silence = await Silence.start();
  const { file } = toldSettings(place, notifyYaml(1), "some-bucket");
  const env = clientEnv(`http://127.0.0.1:${silence.port}`);
  const { code, stdout } = await new Running(process.execPath, [KEEPER, file, "3"], { env }).ended();
  await silence.stop();
  const kept = fs.readdirSync(join(place, "audit.jsonl.outbox")).length;
  fs.rmSync(place, { recursive: true });
  return { code, took: stdout.trim().split("\n").map(Number), kept };
}
