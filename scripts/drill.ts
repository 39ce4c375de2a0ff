// `npm run drill`: plays the scenarios on a fresh lab and says whether the promises were kept. Exit code 0 only if
// all were.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type DrillReport, keepDrillReport } from "../runbooks/lib/drill-reports.ts";
import { messageOf } from "../runbooks/lib/errors.ts";
import { drillsFolder } from "../runbooks/lib/settings.ts";
import { reportJson, reportText } from "./drill/report.ts";
import { play, type Result, type Scenario } from "./drill/scenario.ts";
import { scenario1 } from "./drill/scenario-1.ts";
import { scenario2 } from "./drill/scenario-2.ts";
import { scenario3 } from "./drill/scenario-3.ts";
import { foreignNames } from "./lab/environment.ts";
import { type Lab, startLab } from "./lab/lab.ts";
import { openLab } from "./lab/place.ts";

const SCENARIOS: Scenario[] = [scenario1, scenario2, scenario3];

const USAGE = `Usage: npm run drill -- [--json FILE] [--record FOLDER]

  Starts a fresh lab, plays every scenario on it, and prints a table of steps with times and the verdict.

  --json FILE      write the report as JSON too
  --record FOLDER  where the report is kept under its time, for \`npx runbook status\`: the folder that \`drills\` in
                   recovery.yaml names; both have the same default
`;

/** Where the report goes besides the terminal. */
interface Places {
  json: string | undefined;
  record: string;
}

const tell = (line: string): void => void process.stderr.write(`${line}\n`);

process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  let places: Places;
  try {
    const { values } = parseArgs({
      args,
      options: {
        json: { type: "string" },
        record: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
    if (values.help === true) {
      process.stdout.write(USAGE);
      return 0;
    }
    const absolute = (path: string | undefined) => (path === undefined ? undefined : resolve(path));
    places = { json: absolute(values.json), record: absolute(values.record) ?? drillsFolder(process.env) };
  } catch (error) {
    tell(`${error instanceof Error ? error.message.split(". ")[0] : error}\n\n${USAGE}`);
    return 2;
  }
  // Everything that the drill starts has an environment of the lab's; this is for what it calls itself.
  for (const name of foreignNames(process.env)) delete process.env[name];
  const scratch = mkdtempSync(join(tmpdir(), "drill-"));
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.once(signal, () => interrupted.abort(new Error(`Ended by ${signal}`)));
  try {
    return await drill(scratch, places, interrupted.signal);
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error));
    return interrupted.signal.aborted ? 130 : 1;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function drill(scratch: string, { json, record }: Places, signal: AbortSignal): Promise<number> {
  const at = new Date();
  tell("Starting a fresh lab");
  const lab = await startLab({ dir: join(scratch, "lab"), signal, onProgress: (line) => tell(`  ${line}`) });
  try {
    const results = await Promise.race([playAll(lab), aborted(signal)]);
    process.stdout.write(`\n${reportText(lab.phases, results)}\n`);
    const report = reportJson(results, at);
    if (json !== undefined) writeFileSync(json, `${JSON.stringify(report, undefined, 2)}\n`);
    keep(record, report);
    return results.every((result) => result.passed) ? 0 : 1;
  } finally {
    await lab.stop();
  }
}

/** A report that can't be kept makes no promise a broken one. */
function keep(folder: string, report: DrillReport): void {
  try {
    tell(`Kept as ${keepDrillReport(folder, report)}`);
  } catch (error) {
    tell(`The report isn't kept for \`runbook status\`: ${messageOf(error)}`);
  }
}

async function playAll(lab: Lab): Promise<Result[]> {
  const results: Result[] = [];
  for (const scenario of SCENARIOS) {
    tell(`Scenario ${scenario.name}`);
    // A restored Vault has other logins than the lab began with.
    results.push(await play(scenario, { ...lab, ...(await openLab(lab.dir)) }, tell));
  }
  return results;
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}
