// The audit log's copies in a bucket, as `runbook audit` holds them against the log, and other machines' beside them.
import * as fs from "node:fs";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from "@aws-sdk/client-s3";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { AuditLog, copyBacklog } from "../../runbooks/lib/audit.ts";
import { type AuditEvent, canonicalJson, eventId, link } from "../../runbooks/lib/audit-chain.ts";
import { AuditCopies } from "../../runbooks/lib/audit-copies.ts";
import { readChains } from "../../runbooks/lib/audit-reader.ts";
import {
  audit,
  bucket,
  chainId,
  keyOf,
  moto,
  opened,
  path,
  settings,
  store,
  useAuditPlaces,
  writeSettings,
} from "./lib/fixtures/audit-place.ts";
import { DoorToS3 } from "./lib/fixtures/door-to-s3.ts";

useAuditPlaces();

describe("copies in a bucket", () => {
  beforeEach(async () => {
    await moto.makeBucket(bucket);
    writeSettings(bucket);
  });

  it("are the log's own lines, one object each, and verify beside it", async () => {
    await store("run-1", "acme", "globex");
    const listed = await moto.s3.send(new ListObjectsV2Command({ Bucket: bucket }));
    expect(listed.Contents?.map(({ Key }) => Key)).toEqual([1, 2, 3].map((seq) => keyOf(seq)));
    const copy = await moto.s3.send(new GetObjectCommand({ Bucket: bucket, Key: keyOf(2) }));
    expect(await copy.Body?.transformToString()).toBe(fs.readFileSync(path, "utf8").split("\n")[1]);
    const { code, json } = await audit("verify", "--json");
    expect(json().chains.map(({ where, events }: Record<string, unknown>) => [where, events])).toEqual([
      [path, 3],
      [`s3://${bucket}/audit/${chainId()}/`, 3],
    ]);
    expect(code).toBe(0);
  });

  it("made twice at once stay as they are", async () => {
    await store("run-1", "acme");
    fs.rmSync(`${path}.copied`);
    const { store: log, copies } = opened();
    if (copies === undefined) throw new Error("a bucket is set");
    expect(await copyBacklog(log, copies)).toBe(2);
    expect((await audit("verify")).code).toBe(0);
  });

  it("of a machine that is lost while it copies may lack some of the last ones, and are no tampered ones", async () => {
    await store("run-1", "acme", "globex", "initech");
    fs.rmSync(`${path}.copied`);
    await moto.makeBucket(`${bucket}-2`);
    writeSettings(`${bucket}-2`);
    const door = await DoorToS3.start(String(moto.env.AWS_ENDPOINT_URL));
    const second = Promise.withResolvers<void>();
    door.before = ({ method, path: asked }) => {
      if (method !== "PUT" || !asked.includes("/2.json")) return true;
      second.resolve();
      return false;
    };
    vi.stubEnv("AWS_ENDPOINT_URL", door.url);
    const { store: log, copies } = opened();
    if (copies === undefined) throw new Error("a bucket is set");
    const copying = copyBacklog(log, copies).catch((error: unknown) => error);
    await second.promise;
    // Long enough for whatever else had been sent beside it.
    await new Promise((wait) => setTimeout(wait, 500));
    await door.stop();
    expect(await copying).toBeInstanceOf(Error);
    vi.unstubAllEnvs();
    for (const ending of ["", ".head", ".copied"]) fs.rmSync(`${path}${ending}`, { force: true });
    const { code, json } = await audit("verify", "--json");
    expect(json().chains).toMatchObject([{ events: 3, whole: true, uncopied: [2], open: [] }]);
    expect(code).toBe(0);
    expect((await audit("verify")).stdout).toContain("\n  not copied: event 2: under way right now, or lost");
    expect((await audit("list", "--tenant", "initech", "--json")).json().events).toHaveLength(1);
  });

  it.each([
    { missing: 2, of: 33, problem: null, uncopied: [2] },
    { missing: 2, of: 34, problem: expect.objectContaining({ kind: "removed", seq: 2 }), uncopied: [] },
  ])("that lack event $missing of $of: uncopied $uncopied", async ({ missing, of, problem, uncopied }) => {
    await putOthers(otherChain(of).filter(({ seq }) => seq !== missing));
    const [chain] = (await audit("verify", "--json")).json().chains;
    expect(chain).toMatchObject({ problem, uncopied });
  });

  it.each([
    ["linked to another event", (fifth: AuditEvent) => canonicalJson(linked(fifth, { ...fifth, seq: 4 }))],
    ["changed", (fifth: AuditEvent) => canonicalJson({ ...fifth, user_id: "mallory" })],
    ["another one", (fifth: AuditEvent) => canonicalJson(otherChain(fifth.seq + 1).at(-1))],
    [
      "of another chain",
      (fifth: AuditEvent) => canonicalJson(linked(fifth, { chain: "b", seq: 4, hash: fifth.prev })),
    ],
    ["no event", () => "{}"],
  ])("that came before one that is missing are looked at as closely: %s", async (_, forge) => {
    const [first, , third, fourth, fifth] = otherChain(5);
    if (fifth === undefined) throw new Error("there are five");
    await putOthers([first, third, fourth].filter((event) => event !== undefined));
    await putOther(5, forge(fifth));
    const { code, json } = await audit("verify", "--json");
    expect(json().chains).toMatchObject([{ events: 3, problem: { kind: "changed", seq: 5 }, uncopied: [2] }]);
    expect(code).toBe(1);
  });

  /** The events of another machine's chain. */
  function otherChain(count: number): AuditEvent[] {
    const events: AuditEvent[] = [];
    for (let seq = 1; seq <= count; seq++) {
      const event_id = eventId("run-9", `t-${seq}`, "mended");
      const body = { event: "mended", event_id, user_id: "bob", details: {}, run_id: "run-9" };
      events.push(link({ ...body, timestamp: "2999-01-01T00:00:00Z" }, events.at(-1) ?? { chain: "other" }));
    }
    return events;
  }
  const linked = ({ hash: _, ...event }: AuditEvent, tip: Parameters<typeof link>[1]) => link(event, tip);
  const putOthers = (events: AuditEvent[]) =>
    Promise.all(events.map((event) => putOther(event.seq, canonicalJson(event))));
  const putOther = (seq: number, Body: string) =>
    moto.s3.send(new PutObjectCommand({ Bucket: bucket, Key: keyOf(seq, "other"), Body }));

  it("that grow while they are read are whole", async () => {
    await store("run-1", "acme");
    const { store: log, copies } = opened();
    if (copies === undefined) throw new Error("a bucket is set");
    const read = copies.read.bind(copies);
    vi.spyOn(copies, "read").mockImplementation(async () => {
      const found = await read();
      await store("run-2", "acme");
      return found;
    });
    expect((await readChains(log, copies)).map(({ problem }) => problem)).toEqual([undefined, undefined]);
  });

  it("that are late make the run incomplete, and follow with the next event or a flush", async () => {
    writeSettings("no-such-bucket");
    await expect(store("run-1", "acme")).rejects.toMatchObject({
      exitCode: 5,
      next: expect.stringContaining("audit flush"),
    });
    expect((await audit("flush")).code).toBe(5);
    writeSettings(bucket);
    expect((await audit("flush", "--json")).json()).toMatchObject({ appended: 0, copied: 2 });
    expect((await audit("flush", "--json")).json()).toMatchObject({ copied: 0 });

    writeSettings("no-such-bucket");
    await expect(store("run-2", "acme")).rejects.toMatchObject({ exitCode: 5 });
    writeSettings(bucket);
    await store("run-3", "acme");
    expect((await audit("verify", "--json")).json().chains[1]).toMatchObject({ events: 6, whole: true });
  });

  it("show a log that was cut, replaced or removed, even with its notes forged", async () => {
    await store("run-1", "acme");
    await store("run-2", "acme");
    const lines = fs.readFileSync(path, "utf8").trim().split("\n");
    fs.writeFileSync(path, `${lines.slice(0, 2).join("\n")}\n`);
    fs.rmSync(`${path}.head`);
    fs.rmSync(`${path}.copied`);
    const cut = await audit("verify", "--json");
    expect(cut.json().chains[0].problem).toMatchObject({ kind: "cut", seq: 3 });
    expect(cut.code).toBe(1);

    const chain = chainId();
    const forged = [JSON.parse(lines[0] ?? "")].map(({ chain: _c, seq: _s, prev: _p, hash: _h, ...body }) =>
      link({ ...body, user_id: "mallory" }, { chain }),
    );
    fs.writeFileSync(path, `${forged.map(canonicalJson).join("\n")}\n`);
    expect((await audit("verify", "--json")).json().chains[0].problem).toMatchObject({
      kind: "changed",
      seq: 1,
    });

    fs.rmSync(path);
    const removed = (await audit("list", "--json")).json().events;
    expect(removed.map(({ user_id }: Record<string, string>) => user_id)).toEqual([
      "alice",
      "alice",
      "alice",
      "alice",
    ]);
  });

  it("that were deleted or overwritten are named, and read as they were first stored", async () => {
    await store("run-1", "acme", "globex");
    await moto.s3.send(new PutObjectCommand({ Bucket: bucket, Key: keyOf(2), Body: "{}" }));
    const overwritten = await audit("verify", "--json");
    expect(overwritten.json().chains[0].whole).toBe(true);
    expect(overwritten.json().chains[1]).toMatchObject({ events: 3, problem: { kind: "changed", seq: 2 } });
    await moto.s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: keyOf(1) }));
    const deleted = await audit("verify", "--json");
    expect(deleted.json().chains[1]).toMatchObject({ events: 3, problem: { kind: "removed", seq: 1 } });
    expect(deleted.code).toBe(1);
  });

  it("are fetched once by whoever reads again and again, who still sees one that was tampered with", async () => {
    await store("run-1", "acme", "globex");
    const door = await DoorToS3.start(String(moto.env.AWS_ENDPOINT_URL));
    const fetched: string[] = [];
    door.before = ({ method, path: asked }) => {
      if (method === "GET" && asked.includes("/audit/")) fetched.push(asked);
      return true;
    };
    vi.stubEnv("AWS_ENDPOINT_URL", door.url);
    try {
      const copies = new AuditCopies(bucket);
      const { store: log } = opened();
      expect((await readChains(log, copies)).map(({ problem }) => problem)).toEqual([undefined, undefined]);
      expect(fetched).toHaveLength(3);
      await store("run-2", "acme");
      expect((await readChains(log, copies))[1]?.events).toHaveLength(5);
      expect(fetched).toHaveLength(5);
      await moto.s3.send(new PutObjectCommand({ Bucket: bucket, Key: keyOf(2), Body: "{}" }));
      expect((await readChains(log, copies))[1]?.problem).toMatchObject({ kind: "changed", seq: 2 });
      expect(fetched).toHaveLength(5);
    } finally {
      vi.unstubAllEnvs();
      await door.stop();
    }
  });

  it("include other machines' chains, whose events count once by their id", async () => {
    await store("run-1", "acme");
    const body = {
      event: "mended",
      event_id: eventId("run-1", "acme", "mended"),
      user_id: "bob",
      details: {},
    };
    const other = link({ ...body, timestamp: "2999-01-01T00:00:00Z", run_id: "run-9" }, { chain: "other" });
    await moto.s3.send(
      new PutObjectCommand({ Bucket: bucket, Key: keyOf(1, "other"), Body: canonicalJson(other) }),
    );
    const verified = (await audit("verify", "--json")).json();
    expect(verified.chains.map(({ chain }: Record<string, string>) => chain).sort()).toEqual(
      [chainId(), chainId(), "other"].sort(),
    );
    expect((await audit("list", "--event", "mended", "--json")).json().events).toHaveLength(1);
    await moto.s3.send(
      new PutObjectCommand({ Bucket: bucket, Key: keyOf(3, "other"), Body: canonicalJson(other) }),
    );
    expect((await audit("verify")).stderr).toMatch(/s3:\/\/.*\/other\/: event 3 was changed/);
  });

  it("are never put over another event: the run says so", async () => {
    await store("run-1", "acme");
    await moto.s3.send(new PutObjectCommand({ Bucket: bucket, Key: keyOf(3), Body: "somebody else's" }));
    await expect(store("run-2", "acme")).rejects.toThrow(`s3://${bucket}/${keyOf(3)} holds another event`);
    const there = await moto.s3.send(new GetObjectCommand({ Bucket: bucket, Key: keyOf(3) }));
    expect(await there.Body?.transformToString()).toBe("somebody else's");
    expect((await audit("verify")).code).toBe(1);
  });

  it("hold nothing up for long when the endpoint is down", async () => {
    await store("run-1", "acme");
    await moto.down();
    const start = performance.now();
    const late = new AuditLog({ settings, runId: "run-2", userId: async () => "alice" });
    await late.append({ event: "a", details: {} });
    expect(performance.now() - start).toBeLessThan(1_000);
    expect(await late.acknowledged()).toBe(false);
    await expect(late.finish()).rejects.toMatchObject({ exitCode: 5 });
    const { code, stderr } = await audit("verify");
    expect(stderr).toContain(`the copies in s3://${bucket} can't be read`);
    expect(code).toBe(1);
    await moto.up();
  });
});
