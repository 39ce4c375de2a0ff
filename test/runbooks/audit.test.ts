// `runbook audit` where no bucket is set: the log alone.
import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { AuditLog } from "../../runbooks/lib/audit.ts";
import { readChains } from "../../runbooks/lib/audit-reader.ts";
import { audit, folder, opened, path, settings, store, useAuditPlaces } from "./lib/fixtures/audit-place.ts";

useAuditPlaces();

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
