import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutObjectCommand,
} from "@aws-sdk/client-s3";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import type { NewNotice } from "../../../runbooks/lib/notice.ts";
import { Receiver } from "../../../runbooks/lib/notify-attempt.ts";
import { Outbox } from "../../../runbooks/lib/outbox.ts";
import { registerSecret } from "../../../runbooks/lib/redact.ts";
import { DoorToS3 } from "./fixtures/door-to-s3.ts";
import { Hook, Silence } from "./fixtures/hook.ts";
import { Moto } from "./fixtures/moto.ts";
import { Running } from "./fixtures/process.ts";
import { header, Relay, reply } from "./fixtures/relay.ts";
import { genericHook, newNotice, notifyYaml, ONCALL, toldSettings } from "./fixtures/told.ts";

const MAIN = join(import.meta.dirname, "../../../runbooks/main.ts");
const KEEPER = join(import.meta.dirname, "fixtures", "keeper.ts");
/** Tries everything again at every delivery. */
const QUICK = { attempt: 15_000, pauses: [10, 20], dead: 0 };
const REMEMBERING = { ...QUICK, dead: 60_000 };
let moto: Moto;
let folder: string;
let bucket: string;
let relay: Relay;
let hook: Hook;
let hanging: {
  receivers: ReturnType<typeof hangingReceivers>;
  bucket: ReturnType<typeof hangingBucket>;
};

beforeAll(async () => {
  moto = await Moto.start();
  // The library's own client reads the process's variables, as in an operator's shell.
  Object.assign(process.env, moto.env);
  hanging = { receivers: hangingReceivers(), bucket: hangingBucket() };
  for (const slow of Object.values(hanging)) slow.catch(() => {});
});
afterAll(async () => {
  await Promise.allSettled(Object.values(hanging));
  await moto.down();
});

beforeEach(async () => {
  folder = fs.mkdtempSync(join(tmpdir(), "outbox-"));
  bucket = `outbox-${folder.slice(-6).toLowerCase()}-${Date.now()}`;
  [relay, hook] = await Promise.all([Relay.start(), Hook.start()]);
});
afterEach(async () => {
  await Promise.all([relay.stop(), hook.stop()]);
  fs.rmSync(folder, { recursive: true });
});

const withHook = () => notifyYaml(relay.port, `, webhooks: [${genericHook(hook.url)}]`);
const HOOK = expect.stringMatching(/^webhook:127\.0\.0\.1-[0-9a-f]{8}$/);
const ids = (notices: { event_id: string }[]) => notices.map(({ event_id }) => event_id);
const notify = (action: "list" | "flush", env: NodeJS.ProcessEnv = {}) =>
  new Running(MAIN, ["notify", action, "--json"], {
    env: { RECOVERY_CONFIG: join(folder, "recovery.yaml"), NO_COLOR: "1", ...env },
  });
const flush = (env: NodeJS.ProcessEnv = {}) => notify("flush", env);

/** What lies in a place, seen without the code under test: texts by their object's name. */
interface Door {
  settings(section?: string): ReturnType<typeof toldSettings>;
  stored(): Promise<Map<string, string>>;
  put(name: string, body: string): Promise<void>;
}
const objects = async (): Promise<Map<string, string>> => {
  const { Contents = [] } = await moto.s3.send(new ListObjectsV2Command({ Bucket: bucket }));
  const found = new Map<string, string>();
  for (const { Key = "" } of Contents) {
    const { Body } = await moto.s3.send(new GetObjectCommand({ Bucket: bucket, Key }));
    found.set(Key.replace("outbox/", ""), (await Body?.transformToString()) ?? "");
  }
  return found;
};
const put = async (name: string, Body: string) => {
  await moto.s3.send(new PutObjectCommand({ Bucket: bucket, Key: `outbox/${name}`, Body }));
};
const outboxFolder = () => join(folder, "audit.jsonl.outbox");
const files = () => {
  const names = fs.existsSync(outboxFolder()) ? fs.readdirSync(outboxFolder()) : [];
  return new Map(names.map((name) => [name, fs.readFileSync(join(outboxFolder(), name), "utf8")]));
};

const DISK: Door = {
  settings: (section = withHook()) => toldSettings(folder, section),
  stored: async () => files(),
  put: async (name, body) => fs.writeFileSync(join(outboxFolder(), name), body),
};
const BUCKET: Door = {
  settings: (section = withHook()) => toldSettings(folder, section, bucket),
  stored: objects,
  put,
};

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

describe("on the disk", () => {
  it("is a folder for its owner alone", async () => {
    await new Outbox(DISK.settings()).keep(newNotice());
    expect(fs.statSync(outboxFolder()).mode & 0o777).toBe(0o700);
    const [file = ""] = fs.readdirSync(outboxFolder());
    expect(fs.statSync(join(outboxFolder(), file)).mode & 0o777).toBe(0o600);
  });

  it("takes no notice of what a killed process left of a file, and stores the same anew", async () => {
    const outbox = new Outbox(DISK.settings());
    await outbox.keep(newNotice({ event_id: "one" }));
    fs.writeFileSync(join(outboxFolder(), `two.json.${process.pid}.new`), '{"event_id":"tw');
    expect(await outbox.inventory()).toMatchObject({ notices: [{ event_id: "one" }], unreadable: [] });
    await outbox.keep(newNotice({ event_id: "two" }));
    expect(ids(await outbox.waiting()).sort()).toEqual(["one", "two"]);
    expect([...files().keys()].sort()).toEqual(["one.json", "two.json"]);
  });

  it("that can't be written fails the run with exit 5, and says what to do", async () => {
    const { file } = DISK.settings();
    const settings = DISK.settings();
    settings.audit.log = join(file, "audit.jsonl");
    await expect(new Outbox(settings).keep(newNotice())).rejects.toMatchObject({
      exitCode: 5,
      message: expect.stringContaining("the notice smtp_credentials_reset can't be stored"),
      next: expect.any(String),
    });
  });
});

describe("in a bucket", () => {
  beforeEach(() => moto.makeBucket(bucket));
  const openOutbox = () => new Outbox(BUCKET.settings(), process.env, QUICK);

  it("is emptied by another machine, which has nothing but the settings", async () => {
    relay.refused.set(ONCALL, 450);
    const notice = newNotice();
    const outbox = openOutbox();
    await outbox.keep(notice);
    expect((await outbox.deliver()).waiting).toHaveLength(1);
    fs.rmSync(folder, { recursive: true });
    fs.mkdirSync(folder);
    relay.refused.clear();
    BUCKET.settings();
    const { code, stdout } = await flush().ended();
    expect(JSON.parse(stdout)).toMatchObject({ delivered: [notice.event_id], waiting: [] });
    expect(code).toBe(0);
    expect(hook.posts).toHaveLength(1);
    expect(relay.mails.map(({ raw }) => header(raw, "Message-ID"))).toEqual([
      `<${notice.event_id}@penguinmails.example>`,
    ]);
  });

  it("holds what is there now, not the old versions and delete markers that the lock keeps", async () => {
    const outbox = openOutbox();
    await outbox.keep(newNotice());
    await outbox.deliver();
    const history = await moto.s3.send(new ListObjectVersionsCommand({ Bucket: bucket }));
    expect([history.Versions?.length, history.DeleteMarkers?.length]).toEqual([1, 1]);
    expect(await outbox.waiting()).toEqual([]);
  });

  it("brings a notice again that a SIGKILL left between its delivery and its removal", async () => {
    await openOutbox().keep(newNotice());
    const door = await DoorToS3.start(moto.env.AWS_ENDPOINT_URL ?? "");
    const killed = flush({ AWS_ENDPOINT_URL: door.url });
    door.before = ({ method }) => {
      if (method !== "DELETE") return true;
      killed.child.kill("SIGKILL");
      return false;
    };
    await killed.ended();
    await door.stop();
    expect([relay.mails.length, hook.posts.length]).toEqual([1, 1]);
    expect((await objects()).size).toBe(1);
    expect((await flush().ended()).code).toBe(0);
    expect(relay.mails).toHaveLength(2);
    expect(relay.mails[1]?.raw).toBe(relay.mails[0]?.raw);
    expect(hook.posts[1]?.headers["idempotency-key"]).toBe(hook.posts[0]?.headers["idempotency-key"]);
  });

  it("adds up what two machines have each delivered, and brings back nothing that one of them finished", async () => {
    hook.answer = () => ({ status: 503 });
    const outbox = openOutbox();
    const notice = newNotice();
    await outbox.keep(notice);
    const [asStored] = await outbox.waiting();
    // While this machine sends the mail, another one reaches a receiver that this one doesn't know.
    relay.onMail = () =>
      put(`${notice.event_id}.json`, JSON.stringify({ ...asStored, delivered: ["webhook:elsewhere"] }));
    await outbox.deliver();
    expect((await outbox.waiting())[0]?.delivered.sort()).toEqual([`mail:${ONCALL}`, "webhook:elsewhere"]);

    const second = newNotice();
    await outbox.keep(second);
    relay.onMail = async () => {
      const Key = `outbox/${second.event_id}.json`;
      await moto.s3.send(new DeleteObjectCommand({ Bucket: bucket, Key }));
    };
    const { waiting } = await outbox.deliver();
    expect(ids(waiting)).toEqual([notice.event_id]);
    expect(ids(await outbox.waiting())).toEqual([notice.event_id]);
  });

  it("shows what doesn't fit in one answer of the bucket, whose pages here hold two and not a thousand", async () => {
    const names = Array.from({ length: 5 }, (_, n) => `page-${n}`);
    const outbox = openOutbox();
    for (const event_id of names) await outbox.keep(newNotice({ event_id }));
    const door = await DoorToS3.start(moto.env.AWS_ENDPOINT_URL ?? "");
    let pages = 0;
    door.rewrite = (path) => {
      if (!path.includes("list-type=2")) return path;
      pages += 1;
      return `${path}&max-keys=2`;
    };
    const { stdout } = await notify("list", { AWS_ENDPOINT_URL: door.url }).ended();
    await door.stop();
    expect(ids(JSON.parse(stdout).waiting)).toEqual(names);
    expect(pages).toBe(3);
  });

  it("that is down leaves a notice on this machine's disk, which follows later with what it had delivered", async () => {
    hook.answer = () => ({ status: 503 });
    const missing = new Outbox(toldSettings(folder, withHook(), "no-such-bucket"), process.env, QUICK);
    const notice = newNotice();
    await missing.keep(notice);
    expect([...files().keys()]).toEqual([`${notice.event_id}.json`]);
    await expect(missing.waiting()).rejects.toThrow("s3://no-such-bucket/outbox/");
    const { waiting } = await missing.deliver();
    expect(waiting).toContainEqual({
      event_id: notice.event_id,
      name: notice.name,
      incident_id: notice.incident_id,
      why: expect.stringMatching(/HTTP 503; only this machine has it, in .*outbox$/),
    });
    expect(waiting).toContainEqual({
      event_id: "",
      name: "s3://no-such-bucket/outbox/",
      why: expect.stringContaining("s3://no-such-bucket/outbox/: "),
    });
    expect(relay.mails).toHaveLength(1);

    const outbox = openOutbox();
    // The same run, resumed while the bucket is there, stores it anew.
    await outbox.keep(notice);
    expect((await outbox.deliver()).waiting).toHaveLength(1);
    expect(files().size).toBe(0);
    expect((await outbox.waiting())[0]?.delivered).toEqual([`mail:${ONCALL}`]);
    expect(relay.mails).toHaveLength(1);
    hook.answer = () => ({ status: 200 });
    expect((await outbox.deliver()).delivered).toEqual([notice.event_id]);
    expect(relay.mails).toHaveLength(1);
    expect((await objects()).size).toBe(0);
  });

  it("that is down keeps no notice from its receivers", async () => {
    const missing = new Outbox(toldSettings(folder, withHook(), "no-such-bucket"), process.env, QUICK);
    const notice = newNotice();
    await missing.keep(notice);
    expect((await missing.deliver()).delivered).toEqual([notice.event_id]);
    expect(files().size).toBe(0);
  });

  it("that goes down before a removal is named, and what the caller holds is sent all the same", async () => {
    const outbox = openOutbox();
    const notice = newNotice();
    await outbox.keep(notice);
    const held = await outbox.waiting();
    const missing = new Outbox(toldSettings(folder, withHook(), "no-such-bucket"), process.env, QUICK);
    const { delivered, waiting } = await missing.deliver(held);
    expect(delivered).toEqual([]);
    expect(waiting).toEqual([
      {
        event_id: notice.event_id,
        name: notice.name,
        incident_id: notice.incident_id,
        why: expect.stringContaining("will come again"),
      },
    ]);
    expect([relay.mails.length, hook.posts.length]).toEqual([1, 1]);
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
  const waitingFiles = () => fs.readdirSync(join(folder, "audit.jsonl.outbox")).length;

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
  const env = { ...moto.env, AWS_ENDPOINT_URL: `http://127.0.0.1:${silence.port}` };
  const { code, stdout } = await new Running(process.execPath, [KEEPER, file, "3"], { env }).ended();
  await silence.stop();
  const kept = fs.readdirSync(join(place, "audit.jsonl.outbox")).length;
  fs.rmSync(place, { recursive: true });
  return { code, took: stdout.trim().split("\n").map(Number), kept };
}
