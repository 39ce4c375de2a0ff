// A drill's report on its way from the drill to whoever asks.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { drillFile, keepDrill, readDrill } from "../../../runbooks/lib/last-drill.ts";
import { reportJson } from "../../../scripts/drill/report.ts";

test("what a drill reports is kept, replaces the one before, and is read again; another file is refused", () => {
  const XDG_STATE_HOME = mkdtempSync(join(tmpdir(), "drill-state-"));
  onTestFinished(() => rmSync(XDG_STATE_HOME, { recursive: true }));
  const env = { XDG_STATE_HOME };
  expect(readDrill(drillFile(env))).toBeUndefined();
  const scenario = { name: "VPS failure", targetRto: 3600, targetRpo: 0 };
  const measured = { rto: 12.3456, rpo: 0 };
  const results = [{ scenario, passed: true, measured, steps: [], failure: undefined }];
  for (const at of ["2026-03-30T05:00:00.000Z", "2026-03-31T05:00:00.000Z"]) {
    keepDrill(env, reportJson(results as unknown as Parameters<typeof reportJson>[0], new Date(at)));
    expect(readDrill(drillFile(env))).toEqual({
      at,
      scenarios: [
        {
          name: "VPS failure",
          passed: true,
          target_rto_s: 3600,
          measured_rto_s: 12.346,
          target_rpo_s: 0,
          measured_rpo_s: 0,
        },
      ],
    });
  }
  writeFileSync(drillFile(env), "half a rep");
  expect(() => readDrill(drillFile(env))).toThrow("is no drill's report");
});
