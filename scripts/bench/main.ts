// `npm run bench -- reset`: how fast the runbooks are, against a floor that is measured in the same run. Exit code 0
// only if the promise was kept.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { foreignNames } from "../lab/environment.ts";
import { startLab } from "../lab/lab.ts";
import { type OpenLab, openLab } from "../lab/place.ts";
import { resetText } from "./report.ts";
import { benchReset, RESET_RATIO } from "./reset.ts";

const USAGE = `Usage: npm run bench -- reset [--turns N] [--dir FOLDER] [--json FILE]

  reset         one emergency reset beside a bare script that sends only its necessary exchanges
  --turns N     how often each is run (default 7)
  --dir FOLDER  on the lab that runs in this folder, and not on a fresh one
  --json FILE   write what was measured as JSON too
`;

const tell = (line: string): void => void process.stderr.write(`${line}\n`);

process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  let flags: ReturnType<typeof parse>;
  try {
    flags = parse(args);
  } catch (error) {
    tell(`${error instanceof Error ? error.message.split(". ")[0] : error}\n\n${USAGE}`);
    return 2;
  }
  if (flags.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  // Everything that is started has an environment of the lab's; this is for what is called here.
  for (const name of foreignNames(process.env)) delete process.env[name];
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.once(signal, () => interrupted.abort(new Error(`Ended by ${signal}`)));
  try {
    return await onLab(flags.dir, interrupted.signal, async (lab) => {
      const report = await benchReset(lab, flags.turns, tell);
      process.stdout.write(resetText(report));
      if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify(report, undefined, 2)}\n`);
      return report.ratio <= RESET_RATIO ? 0 : 1;
    });
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error));
    return interrupted.signal.aborted ? 130 : 1;
  }
}

function parse(args: string[]) {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      turns: { type: "string", default: "7" },
      dir: { type: "string" },
      json: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  const turns = Number(values.turns);
  if (!Number.isInteger(turns) || turns < 1)
    throw new Error(`--turns is '${values.turns}': it takes a number`);
  if (!values.help && positionals.join(" ") !== "reset")
    throw new Error(`'${positionals.join(" ")}' is nothing that can be measured`);
  const file = (given: string | undefined) => (given === undefined ? undefined : resolve(given));
  return { turns, dir: file(values.dir), json: file(values.json), help: values.help };
}

/** On the lab in `dir`, or on a fresh one that ends with the measurement. */
async function onLab<T>(
  dir: string | undefined,
  signal: AbortSignal,
  work: (lab: OpenLab) => Promise<T>,
): Promise<T> {
  if (dir !== undefined) return Promise.race([work(await openLab(dir)), aborted(signal)]);
  const scratch = mkdtempSync(join(tmpdir(), "bench-"));
  try {
    tell("Starting a fresh lab");
    const lab = await startLab({
      dir: join(scratch, "lab"),
      signal,
      onProgress: (line) => tell(`  ${line}`),
    });
    try {
      return await Promise.race([work(lab), aborted(signal)]);
    } finally {
      await lab.stop();
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}
