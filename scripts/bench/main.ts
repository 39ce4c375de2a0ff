// `npm run bench -- reset|response|backup|drift|drift-hosts|console`: how fast the runbooks are, against something that is measured in the same run.
// Exit code 0 only if the promise was kept.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { foreignNames } from "../lab/environment.ts";
import { startLab } from "../lab/lab.ts";
import { type OpenLab, openLab } from "../lab/place.ts";
import { benchBackup, LEAST_RATIO, MOST_MIB } from "./backup.ts";
import { benchConsole, isKept } from "./console.ts";
import { benchDrift, DRIFT_RATIO } from "./drift.ts";
import { benchHosts } from "./drift-hosts.ts";
import { backupText, consoleText, driftText, hostsText, resetText, responseText } from "./report.ts";
import { benchReset, RESET_RATIO } from "./reset.ts";
import { benchResponse, PROMISED } from "./response.ts";

const USAGE = `Usage: npm run bench -- reset|response|backup|drift|drift-hosts|console [flags]

  reset           one emergency reset beside a bare script that sends only its necessary exchanges
    --turns N       how often each is run (default 7)
  response        one response for many tenants beside a shell loop, on servers that take their time
    --tenants N     how many (default 500)
    --latency MS    what each server takes for an answer (default 300)
    --sequential N  tenants of the shell loop (default 3)
    --at-once N     tenants at the same time (default: the runbook's own)

  drift           a look at the credentials of many tenants beside one at the slowest of them
    --tenants N     how many (default 100)
    --latency MS    what each server takes for an answer (default 300)
    --slowest MS    what the slowest host takes for one (default 1000)
    --turns N       how often each look is taken (default 3)

  drift-hosts     the same for their hosts, and for their DNS records; the same flags

  console         the console's first page, and what it costs Vault while it is open
    --tenants N     how many (default 500)
    --turns N       how often the page is asked for (default 7)

  backup          a sealed backup beside an unsealed one, to and from the same server
    --mib N,N       sizes of the snapshots that are made (default 256,2048); a real Vault has 256 MiB

  --dir FOLDER    on the lab that runs in this folder, and not on a fresh one; response, drift, drift-hosts and console need one without tenants
  --json FILE     write what was measured as JSON too
`;

const tell = (line: string): void => void process.stderr.write(`${line}\n`);

// Whatever a measurement that was ended has started goes with this process.
process.exit(await main(process.argv.slice(2)));

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
    const { report, text, kept } = await measure(flags, interrupted.signal);
    process.stdout.write(text);
    if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify(report, undefined, 2)}\n`);
    return kept ? 0 : 1;
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error));
    return interrupted.signal.aborted ? 130 : 1;
  }
}

async function measure(
  flags: ReturnType<typeof parse>,
  signal: AbortSignal,
): Promise<{ report: unknown; text: string; kept: boolean }> {
  if (flags.what === "reset") {
    const report = await onLab(flags.dir, "two", signal, (lab) => benchReset(lab, flags.turns ?? 7, tell));
    return { report, text: resetText(report), kept: report.ratio <= RESET_RATIO };
  }
  if (flags.what === "backup") {
    const { rows, kept } = await benchBackup(flags.mib, tell);
    return {
      report: { rows, promised: { peakMiB: MOST_MIB, ratio: LEAST_RATIO } },
      text: backupText(rows),
      kept,
    };
  }
  const many = { tenants: flags.tenants ?? 100, turns: flags.turns ?? 3 };
  if (flags.what === "drift") {
    const report = await onLab(flags.dir, "none", signal, (lab, scratch) =>
      benchDrift(lab, { ...flags, ...many, scratch }, tell),
    );
    return { report, text: driftText(report), kept: report.ratio <= DRIFT_RATIO };
  }
  if (flags.what === "drift-hosts") {
    const report = await onLab(flags.dir, "none", signal, (lab, scratch) =>
      benchHosts(lab, { ...flags, ...many, scratch }, tell),
    );
    const kept = report.checks.every(({ ratio }) => ratio <= DRIFT_RATIO);
    return { report, text: hostsText(report), kept };
  }
  const tenants = flags.tenants ?? 500;
  if (flags.what === "console") {
    const report = await onLab(flags.dir, "none", signal, (lab, scratch) =>
      benchConsole(lab, { tenants, turns: flags.turns ?? 7, scratch }, tell),
    );
    return { report, text: consoleText(report), kept: isKept(report) };
  }
  const { latency, atOnce } = flags;
  const sequential = Math.min(flags.sequential, tenants);
  const report = await onLab(flags.dir, "none", signal, (lab, scratch) =>
    benchResponse(lab, { tenants, latency, atOnce, sequential, scratch }, tell),
  );
  const kept = report.ratio >= PROMISED.throughput && report.peakMb < PROMISED.peakMb;
  return { report, text: responseText(report), kept };
}

function parse(args: string[]) {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      turns: { type: "string" },
      tenants: { type: "string" },
      latency: { type: "string", default: "300" },
      slowest: { type: "string", default: "1000" },
      sequential: { type: "string", default: "3" },
      "at-once": { type: "string" },
      mib: { type: "string", default: "256,2048" },
      dir: { type: "string" },
      json: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  const what = positionals.join(" ");
  if (!values.help && !["reset", "response", "backup", "drift", "drift-hosts", "console"].includes(what))
    throw new Error(`'${what}' is nothing that can be measured`);
  const file = (given: string | undefined) => (given === undefined ? undefined : resolve(given));
  return {
    what,
    turns: values.turns === undefined ? undefined : count("turns", values.turns),
    tenants: values.tenants === undefined ? undefined : count("tenants", values.tenants),
    latency: count("latency", values.latency),
    slowest: count("slowest", values.slowest),
    sequential: count("sequential", values.sequential),
    atOnce: values["at-once"] === undefined ? undefined : count("at-once", values["at-once"]),
    mib: values.mib.split(",").map((size) => count("mib", size)),
    dir: file(values.dir),
    json: file(values.json),
    help: values.help,
  };
}

function count(flag: string, text: string): number {
  const number = Number(text);
  if (Number.isInteger(number) && number > 0) return number;
  throw new Error(`--${flag} is '${text}': it takes a number from 1 on`);
}

/** On the lab in `dir`, or on a fresh one that ends with the measurement. */
async function onLab<T>(
  dir: string | undefined,
  tenants: "none" | "two",
  signal: AbortSignal,
  work: (lab: OpenLab, scratch: string) => Promise<T>,
): Promise<T> {
  const scratch = mkdtempSync(join(tmpdir(), "bench-"));
  try {
    if (dir !== undefined) return await Promise.race([work(await openLab(dir), scratch), aborted(signal)]);
    tell("Starting a fresh lab");
    const onProgress = (line: string): void => tell(`  ${line}`);
    const lab = await startLab({ dir: join(scratch, "lab"), tenants, signal, onProgress });
    try {
      return await Promise.race([work(lab, scratch), aborted(signal)]);
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
