// Reports of drills as files: kept under their time, read the newest first, and one that is none is named.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { keepDrillReport, readDrillReports } from "../../../runbooks/lib/drill-reports.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "drills-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const report = (at: string) => ({
  at,
  scenarios: [
    {
      name: "1",
      passed: true,
      target_rto_s: 3600,
      measured_rto_s: 9.4,
      target_rpo_s: 0,
      measured_rpo_s: null,
    },
  ],
});

it("keeps a report under its time, and reads the newest first", () => {
  const times = ["2026-02-01T02:00:00.000Z", "2026-03-01T02:00:00.000Z", "2025-12-31T23:59:59.999Z"];
  const files = times.map((at) => keepDrillReport(join(folder, "new"), report(at)));
  expect(files[0]).toBe(join(folder, "new", "drill-20260201T020000Z.json"));
  expect(readDrillReports(join(folder, "new"))).toEqual(
    [times[1], times[0], times[2]].map((at) => report(at ?? "")),
  );
  expect(readDrillReports(join(folder, "new"), 1)).toHaveLength(1);
});

it("never writes over one", () => {
  keepDrillReport(folder, report("2026-02-01T02:00:00.000Z"));
  expect(() => keepDrillReport(folder, report("2026-02-01T02:00:00.000Z"))).toThrow(
    /drill-20260201T020000Z\.json exists already/,
  );
});

it("has none where there is no folder, and leaves other files alone", () => {
  expect(readDrillReports(join(folder, "none"))).toEqual([]);
  writeFileSync(join(folder, "notes.json"), "{}");
  expect(readDrillReports(folder)).toEqual([]);
});

it.each(["{", "{}", '{"at":"2026-02-01T02:00:00Z","scenarios":[{"name":"1"}]}'])(
  "names a file that is no report: %s",
  (content) => {
    writeFileSync(join(folder, "drill-20260201T020000Z.json"), content);
    expect(() => readDrillReports(folder)).toThrow(/drill-20260201T020000Z\.json can't be read/);
  },
);
