// What the benchmarks found, as tables for people.

import { LEAST_RATIO, MOST_MIB, type Row, within } from "./backup.ts";
import { CONSOLE_PROMISED, type ConsoleReport } from "./console.ts";
import { DRIFT_RATIO, type DriftReport, type Look, medianOf, type Turn } from "./drift.ts";
import type { HostsReport } from "./drift-hosts.ts";
import { RESET_RATIO, type ResetReport } from "./reset.ts";
import { PROMISED, type ResponseReport } from "./response.ts";
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

export function backupText(rows: readonly Row[]): string {
  const names = Object.keys(rows[0]?.figures ?? {});
  return `
${table([
  ["snapshot", ...rows.map(({ snapshot }) => snapshot)],
  ...names.map((name) => [name, ...rows.map(({ figures }) => `${figures[name]}`)]),
])}

${rows.every(within) ? "KEPT" : "MISSED"}: less than ${MOST_MIB} MiB, and with a real Vault at least ${LEAST_RATIO} times the rate of the same without seal and check
`;
}

export function driftText(report: DriftReport): string {
  const { turns, conversation, ratio, load } = report;
  return `
${groundText(report)}

What the servers of all of them had to do in the first look
${table([["server", "requests", "at most at a time"], ...load.map(({ server, requests, most }) => [server, `${requests}`, `${most}`])])}

slowest conversation          ${conversation.seconds.toFixed(2)} s with ${conversation.server}
${turnsText(turns)}
${verdictText(turns, ratio)}`;
}

export function hostsText(report: HostsReport): string {
  const parts = report.checks.map(
    ({ check, turns, few, ratio, load }) => `
${check}
answers of ${load.server.padEnd(19)}${load.requests} in the first look, ${load.most} at most at a time
${turnsText(turns)}
look at ${`${report.few} of them`.padEnd(22)}${few.lookSeconds.toFixed(2)} s, ${few.cpuSeconds.toFixed(1)} s of processor time, ${Math.round(few.peakMb)} MB
${verdictText(turns, ratio)}`,
  );
  return `
${groundText(report)}
${parts.join("")}`;
}

const groundText = ({ tenants, latency, slowest }: DriftReport | HostsReport): string =>
  `${tenants} tenants, ${latency} ms for each answer, ${slowest} ms of the slowest host`;

function turnsText(turns: readonly Turn[]): string {
  const [all, alone] = [turns.map((turn) => turn.all), turns.map((turn) => turn.alone)];
  const s = (looks: Look[], of: keyof Look) => `${medianOf(looks, of).toFixed(2)} s`;
  const mb = (looks: Look[]) => `${Math.round(Math.max(...looks.map(({ peakMb }) => peakMb)))} MB`;
  return `look at the slowest tenant    ${s(alone, "lookSeconds")}, ${s(alone, "seconds")} as a whole process
look at all tenants           ${s(all, "lookSeconds")}, ${s(all, "seconds")} as a whole process
its processor time            ${s(all, "cpuSeconds")}, ${s(alone, "cpuSeconds")} for one tenant
its peak memory               ${mb(all)}, ${mb(alone)} for one tenant`;
}

const verdictText = (turns: readonly Turn[], ratio: number): string =>
  `all beside the slowest one    ${ratio.toFixed(2)} times, the median of ${turns.map(({ all, alone }) => (all.lookSeconds / alone.lookSeconds).toFixed(2)).join(", ")}
${ratio <= DRIFT_RATIO ? "KEPT" : "MISSED"}: at most ${DRIFT_RATIO} times
`;

export function responseText(report: ResponseReport): string {
  const { tenants, latency, seconds, peakMb, cpuSeconds, sequential, ratio, load } = report;
  const perTenant = sequential.reduce((sum, one) => sum + one, 0) / sequential.length;
  const rows = Object.entries(load).map(([server, { requests, most, seconds: busy }]) => [
    server,
    `${requests}`,
    `${Math.round((busy / requests) * 1000)} ms`,
    (busy / seconds).toFixed(1),
    `${most}`,
  ]);
  return `
${tenants} tenants, ${latency} ms for each answer

What the servers had to do
${table([["server", "requests", "each took", "at a time", "at most"], ...rows])}

response as a whole process   ${seconds.toFixed(1)} s: ${(tenants / seconds).toFixed(2)} tenants a second
its processor time            ${cpuSeconds.toFixed(1)} s: ${Math.round((cpuSeconds / seconds) * 100)} % of one core
its peak memory               ${Math.round(peakMb)} MB
shell loop                    ${perTenant.toFixed(1)} s a tenant, measured on ${sequential.length}: ${Math.round(perTenant * tenants)} s for all, extrapolated
throughput                    ${ratio.toFixed(1)} times the shell loop's
${ratio >= PROMISED.throughput ? "KEPT" : "MISSED"}: at least ${PROMISED.throughput} times
${peakMb < PROMISED.peakMb ? "KEPT" : "MISSED"}: under ${PROMISED.peakMb} MB
`;
}

export function consoleText({ tenants, pageMs, paintMs, fill, open }: ConsoleReport): string {
  const ms = (values: readonly number[]) => `${Math.round(median(values))} ms`;
  const worst = Math.round(Math.max(...pageMs));
  const { firstPageMs, readsPerSecond } = CONSOLE_PROMISED;
  const rate = open.reads / open.seconds;
  return `
${tenants} tenants

first page, to its last byte     ${ms(pageMs)} in the middle of ${pageMs.length}, ${worst} ms at most
first page, seen in a browser    ${ms(paintMs)} in the middle of ${paintMs.length}
filling an open page             ${fill.reads} reads of Vault in ${fill.seconds.toFixed(1)} s, once
leaving it open                  ${rate.toFixed(1)} reads of Vault a second, over ${open.seconds} s
${median(pageMs) < firstPageMs ? "KEPT" : "MISSED"}: the first page in less than ${firstPageMs} ms
${rate <= readsPerSecond ? "KEPT" : "MISSED"}: at most ${readsPerSecond} reads a second
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
