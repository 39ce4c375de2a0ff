// The drill's report: a table for people and the same as JSON.

import { styleText } from "node:util";
import type { Drill } from "../../runbooks/lib/last-drill.ts";
import type { Result, Step } from "./scenario.ts";
import type { Tally } from "./tally.ts";

/** What no lab can measure; said in every report, so that nobody takes its seconds for a cloud's. */
const NOT_MEASURED = [
  "booting a cloud machine (1 to 3 minutes on EC2)",
  "pulling Mailu's images (1 to 5 minutes)",
  "DNS caches, where the address changes (up to the TTL of 5 minutes)",
];

/** The report as text. `setUp`: what starting the lab consisted of. */
export function reportText(setUp: Step[], results: Result[]): string {
  const lines: string[] = [];
  table(lines, "Lab: fresh, platform and two tenants", setUp);
  for (const { scenario, passed, measured, steps, failure } of results) {
    table(lines, scenario.name, steps);
    const shown = (seconds: number | undefined): string =>
      seconds === undefined ? "not measured" : `${seconds.toFixed(1)} s`;
    lines.push(`  RTO  ${shown(measured?.rto)}, promised ${scenario.targetRto} s`);
    lines.push(`  RPO  ${shown(measured?.rpo)}, promised ${scenario.targetRpo} s`);
    if (measured?.mail !== undefined) lines.push(`  Mail ${mailText(measured.mail)}`);
    lines.push(
      passed ? `  ${styleText("green", "PASSED")}` : `  ${styleText("red", "FAILED")}: ${failure}`,
      "",
    );
  }
  lines.push("A lab can't measure, so add for a real cloud:", ...NOT_MEASURED.map((one) => `  - ${one}`));
  return lines.join("\n");
}

/** The report as the JSON document of `--json`. A time that wasn't measured is null. */
export function reportJson(results: Result[], at = new Date()): Drill & Record<string, unknown> {
  return {
    at: at.toISOString(),
    scenarios: results.map(({ scenario, passed, measured, steps, failure }) => ({
      name: scenario.name,
      passed,
      target_rto_s: scenario.targetRto,
      measured_rto_s: rounded(measured?.rto),
      target_rpo_s: scenario.targetRpo,
      measured_rpo_s: rounded(measured?.rpo),
      ...(measured?.mail === undefined ? {} : { mail: mailJson(measured.mail) }),
      steps: steps.map(({ title, seconds }) => ({ title, seconds: rounded(seconds) })),
      ...(failure === undefined ? {} : { failure }),
    })),
    not_measured: NOT_MEASURED,
  };
}

const mailText = ({ submitted, lost, repeated, longestGap }: Tally): string =>
  `${submitted} submitted meanwhile: ${lost} lost, ${repeated} delivered more than once; the longest wait of a client from one to the next ${longestGap.toFixed(1)} s`;

const mailJson = ({ submitted, lost, repeated, longestGap }: Tally): unknown => ({
  submitted,
  lost,
  repeated,
  longest_gap_s: rounded(longestGap),
});

const rounded = (seconds: number | undefined): number | null =>
  seconds === undefined || !Number.isFinite(seconds) ? null : Math.round(seconds * 1000) / 1000;

function table(lines: string[], heading: string, steps: Step[]): void {
  const width = Math.max(heading.length, ...steps.map((step) => step.title.length));
  lines.push(styleText("bold", heading), `  ${"-".repeat(width + 10)}`);
  for (const { title, seconds } of steps) {
    lines.push(`  ${title.padEnd(width)} ${seconds.toFixed(1).padStart(7)} s`);
  }
  lines.push("");
}
