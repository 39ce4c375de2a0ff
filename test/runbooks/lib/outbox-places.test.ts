// The two places of an outbox, each with what only it can do: a folder on this machine, and a bucket that other machines
// see, that keeps old versions, and that may be down.
import * as fs from "node:fs";
import { join } from "node:path";
import { DeleteObjectCommand, ListObjectVersionsCommand } from "@aws-sdk/client-s3";
import { beforeEach, describe, expect, it } from "vitest";
import { Outbox } from "../../../runbooks/lib/outbox.ts";
import { DoorToS3 } from "./fixtures/door-to-s3.ts";
import {
  BUCKET,
  bucket,
  DISK,
  files,
  flush,
  folder,
  hook,
  ids,
  moto,
  notify,
  objects,
  outboxFolder,
  put,
  QUICK,
  relay,
  useBuckets,
  useReceivers,
  withHook,
} from "./fixtures/outboxes.ts";
import { header } from "./fixtures/relay.ts";
import { newNotice, ONCALL, toldSettings } from "./fixtures/told.ts";

useReceivers();
useBuckets();

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
