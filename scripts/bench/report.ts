// What the benchmarks found, as tables for people.

import { RESET_RATIO, type ResetReport } from "./reset.ts";
import { median } from "./statistics.ts";

export function resetText(report: ResetReport): string {
  const { comparison, steps, real, bare, inTurn, ratio, ratioInTurn } = report;
  const sum = (of: "real" | "bare") => comparison.reduce((total, one) => total + one[of], 0);
  const s = (values: number[]) => `${median(values).toFixed(2)} s`;
  return `
Exchanges of one reset: ${sum("real")}, of which necessary: ${sum("bare")}
${table(comparison.map(({ exchange, real, bare, why }) => [exchange, `${real}`, `${bare}`, why ?? ""]))}

Where the reset's time goes (medians)
${table(steps.map(({ title, seconds }) => [title, `${seconds.toFixed(3)} s`]))}

reset as a whole process            ${s(real)}
bare script, at once what may be    ${s(bare)}   ratio ${ratio.toFixed(2)}
bare script, one by one             ${s(inTurn)}   ratio ${ratioInTurn.toFixed(2)}
${ratio <= RESET_RATIO ? "KEPT" : "MISSED"}: at most ${RESET_RATIO}
`;
}

function table(rows: string[][]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map(
      (row) =>
        `  ${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join("  ")
          .trimEnd()}`,
    )
    .join("\n");
}
