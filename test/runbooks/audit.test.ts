import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from "@aws-sdk/client-s3";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { AuditLog, copyBacklog, openAudit } from "../../runbooks/lib/audit.ts";
import { type AuditEvent, canonicalJson, eventId, link } from "../../runbooks/lib/audit-chain.ts";
import { AuditCopies } from "../../runbooks/lib/audit-copies.ts";
import { readChains } from "../../runbooks/lib/audit-reader.ts";
import { loadSettings } from "../../runbooks/lib/settings.ts";
import { DoorToS3 } from "./lib/fixtures/door-to-s3.ts";
import { Moto } from "./lib/fixtures/moto.ts";
import { Running } from "./lib/fixtures/process.ts";

const MAIN = join(import.meta.dirname, "../../runbooks/main.ts");
let moto: Moto;
let folder: string;
let path: string;
let bucket: string;

beforeAll(async () => {
  moto = await Moto.start();
  // The library's own client reads the process's variables, as in an operator's shell.
  Object.assign(process.env, moto.env);
});
afterAll(() => moto.down());

beforeEach(async () => {
  folder = fs.mkdtempSync(join(tmpdir(), "audit-runbook-"));
  path = join(folder, "audit.jsonl");
  bucket = `audit-${folder.slice(-6).toLowerCase()}-${Date.now()}`;
  writeSettings(undefined);
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

function writeSettings(name: string | undefined): void {
  const audit = name === undefined ? "{log: audit.jsonl}" : `{log: audit.jsonl, bucket: ${name}}`;
  fs.writeFileSync(join(folder, "recovery.yaml"), `vault: {addr: 'http://127.0.0.1:1'}\naudit: ${audit}\n`);
}

const settings = () => loadSettings({ RECOVERY_CONFIG: join(folder, "recovery.yaml") });
const opened = () => openAudit(settings().audit);

/** A finished run with one event for each tenant. */
async function store(runId: string, ...tenants: string[]): Promise<void> {
  const audit = new AuditLog({ settings, runId, userId: async () => "alice" });
  for (const tenantId of tenants) {
    await audit.append({ event: "mended", tenantId, details: { incident_id: `INC-${tenantId}` } });
  }
  await audit.finish();
}

async function audit(...args: string[]) {
  const env = { RECOVERY_CONFIG: join(folder, "recovery.yaml"), TMPDIR: folder, NO_COLOR: "1" };
  const { code, stdout, stderr } = await new Running(MAIN, ["audit", ...args], { env }).ended();
  return { code, stdout, stderr, json: () => JSON.parse(stdout) };
}

const chainId = () => JSON.parse(fs.readFileSync(path, "utf8").split("\n")[0] ?? "").chain as string;
const keyOf = (seq: number, chain = chainId()) => `audit/${chain}/${seq}.json`;

describe("runbook audit without a bucket", () => {
  it("prints the log's path alone, whether there is a log or not", async () => {
    expect(await audit("path")).toMatchObject({ code: 0, stdout: `${path}\n` });
  });

  it("finds nothing wrong where nothing was stored yet, and creates nothing", async () => {
    expect((await audit("verify")).code).toBe(0);
    expect((await audit("list", "--json")).json().events).toEqual([]);
    expect((await audit("flush")).code).toBe(0);
    expect(fs.readdirSync(folder)).toEqual(["recovery.yaml"]);
  });

  it.each<[string, string[], string[]]>([
    ["all, in the order of time", [], ["mended acme", "mended globex", "run_finished -"]],
    ["by tenant and name", ["--tenant", "acme", "--event", "mended"], ["mended acme"]],
    ["by incident", ["--incident", "INC-globex"], ["mended globex"]],
    ["since a day", ["--since", "2999-01-01"], []],
    ["until a time", ["--since", "2020-01-01", "--until", "2020-01-01T12:00:00Z"], []],
  ])("lists events %s", async (_, args, expected) => {
    await store("run-1", "acme", "globex");
    const { events } = (await audit("list", "--json", ...args)).json();
    expect(events.map((found: Record<string, string>) => `${found.event} ${found.tenant_id ?? "-"}`)).toEqual(
      expected,
    );
  });

  it("lists events until a day, that day included", async () => {
    await store("run-1", "acme");
    const [{ timestamp }] = (await audit("list", "--json")).json().events;
    const until = async (day: string) =>
      (await audit("list", "--json", "--event", "mended", "--until", day)).json().events;
    expect(await until(timestamp.slice(0, 10))).toHaveLength(1);
    expect(await until(new Date(Date.parse(timestamp) - 86_400_000).toISOString().slice(0, 10))).toEqual([]);
  });

  it("lists an event on a line for a person, and refuses a time that is none", async () => {
    await store("run-1", "acme");
    const { stdout } = await audit("list", "--tenant", "acme");
    expect(stdout).toMatch(/^\S+Z {2}mended {2}acme {2}alice {2}\{"incident_id":"INC-acme"\}\n$/);
    expect((await audit("list", "--since", "yesterday")).code).toBe(2);
  });

  it("exits with 1 for a tampered log and names the first bad event, in JSON too", async () => {
    await store("run-1", "acme", "globex");
    expect((await audit("verify")).stdout).toMatch(/^whole .*3 events\nnothing waits/);
    fs.writeFileSync(path, fs.readFileSync(path, "utf8").replace("INC-globex", "INC-globey"));
    const { code, stderr, json } = await audit("verify", "--json");
    expect(code).toBe(1);
    expect(stderr).toContain("event 2 was changed");
    expect(json().chains[0]).toMatchObject({ whole: false, events: 1, problem: { kind: "changed", seq: 2 } });
    expect(json().error.next).toContain("evidence");
  });

  it("reports a run that has not finished, without calling the log tampered", async () => {
    await new AuditLog({ settings, runId: "run-1", userId: async () => "alice" }).append({
      event: "a",
      details: {},
    });
    const { code, stdout } = await audit("verify");
    expect(stdout).toContain("open: run run-1 since ");
    expect(code).toBe(0);
  });

  it("exports the events as they are stored, into a new file only", async () => {
    await store("run-1", "acme");
    const out = join(folder, "export.jsonl");
    expect((await audit("export", "--out", out, "--dry-run")).code).toBe(0);
    expect(fs.existsSync(out)).toBe(false);
    expect((await audit("export", "--out", out, "--json")).json()).toMatchObject({ exported: 2 });
    expect(fs.readFileSync(out)).toEqual(fs.readFileSync(path));
    expect((await audit("export", "--out", out)).code).toBe(2);
    expect((await audit("export")).code).toBe(2);
  });

  it("flushes what waits into the log, and exits with 5 while it can't", async () => {
    fs.mkdirSync(path);
    await expect(store("run-1", "acme")).rejects.toThrow("can't be written");
    expect((await audit("flush")).code).toBe(5);
    fs.rmdirSync(path);
    expect((await audit("verify")).stdout).toContain("2 events wait to be stored: npx runbook audit flush");
    expect((await audit("flush", "--dry-run")).stderr).toContain(`would: append 2 waiting events to ${path}`);
    expect((await audit("flush", "--json")).json()).toMatchObject({ appended: 2 });
    expect((await audit("verify")).stdout).toMatch(/2 events\nnothing waits/);
  });
});

it("a log that grows while it is read is whole", async () => {
  await store("run-1", "acme");
  const files = [path, `${path}.head`].map((file) => ({ file, early: fs.readFileSync(file) }));
  await store("run-2", "acme");
  const grown = files.map(({ file }) => ({ file, late: fs.readFileSync(file) }));
  for (const { file, early } of files) fs.writeFileSync(file, early);
  const { store: log } = opened();
  for (const door of ["head", "bytes"] as const) {
    const real = log[door].bind(log);
    // Whichever is read first, the other one is read later.
    vi.spyOn(log, door).mockImplementation((): never => {
      const found = real();
      for (const { file, late } of grown) fs.writeFileSync(file, late);
      return found as never;
    });
  }
  const [chain] = await readChains(log, undefined);
  expect(chain?.events).toHaveLength(4);
  expect(chain?.problem).toBeUndefined();
});

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
