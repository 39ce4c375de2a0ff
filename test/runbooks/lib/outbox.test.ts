// What an outbox promises, wherever it is: a notice is stored once, brought to each receiver once, and gone then.
import { beforeEach, describe, expect, it } from "vitest";
import { Outbox } from "../../../runbooks/lib/outbox.ts";
import { registerSecret } from "../../../runbooks/lib/redact.ts";
import {
  BUCKET,
  bucket,
  DISK,
  type Door,
  flush,
  folder,
  hook,
  ids,
  moto,
  objects,
  QUICK,
  relay,
  useBuckets,
  useReceivers,
} from "./fixtures/outboxes.ts";
import { newNotice, ONCALL, toldSettings } from "./fixtures/told.ts";

useReceivers();
useBuckets();

const HOOK = expect.stringMatching(/^webhook:127\.0\.0\.1-[0-9a-f]{8}$/);

describe.each<[string, Door]>([
  ["on this machine's disk", DISK],
  ["in a bucket", BUCKET],
])("an outbox %s", (_, door) => {
  let outbox: Outbox;
  beforeEach(async () => {
    await moto.makeBucket(bucket);
    outbox = new Outbox(door.settings(), process.env, QUICK);
  });
  const storedNotice = async (id: string) => JSON.parse((await door.stored()).get(`${id}.json`) ?? "null");

  it("keeps a notice under its id, and as it was when it is kept again", async () => {
    const notice = newNotice({ created: "2026-01-31T14:00:00.000Z" });
    await outbox.keep(notice);
    await outbox.keep({ ...notice, subject: "another", created: "2027-01-01T00:00:00.000Z" });
    expect([...(await door.stored()).keys()]).toEqual([`${notice.event_id}.json`]);
    expect(await storedNotice(notice.event_id)).toMatchObject({ ...notice, delivered: [] });
    expect(ids(await outbox.waiting())).toEqual([notice.event_id]);
  });

  it("delivers a notice once on each channel, and is empty then", async () => {
    const notice = newNotice();
    await outbox.keep(notice);
    expect(await outbox.deliver()).toEqual({ delivered: [notice.event_id], waiting: [] });
    expect(await outbox.deliver()).toEqual({ delivered: [], waiting: [] });
    expect(relay.mails.map(({ to }) => to)).toEqual([[ONCALL]]);
    expect(hook.posts).toHaveLength(1);
    expect((await door.stored()).size).toBe(0);
  });

  it("repeats only the channel that failed, and says why while it waits", async () => {
    hook.answer = () => ({ status: 503 });
    const notice = newNotice();
    await outbox.keep(notice);
    const { waiting } = await outbox.deliver();
    expect(waiting).toEqual([
      {
        event_id: notice.event_id,
        name: notice.name,
        incident_id: notice.incident_id,
        why: expect.stringMatching(/^webhook:.*: HTTP 503$/),
      },
    ]);
    expect(hook.posts).toHaveLength(3);
    const [{ delivered, failed } = { delivered: [], failed: {} }] = await outbox.waiting();
    expect(delivered).toEqual([`mail:${ONCALL}`]);
    expect(Object.entries(failed)).toEqual([[HOOK, "HTTP 503"]]);

    // Kept again by the run that goes on: what was delivered stays so.
    await outbox.keep(notice);
    hook.answer = () => ({ status: 200 });
    expect((await outbox.deliver()).delivered).toEqual([notice.event_id]);
    expect(relay.mails).toHaveLength(1);
    expect(hook.posts).toHaveLength(4);
    expect((await door.stored()).size).toBe(0);
  });

  it("delivers with the same Message-ID, key and text when a notice comes back", async () => {
    const notice = newNotice({ created: "2026-01-31T14:00:00.000Z" });
    for (let time = 0; time < 2; time += 1) {
      await outbox.keep(notice);
      await outbox.deliver();
    }
    expect(relay.mails).toHaveLength(2);
    expect(relay.mails[1]?.raw).toBe(relay.mails[0]?.raw);
    const [first, second] = hook.posts;
    expect(second?.body).toBe(first?.body);
    expect(second?.headers["idempotency-key"]).toBe(first?.headers["idempotency-key"]);
  });

  it("lists the oldest first, and delivers only those that it is asked for", async () => {
    const days = ["2026-03-01", "2026-01-01", "2026-02-01"];
    const notices = days.map((day) => newNotice({ created: `${day}T00:00:00.000Z` }));
    for (const notice of notices) await outbox.keep(notice);
    const waiting = await outbox.waiting();
    expect(waiting.map(({ created }) => created.slice(0, 10))).toEqual([...days].sort());
    const [oldest, ...others] = waiting;
    if (oldest === undefined) throw new Error("three wait");
    expect(await outbox.deliver([oldest])).toEqual({ delivered: [oldest.event_id], waiting: [] });
    expect(ids(await outbox.waiting())).toEqual(ids(others));
    // Meanwhile gone: somebody else has sent it.
    expect(await outbox.deliver([oldest])).toEqual({ delivered: [], waiting: [] });
    expect(relay.mails).toHaveLength(1);
  });

  it("reports what isn't a notice, leaves it, and delivers the others", async () => {
    const notice = newNotice();
    await outbox.keep(notice);
    await door.put("torn.json", '{"event_id":"to');
    await door.put("other-name.json", JSON.stringify({ ...newNotice(), created: "2026-01-31T00:00:00Z" }));
    const { delivered, waiting } = await outbox.deliver();
    expect(delivered).toEqual([notice.event_id]);
    expect(waiting.map(({ event_id, why }) => [event_id, why.slice(0, 14)]).sort()).toEqual([
      ["other-name", "isn't a notice"],
      ["torn", "isn't a notice"],
    ]);
    expect([...(await door.stored()).keys()].sort()).toEqual(["other-name.json", "torn.json"]);
    expect(relay.mails).toHaveLength(1);
  });

  it("stores no secret, whoever wrote it into a notice", async () => {
    registerSecret("pa55word-in-a-notice");
    await outbox.keep(
      newNotice({ text: "it was pa55word-in-a-notice", fields: { old: ["pa55word-in-a-notice"] } }),
    );
    const [body = ""] = (await door.stored()).values();
    expect(body).toContain("it was [redacted]");
    expect(body).not.toContain("pa55word");
  });

  it("tells a tenant's contacts by mail alone, and never through the tenant's own host", async () => {
    const notice = newNotice({ audience: "tenant", to: ["it@acme.example"], not_via: ["127.0.0.1"] });
    await outbox.keep(notice);
    const { waiting } = await outbox.deliver();
    expect(waiting[0]?.why).toBe(
      "mail:it@acme.example: the relay 127.0.0.1 is the mail host of the tenant that this is about",
    );
    expect([relay.mails, hook.posts]).toEqual([[], []]);
    const other = newNotice({ audience: "tenant", to: ["it@acme.example"] });
    await outbox.keep(other);
    expect((await outbox.deliver()).delivered).toEqual([other.event_id]);
    expect([relay.mails.length, hook.posts.length]).toEqual([1, 0]);
  });

  it("brings a notice again, the same one, that was taken in the moment before a SIGKILL", async () => {
    await outbox.keep(newNotice());
    const killed = flush();
    relay.onMail = () => void killed.child.kill("SIGKILL");
    await killed.ended();
    expect((await door.stored()).size).toBe(1);
    relay.onMail = () => {};
    const { code, stdout } = await flush().ended();
    expect(JSON.parse(stdout).delivered).toHaveLength(1);
    expect(code).toBe(0);
    expect(relay.mails).toHaveLength(2);
    expect(relay.mails[1]?.raw).toBe(relay.mails[0]?.raw);
    expect((await door.stored()).size).toBe(0);
  });
});

describe("without anybody to tell", () => {
  it("keeps nothing and says so once, but shows what others left", async () => {
    await moto.makeBucket(bucket);
    const telling = new Outbox(BUCKET.settings(), process.env, QUICK);
    const notice = newNotice();
    await telling.keep(notice);
    const silent = new Outbox(toldSettings(folder, undefined, bucket), process.env, QUICK);
    expect(telling.warning).toBeUndefined();
    expect(silent.warning).toContain("recovery.yaml has no notify section");
    await silent.keep(newNotice());
    expect(ids(await silent.waiting())).toEqual([notice.event_id]);
    expect(await silent.deliver()).toEqual({
      delivered: [],
      waiting: [
        {
          event_id: notice.event_id,
          name: notice.name,
          incident_id: notice.incident_id,
          why: silent.warning,
        },
      ],
    });
    expect((await objects()).size).toBe(1);
  });
});
