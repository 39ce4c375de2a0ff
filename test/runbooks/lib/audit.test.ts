import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AuditLog, type AuditLogOptions, appendWaiting } from "../../../runbooks/lib/audit.ts";
import { verifyChain } from "../../../runbooks/lib/audit-chain.ts";
import { AuditSpool } from "../../../runbooks/lib/audit-spool.ts";
import { AuditStore } from "../../../runbooks/lib/audit-store.ts";
import { BackupSection, backupOf } from "../../../runbooks/lib/backup-settings.ts";
import { RunbookError } from "../../../runbooks/lib/errors.ts";
import { registerSecret } from "../../../runbooks/lib/redact.ts";
import type { Settings } from "../../../runbooks/lib/settings.ts";
import { Running } from "./fixtures/process.ts";

const APPENDER = join(import.meta.dirname, "fixtures", "appender.ts");
let folder: string;
let path: string;

beforeEach(() => {
  folder = fs.mkdtempSync(join(tmpdir(), "audit-"));
  path = join(folder, "state", "audit.jsonl");
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

function settings(log = path): Settings {
  return {
    file: join(folder, "recovery.yaml"),
    vault: { addr: "http://127.0.0.1:1" },
    audit: { log, bucket: undefined },
    ssh: { user: "root", identity_file: undefined },
    pulumi: { project_dir: folder },
    notify: undefined,
    dns: { resolvers: [], authoritative: undefined },
    backup: backupOf(BackupSection.parse({}), String),
    drills: join(folder, "drills"),
  };
}

const logOf = (runId: string, options: Partial<AuditLogOptions> = {}) =>
  new AuditLog({ settings: () => settings(), runId, userId: async () => "alice", ...options });

const lines = () =>
  fs
    .readFileSync(path, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
const whole = () => verifyChain(fs.readFileSync(path), new AuditStore(path).head());

async function failureOf(act: Promise<unknown>): Promise<RunbookError> {
  const error = await act.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof RunbookError) return error;
  throw new Error(`not a runbook's error: ${error}`);
}

describe("the audit log", () => {
  it("takes no event that its readers wouldn't take: it would end the chain for all later ones", async () => {
    const audit = logOf("run-1");
    const broken = { event: "a" } as unknown as Parameters<typeof audit.append>[0];
    await expect(audit.append(broken)).rejects.toThrow(/details/);
    await audit.append({ event: "b", details: {} });
    await audit.finish();
    expect(lines().map(({ event }) => event)).toEqual(["b", "run_finished"]);
    expect(whole().problem).toBeUndefined();
  });

  it("creates nothing before the first event", async () => {
    const audit = logOf("run-1");
    await audit.finish();
    expect(fs.existsSync(join(folder, "state"))).toBe(false);
  });

  it("holds the specification's fields, and tenant and severity only where they were given", async () => {
    const audit = logOf("run-1");
    await audit.append({
      event: "smtp_credentials_recovered",
      tenantId: "acme",
      severity: "high",
      details: { a: 1 },
    });
    await audit.finish();
    const [event, last] = lines();
    expect(event).toEqual({
      event: "smtp_credentials_recovered",
      event_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      tenant_id: "acme",
      user_id: "alice",
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      severity: "high",
      details: { a: 1 },
      run_id: "run-1",
      chain: expect.any(String),
      seq: 1,
      prev: "0".repeat(64),
      hash: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(last).toMatchObject({ event: "run_finished", details: { events: 1 }, seq: 2, prev: event.hash });
    expect(last).not.toHaveProperty("tenant_id");
    expect(last).not.toHaveProperty("severity");
  });

  it("says what came after an event, however far it was read before, and whoever else adds to it", async () => {
    const store = new AuditStore(path);
    const append = async (runId: string, count: number) => {
      const audit = logOf(runId);
      for (let at = 0; at < count; at += 1)
        await audit.append({ event: `e${at}`, details: { filler: "x".repeat(30_000) } });
    };
    const since = (seq: number) => store.eventsAfter(seq).map((event) => event.seq);
    expect(since(0)).toEqual([]);
    await append("run-1", 5);
    expect(since(0)).toEqual([1, 2, 3, 4, 5]);
    await append("run-2", 2);
    expect(since(5)).toEqual([6, 7]);
    expect(since(7)).toEqual([]);
    expect(since(3)).toEqual([4, 5, 6, 7]);
    expect(since(9)).toEqual([]);
    await append("run-3", 1);
    expect(since(7)).toEqual([8]);
    expect(store.chain()).toBe(lines()[0].chain);
  });

  it("is readable by its owner alone", async () => {
    await logOf("run-1").append({ event: "a", details: {} });
    expect(fs.statSync(path).mode & 0o777).toBe(0o600);
    expect(fs.statSync(join(folder, "state")).mode & 0o777).toBe(0o700);
  });

  it("goes on with one chain from run to run", async () => {
    for (const run of ["run-1", "run-2"]) {
      const audit = logOf(run);
      await audit.append({ event: "a", tenantId: "acme", details: {} });
      await audit.append({ event: "a", tenantId: "globex", details: {} });
      await audit.finish();
    }
    expect(lines().map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(new Set(lines().map(({ chain }) => chain)).size).toBe(1);
    expect(whole()).toMatchObject({ problem: undefined, open: [] });
  });

  it("stores an event of the original run once, however often the run is resumed", async () => {
    const first = await logOf("run-1").append({ event: "recovered", tenantId: "acme", details: {} });
    const resumed = logOf("run-2");
    const again = await resumed.append({
      event: "recovered",
      tenantId: "acme",
      details: {},
      originalRun: "run-1",
    });
    await resumed.finish();
    expect(again).toEqual(first);
    expect(lines()).toHaveLength(1);
    expect(whole().open).toEqual([{ run_id: "run-1", since: expect.any(String), events: 1 }]);
  });

  it("holds no registered secret, and an event whose actor can't be asked for all the same", async () => {
    registerSecret("correct-horse-battery");
    const userId = () => Promise.reject(new Error("Vault says correct-horse-battery"));
    await logOf("run-1", { userId }).append({
      event: "a",
      details: { deep: [{ said: "x correct-horse-battery" }] },
    });
    expect(fs.readFileSync(path, "utf8")).not.toContain("correct-horse");
    expect(lines()[0]).toMatchObject({
      user_id: "unknown (Vault says [redacted])",
      details: { deep: [{ said: "x [redacted]" }] },
    });
  });

  it("stores nothing in a dry run", async () => {
    const audit = logOf("run-1", { dryRun: true });
    await audit.append({ event: "a", details: {} });
    await audit.finish();
    expect(fs.existsSync(join(folder, "state"))).toBe(false);
  });
});

describe("several processes at one log", () => {
  const append = (count: number, name: string) =>
    new Running(process.execPath, [APPENDER, path, String(count), name]);

  it("keep one whole chain with every event of each", async () => {
    const running = ["one", "two", "three"].map((name) => append(25, name));
    const ended = await Promise.all(running.map((process) => process.ended()));
    expect(ended.map(({ code, stderr }) => [code, stderr])).toEqual([
      [0, ""],
      [0, ""],
      [0, ""],
    ]);
    const acknowledged = ended.flatMap(({ stdout }) => stdout.trim().split("\n"));
    const report = whole();
    expect(report).toMatchObject({ problem: undefined, open: [] });
    expect(report.events).toHaveLength(3 * 26);
    expect(new Set(report.events.map(({ event_id }) => event_id))).toEqual(
      new Set([...acknowledged, ...finished(report)]),
    );
  });

  it("lose no acknowledged event and are held up by nothing when one is killed while appending", async () => {
    const acknowledged: string[] = [];
    for (const [round, after] of [1, 4, 9, 13].entries()) {
      const victim = append(100_000, `victim-${round}`);
      while (victim.stdout.split("\n").length <= after)
        await new Promise((resolve) => setTimeout(resolve, 1));
      victim.child.kill("SIGKILL");
      acknowledged.push(...(await victim.ended()).stdout.split("\n").slice(0, -1));
    }
    const start = performance.now();
    expect((await append(1, "survivor").ended()).code).toBe(0);
    expect(performance.now() - start).toBeLessThan(5_000);
    const report = whole();
    expect(report.problem).toBeUndefined();
    const stored = new Set(report.events.map(({ event_id }) => event_id));
    expect(acknowledged.filter((id) => !stored.has(id))).toEqual([]);
    expect(report.open.map(({ run_id }) => run_id)).toEqual(["victim-0", "victim-1", "victim-2", "victim-3"]);
  });
});

function finished({ events }: ReturnType<typeof whole>): string[] {
  return events.filter(({ event }) => event === "run_finished").map(({ event_id }) => event_id);
}

describe("a log that a crash left unfinished", () => {
  beforeEach(async () => {
    const audit = logOf("run-1");
    await audit.append({ event: "a", details: {} });
    await audit.finish();
  });

  it("keeps the torn line aside, says so in the log and goes on", async () => {
    fs.appendFileSync(path, '{"chain":"abc","details":{');
    expect(whole().problem).toMatchObject({ kind: "cut", seq: 3 });
    const audit = logOf("run-2");
    await audit.append({ event: "b", details: {} });
    await audit.finish();
    expect(lines().map(({ event }) => event)).toEqual([
      "a",
      "run_finished",
      "audit_line_set_aside",
      "b",
      "run_finished",
    ]);
    const { details } = lines()[2];
    expect(details).toMatchObject({ bytes: 26, sha256: expect.any(String) });
    expect(fs.readFileSync(details.file, "utf8")).toBe('{"chain":"abc","details":{');
    expect(whole()).toMatchObject({ problem: undefined, open: [] });
  });

  it("completes an event that only lost its newline", async () => {
    fs.truncateSync(path, fs.statSync(path).size - 1);
    await logOf("run-2").append({ event: "b", details: {} });
    expect(lines().map(({ event }) => event)).toEqual(["a", "run_finished", "b"]);
    expect(whole().problem).toBeUndefined();
  });

  it("goes on when the crash came between the event and the note of it", async () => {
    const head = fs.readFileSync(`${path}.head`);
    await logOf("run-2").append({ event: "b", details: {} });
    for (const left of [head, Buffer.alloc(0)]) {
      fs.writeFileSync(`${path}.head`, left);
      await logOf("run-3").append({ event: `c${left.length}`, details: {} });
      expect(whole().problem).toBeUndefined();
    }
  });
});

describe("a log that can't be written", () => {
  const store = async (runId: string, log = path) => {
    const audit = logOf(runId, { settings: () => settings(log) });
    await audit.append({ event: "a", tenantId: "acme", details: { n: 1 } });
    await audit.append({ event: "b", details: {} });
    expect(await audit.acknowledged()).toBe(false);
    return failureOf(audit.finish());
  };

  it("stops no run: its events wait beside it, in their order, until they are flushed", async () => {
    fs.mkdirSync(path, { recursive: true });
    const error = await store("run-1");
    expect(error.exitCode).toBe(5);
    expect(error.message).toContain(`${path}.spool`);
    expect(error.next).toContain("npx runbook audit flush");

    fs.rmdirSync(path);
    const spool = new AuditSpool(path);
    expect(spool.waiting().map(({ event }) => event?.event)).toEqual(["a", "b", "run_finished"]);
    expect(await appendWaiting(new AuditStore(path), spool)).toBe(3);
    expect(spool.waiting()).toEqual([]);
    expect(lines()[0]).toMatchObject({ event: "a", tenant_id: "acme", details: { n: 1 }, run_id: "run-1" });
    expect(whole()).toMatchObject({ problem: undefined, open: [] });
  });

  it("leaves its events in the system's temporary folder when there is no room beside it either", async () => {
    fs.writeFileSync(join(folder, "file"), "");
    const before = process.env.TMPDIR;
    process.env.TMPDIR = folder;
    try {
      const log = join(folder, "file", "audit.jsonl");
      const error = await store("run-1", log);
      expect(error.exitCode).toBe(5);
      expect(error.message).toContain(`${folder}/penguinmails-audit-spool-`);
      expect(new AuditSpool(log).waiting()).toHaveLength(3);
    } finally {
      process.env.TMPDIR = before;
      if (before === undefined) delete process.env.TMPDIR;
    }
  });

  it("is left as evidence when it was cut, and what comes is kept apart", async () => {
    const audit = logOf("run-1");
    await audit.append({ event: "a", details: {} });
    await audit.finish();
    const [first] = fs.readFileSync(path, "utf8").split("\n");
    fs.writeFileSync(path, `${first}\n`);
    const error = await store("run-2");
    expect(error.message).toContain("it was cut or replaced");
    expect(error.exitCode).toBe(5);
    expect(fs.readFileSync(path, "utf8")).toBe(`${first}\n`);
    expect(whole().problem).toMatchObject({ kind: "cut", seq: 2 });
  });

  it("takes a line back that didn't fit on the disk", async () => {
    const disk = join(folder, "disk");
    fs.mkdirSync(disk);
    const script = `mount -t tmpfs -o size=16k none '${disk}' && '${process.execPath}' '${APPENDER}' '${disk}/audit.jsonl' 40 filler; code=$?; cp -a '${disk}' '${folder}/kept'; exit $code`;
    const TMPDIR = join(folder, "tmp");
    fs.mkdirSync(TMPDIR);
    const { code, stdout, stderr } = await new Running("unshare", ["-m", "sh", "-c", script], {
      env: { TMPDIR },
    }).ended();
    expect(stderr).toMatch(/ENOSPC|disk is full/);
    expect(code).toBe(5);
    const kept = new AuditStore(join(folder, "kept", "audit.jsonl"));
    const report = verifyChain(kept.bytes(), kept.head());
    expect(report.problem).toBeUndefined();
    const spooled = fs
      .readdirSync(TMPDIR, { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".json"));
    const besides = fs
      .readdirSync(join(folder, "kept"), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".json"));
    expect(report.events.length).toBeGreaterThan(2);
    expect(report.events.length + spooled.length + besides.length).toBe(41);
    expect(stdout.trim().split("\n")).toHaveLength(40);
  });
});
