// Reports of drills, a file each in the folder that `drills` in recovery.yaml names: what was promised and what was
// measured, over time.
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { createWhole } from "./durable-file.ts";
import { messageOf } from "./errors.ts";

const seconds = z.number().nullable();

/** Times in seconds; null where nothing was measured. */
export const DrillReport = z.looseObject({
  /** When it began, ISO 8601. */
  at: z.iso.datetime(),
  scenarios: z.array(
    z.looseObject({
      name: z.string(),
      passed: z.boolean(),
      target_rto_s: seconds,
      measured_rto_s: seconds,
      target_rpo_s: seconds,
      measured_rpo_s: seconds,
    }),
  ),
});
export type DrillReport = z.infer<typeof DrillReport>;

const NAME = /^drill-\d{8}T\d{6}Z\.json$/;

/** Writes it into the folder, which is made where it isn't there. Returns the file. @throws Error. */
export function keepDrillReport(folder: string, report: DrillReport): string {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `drill-${report.at.replaceAll(/[-:]|\.\d+/g, "")}.json`);
  // In one step: half a report, of whoever was killed, would be the newest until the next drill.
  if (!createWhole(file, `${JSON.stringify(report, undefined, 2)}\n`))
    throw new Error(`${file} exists already`);
  return file;
}

/** The newest first; none where the folder isn't there yet. @throws Error naming a file that is no report. */
export function readDrillReports(folder: string, most = Number.POSITIVE_INFINITY): DrillReport[] {
  return namesIn(folder)
    .sort()
    .reverse()
    .slice(0, most)
    .map((name) => {
      try {
        return DrillReport.parse(JSON.parse(readFileSync(join(folder, name), "utf8")));
      } catch (cause) {
        const why = cause instanceof z.ZodError ? "it is no report of a drill" : messageOf(cause);
        throw new Error(`${join(folder, name)} can't be read: ${why}`, { cause });
      }
    });
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => NAME.test(name));
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  }
}
