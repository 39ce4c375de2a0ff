// The last drill's report: kept on the machine where it was played, and read by whoever asks how things stand. A report
// of a lab; what it can't measure stands in it.
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { z } from "zod";
import { readIfThere, replaceFile } from "./durable-file.ts";
import { messageOf, RunbookError } from "./errors.ts";
import { stateFolder } from "./settings.ts";

const Seconds = z.number().nullable();

export const Drill = z.object({
  at: z.iso.datetime(),
  scenarios: z.array(
    z.object({
      name: z.string(),
      passed: z.boolean(),
      target_rto_s: z.number(),
      measured_rto_s: Seconds,
      target_rpo_s: z.number(),
      measured_rpo_s: Seconds,
    }),
  ),
});
export type Drill = z.infer<typeof Drill>;

export const drillFile = (env: NodeJS.ProcessEnv): string => join(stateFolder(env), "last-drill.json");

/** In place of the one before. */
export function keepDrill(env: NodeJS.ProcessEnv, report: Drill): void {
  const file = drillFile(env);
  mkdirSync(dirname(file), { recursive: true });
  replaceFile(file, `${JSON.stringify(report, undefined, 2)}\n`);
}

/** Undefined where none was kept. @throws RunbookError (exit 1) for a file that is no report. */
export function readDrill(file: string): Drill | undefined {
  try {
    const text = readIfThere(file);
    return text === undefined ? undefined : Drill.parse(JSON.parse(text.toString()));
  } catch (error) {
    throw noReport(file, error);
  }
}

const noReport = (file: string, cause: unknown): RunbookError =>
  new RunbookError(`${file} is no drill's report: ${messageOf(cause).split("\n")[0]}`, {
    exit: "failed",
    next: "npm run drill   # writes a new one",
    cause,
  });
