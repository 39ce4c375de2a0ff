// A drift report as its readers have it: JSON, text for a terminal, Markdown for a CI's summary.
import type { Accepted, Judged } from "./drift-accept.ts";
import { CHECKS, type CheckName, type Finding, findingId, type Unchecked } from "./findings.ts";
import { oneLine } from "./printable.ts";

export interface DriftResult extends Record<string, unknown> {
  checks: CheckName[];
  /** Those that count. */
  findings: Row[];
  /** Checks, or parts of one, that could not run. */
  unchecked: Unchecked[];
  accepted: (Row & { until: string; reason: string })[];
  /** Entries of --accept that nothing was found for. */
  accepted_unused: Accepted[];
}

type Row = Finding & {
  id: string;
  /** The day until which it was accepted, where that is over. */
  accepted_until?: string;
};

export function driftResult(
  checks: readonly CheckName[],
  judged: Judged,
  unchecked: readonly Unchecked[],
): DriftResult {
  const byId = (a: Row, b: Row) =>
    CHECKS.indexOf(a.check) - CHECKS.indexOf(b.check) || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
  return {
    checks: [...checks],
    findings: judged.counted
      .map(({ finding, expired }) => ({
        id: findingId(finding),
        ...finding,
        ...(expired === undefined ? {} : { accepted_until: expired.until }),
      }))
      .sort(byId),
    unchecked: [...unchecked].sort((a, b) => CHECKS.indexOf(a.check) - CHECKS.indexOf(b.check)),
    accepted: judged.accepted
      .map(({ finding, by }) => ({ id: findingId(finding), ...finding, until: by.until, reason: by.reason }))
      .sort(byId),
    accepted_unused: judged.unused,
  };
}

/** In one sentence. */
export function verdict({ checks, findings, unchecked }: DriftResult): string {
  const drift = findings.length === 0 ? "no drift found" : `${count(findings.length, "finding")}`;
  const missing =
    unchecked.length === 0
      ? "everything was looked at"
      : `${count(unchecked.length, "part")} could not be looked at`;
  return `${checks.join(", ")}: ${drift}, ${missing}`;
}

export function driftText(result: DriftResult): string {
  const { checks, findings, unchecked, accepted, accepted_unused } = result;
  const blocks = checks.flatMap((check) => {
    const found = findings.filter((one) => one.check === check);
    const not = unchecked.filter((one) => one.check === check);
    const known = accepted.filter((one) => one.check === check);
    if (found.length + not.length + known.length === 0) return [`${check}: as declared`];
    return [
      `${check}:`,
      ...found.flatMap((one) => [`  ${one.what}`, ...details(one).map((line) => `      ${line}`)]),
      ...not.flatMap(({ about, why, next }) => [
        `  NOT CHECKED: ${about}: ${oneLine(why)}`,
        `      next:     ${next}`,
      ]),
      ...known.map((one) => `  accepted until ${one.until} (${one.reason}): ${one.what}`),
    ];
  });
  const unused = accepted_unused.map(({ id }) => `accepted, but not found: ${id}`);
  return [...blocks, ...unused, verdict(result)].join("\n");
}

function details(row: Row): string[] {
  const { id, declared, found, mend, accepted_until } = row;
  return [
    ...(accepted_until === undefined
      ? []
      : [`accepted until ${accepted_until}: that is over, so it counts again`]),
    ...values("declared:", declared),
    ...values("found:", found),
    `mend:     ${mend}`,
    `id:       ${id}`,
  ];
}

const values = (label: string, text: string | undefined): string[] =>
  text === undefined
    ? []
    : text.split("\n").map((line, at) => `${(at === 0 ? label : "").padEnd(9)} ${shortened(line)}`);

/** A policy in one line would fill a screen; `--json` has all of it. */
const WIDEST = 300;
const shortened = (line: string): string => (line.length > WIDEST ? `${line.slice(0, WIDEST)} …` : line);

export function driftMarkdown(result: DriftResult): string {
  const { findings, unchecked, accepted, accepted_unused } = result;
  const lines = ["## Drift", "", escaped(verdict(result)), ""];
  if (findings.length > 0) {
    lines.push("| check | finding | declared | found | mend |", "|---|---|---|---|---|");
    for (const one of findings) {
      const over = one.accepted_until === undefined ? "" : ` (accepted until ${one.accepted_until}: over)`;
      const cells = [escaped(one.check), `${escaped(one.what)}${over}<br>${code(one.id)}`];
      lines.push(`| ${[...cells, code(one.declared), code(one.found), code(one.mend)].join(" | ")} |`);
    }
    lines.push("");
  }
  if (unchecked.length > 0) {
    lines.push("| not checked | about | why | next |", "|---|---|---|---|");
    for (const { check, about, why, next } of unchecked)
      lines.push(`| ${escaped(check)} | ${escaped(about)} | ${escaped(why)} | ${code(next)} |`);
    lines.push("");
  }
  for (const { what, until, reason } of accepted)
    lines.push(`- accepted until ${until} (${escaped(reason)}): ${escaped(what)}`);
  for (const { id } of accepted_unused) lines.push(`- accepted, but not found: ${code(id)}`);
  return lines.join("\n").trimEnd();
}

const escaped = (text: string): string => oneLine(text).replace(/[\\`*_{}[\]<>|#]/g, "\\$&");

/** Between backticks nothing but a backtick, and a table's bar, means anything. */
const code = (text: string | undefined): string =>
  text === undefined
    ? ""
    : text
        .split("\n")
        .map((line) => `\`${shortened(oneLine(line)).replaceAll("`", "'").replaceAll("|", "\\|")}\``)
        .join("<br>");

const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? "" : "s"}`;
