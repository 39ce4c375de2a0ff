import { expect, test } from "vitest";
import { reportJson, reportText } from "../../../scripts/drill/report.ts";
import {
  type Measured,
  play,
  type Result,
  type Scenario,
  type Stage,
} from "../../../scripts/drill/scenario.ts";
import type { Lab } from "../../../scripts/lab/lab.ts";

test("passes when both promises are kept, and reports every step with its time", async () => {
  const told: string[] = [];
  const result = await played(async ({ step }) => {
    await step("rebuild", async () => {});
    return { rto: 59.5, rpo: 0 };
  }, told);
  expect(result.passed).toBe(true);
  expect(told).toEqual([expect.stringMatching(/✓ rebuild \(0\.0 s\)/)]);
  expect(reportJson([result], new Date())).toMatchObject({
    scenarios: [
      {
        name: "a scenario",
        passed: true,
        target_rto_s: 60,
        measured_rto_s: 59.5,
        target_rpo_s: 0,
        measured_rpo_s: 0,
        steps: [{ title: "rebuild", seconds: expect.any(Number) }],
      },
    ],
  });
  const text = reportText([{ title: "Vault unsealed", seconds: 2 }], [result]);
  expect(text).toContain("PASSED");
  expect(text).toContain("rebuild");
  expect(text).toContain("Vault unsealed");
  expect(text).toContain("booting a cloud machine");
});

test.each<[Measured, string]>([
  [{ rto: 60.1, rpo: 0 }, "RTO missed: 60.1 s of 60 s"],
  [{ rto: 1, rpo: 0.5 }, "RPO missed: 0.5 s of 0 s"],
  [{ rto: Number.NaN, rpo: 0 }, "RTO missed"],
  [{ rto: 1, rpo: Number.POSITIVE_INFINITY }, "RPO missed"],
])("fails when %j is measured", async (measured, why) => {
  const result = await played(async () => measured);
  expect(result.passed).toBe(false);
  expect(result.failure).toContain(why);
  expect(reportText([], [result])).toContain("FAILED");
});

test("fails when a proof fails, with what was done up to there and no time made up", async () => {
  const told: string[] = [];
  const result = await played(async ({ step }) => {
    await step("kill", async () => {});
    await step("login", async () => {
      throw new Error("the password is refused");
    });
    return { rto: 1, rpo: 0 };
  }, told);
  expect(result).toMatchObject({ passed: false, measured: undefined, failure: "the password is refused" });
  expect(result.steps.map((step) => step.title)).toEqual(["kill", "login"]);
  expect(told[1]).toContain("✗ login");
  expect(reportJson([result], new Date())).toMatchObject({
    scenarios: [
      { passed: false, measured_rto_s: null, measured_rpo_s: null, failure: "the password is refused" },
    ],
  });
});

test("reports what became of mail that was submitted meanwhile", async () => {
  const mail = { submitted: 412, lost: 2, repeated: 1, longestGap: 1.26, lostSeconds: 0.4 };
  const result = await played(async () => ({ rto: 1, rpo: mail.lostSeconds, mail }));
  expect(result.failure).toBe("RPO missed: 0.4 s of 0 s");
  expect(reportJson([result], new Date())).toMatchObject({
    scenarios: [{ mail: { submitted: 412, lost: 2, repeated: 1, longest_gap_s: 1.26 } }],
  });
  expect(reportText([], [result])).toMatch(/412 submitted meanwhile: 2 lost, 1 .* 1\.3 s/);
});

function played(how: (stage: Stage) => Promise<Measured>, told: string[] = []): Promise<Result> {
  const scenario: Scenario = { name: "a scenario", targetRto: 60, targetRpo: 0, play: how };
  return play(scenario, {} as Lab, (line) => told.push(line));
}
