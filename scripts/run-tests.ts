#!/usr/bin/env node
// `npm test`: all tests, or those that the arguments name (`npm test -- test/stacks -t "sentence"`). Ends with
// the line `N passed, N failed`, read from the runner's own report, and with exit code 0 only if all passed.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join, relative } from "node:path";
import { z } from "zod";
import { inParallel } from "../runbooks/lib/parallel.ts";
import { REPOSITORY, toolchainBin } from "./toolchain/paths.ts";

const Report = z.object({
  numTotalTests: z.number(),
  numPassedTests: z.number(),
  numFailedTests: z.number(),
  testResults: z.array(
    z.object({
      name: z.string(),
      status: z.string(),
      assertionResults: z.array(
        z.object({
          fullName: z.string(),
          status: z.string(),
          failureMessages: z.array(z.string()).default([]),
        }),
      ),
    }),
  ),
});

/** A run of the test runner: a project's tests, or one of two halves of them. */
interface Part {
  project: "unit" | "lab";
  shard?: string;
}

const args = process.argv.slice(2);
/**
 * Two at a time: what needs a lab waits for servers most of the time, the others use the processor meanwhile. The lab's
 * files come one after the other, so two halves on a lab each take half as long. What arguments choose may be too
 * little to be halved.
 */
const PARTS: Part[] =
  args.length > 0
    ? [{ project: "unit" }, { project: "lab" }]
    : [{ project: "unit" }, { project: "lab", shard: "1/2" }, { project: "lab", shard: "2/2" }];
const AT_ONCE = 2;
const scratch = mkdtempSync(join(tmpdir(), "recovery-tests-"));
try {
  const runs = await inParallel(PARTS, AT_ONCE, runVitest);
  for (const { output } of runs) process.stdout.write(output);
  const results = runs.map(({ report, code }) => count(report, code));
  const passed = results.reduce((sum, result) => sum + result.passed, 0);
  const failed = results.reduce((sum, result) => sum + result.failed, 0);
  if (passed + failed === 0) console.log("no test was found");
  console.log(`${passed} passed, ${failed === 0 && passed === 0 ? 1 : failed} failed`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

/** Runs one part. The first one's output is shown as it comes, the others' is returned. */
async function runVitest(part: Part) {
  const { project, shard } = part;
  const report = join(scratch, `${PARTS.indexOf(part)}.json`);
  const runner = join(REPOSITORY, "node_modules", "vitest", "vitest.mjs");
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const shown = part === PARTS[0];
  const child = spawn(
    process.execPath,
    [
      runner,
      "run",
      "--project",
      project,
      ...(shard === undefined ? [] : [`--shard=${shard}`]),
      "--passWithNoTests",
      ...reporters,
      ...args,
    ],
    {
      cwd: REPOSITORY,
      stdio: ["inherit", shown ? "inherit" : "pipe", shown ? "inherit" : "pipe"],
      env: { ...process.env, PATH: [toolchainBin(), process.env.PATH].join(delimiter) },
    },
  );
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  }
  // An interrupt from the terminal reaches the runner too: it stops what the tests started, then ends.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
  const [code] = await once(child, "close");
  return { report, output, code: typeof code === "number" ? code : 1 };
}

/** What the runner's report says; whatever it can't say (no report, an error outside every test) is a failure. */
function count(file: string, code: number): { passed: number; failed: number } {
  const report = readReport(file);
  if (report === undefined) return { passed: 0, failed: 1 };
  // A file that could not be collected, or whose hook failed, has no failed test of its own to be counted by.
  const brokenFiles = report.testResults.filter(
    ({ status, assertionResults }) =>
      status === "failed" && !assertionResults.some((t) => t.status === "failed"),
  );
  for (const { name } of brokenFiles) console.log(`FAILED outside its tests: ${name}`);
  // Once more at the end: whoever has only the last lines of a log learns which.
  for (const { name, assertionResults } of report.testResults) {
    for (const { fullName, failureMessages } of assertionResults.filter((t) => t.status === "failed"))
      console.log(`FAILED: ${relative(REPOSITORY, name)} > ${fullName}\n${firstLines(failureMessages)}`);
  }
  // A skipped test proves nothing, so it counts as failed, unless the arguments themselves chose among the tests.
  const skipped = chosenByName() ? [] : report.testResults.flatMap(unrun);
  for (const name of skipped) console.log(`SKIPPED, which counts as failed: ${name}`);
  const failed = report.numFailedTests + brokenFiles.length + skipped.length;
  return { passed: report.numPassedTests, failed: failed === 0 && code !== 0 ? 1 : failed };
}

function unrun({ assertionResults }: z.infer<typeof Report>["testResults"][number]): string[] {
  return assertionResults
    .filter(({ status }) => status !== "passed" && status !== "failed")
    .map((t) => t.fullName);
}

/** Enough to know what it is about; the whole of it stands above. */
function firstLines(messages: readonly string[]): string {
  return messages
    .flatMap((message) => message.split("\n").slice(0, 4))
    .map((line) => `  ${line.slice(0, 300)}`)
    .join("\n");
}

function readReport(file: string): z.infer<typeof Report> | undefined {
  try {
    return Report.parse(JSON.parse(readFileSync(file, "utf8")));
  } catch (error) {
    console.log(`the test runner left no usable report: ${error instanceof Error ? error.message : error}`);
    return undefined;
  }
}

function chosenByName(): boolean {
  return args.some((arg) => arg.startsWith("-t") || arg.startsWith("--testNamePattern"));
}
