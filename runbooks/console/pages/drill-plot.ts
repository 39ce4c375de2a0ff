// Times that drills measured, held against what was promised: a small plot for each scenario and time, over the days.
// Seconds stand on a logarithmic scale, since a promise is an hour and a drill in a lab takes half a minute. Pure.
import { html } from "hono/html";
import type { DrillReport } from "../../lib/drill-reports.ts";
import type { Html } from "../layout.ts";
import { day, span } from "./moment.ts";

/** One scenario's RTO or RPO over time, the oldest first. */
export interface Series {
  readonly scenario: string;
  readonly measure: "RTO" | "RPO";
  /** Seconds, as of the newest drill that promised any. */
  readonly promised: number | null;
  readonly points: readonly Point[];
}

export interface Point {
  /** ISO 8601. */
  readonly at: string;
  /** Null: the drill ended before it was known. */
  readonly seconds: number | null;
  readonly kept: boolean;
}

/** What the reports (the newest first) say of each scenario that was ever played: RTO, then RPO. */
export function seriesOf(reports: readonly DrillReport[]): Series[] {
  const oldestFirst = reports.toReversed();
  const names = new Set(oldestFirst.flatMap(({ scenarios }) => scenarios.map(({ name }) => name)));
  return [...names]
    .sort()
    .flatMap((scenario) => [
      series(oldestFirst, scenario, "RTO", "target_rto_s", "measured_rto_s"),
      series(oldestFirst, scenario, "RPO", "target_rpo_s", "measured_rpo_s"),
    ]);
}

function series(
  reports: readonly DrillReport[],
  scenario: string,
  measure: Series["measure"],
  target: "target_rto_s" | "target_rpo_s",
  measured: "measured_rto_s" | "measured_rpo_s",
): Series {
  const played = reports.flatMap(({ at, scenarios }) =>
    scenarios.filter(({ name }) => name === scenario).map((one) => ({ at, one })),
  );
  const promised = played.flatMap(({ one }) => one[target] ?? []).at(-1) ?? null;
  const points = played.map(({ at, one }) => {
    const seconds = one[measured];
    const limit = one[target] ?? Number.POSITIVE_INFINITY;
    return { at, seconds, kept: seconds !== null && seconds <= limit };
  });
  return { scenario, measure, promised, points };
}

const [WIDTH, HEIGHT] = [340, 150];
const [LEFT, RIGHT, TOP, BOTTOM] = [52, 12, 18, 26];
const TICKS = [0, 1, 10, 60, 600, 3600, 36_000, 86_400, 864_000];
/** Fewer pixels between two words would have them touch. */
const APART = 15;

/** The plot; its meaning in words is in its label, and each number in the table beside it. */
export function plot(shown: Series): Html {
  const { scenario, measure, promised, points } = shown;
  const top = Math.max(10, promised ?? 0, ...points.map(({ seconds }) => seconds ?? 0));
  const y = (seconds: number): number =>
    round(HEIGHT - BOTTOM - (scale(seconds) / (scale(top) * 1.06)) * (HEIGHT - BOTTOM - TOP));
  const times = points.map(({ at }) => Date.parse(at));
  const [from, to] = [Math.min(...times), Math.max(...times)];
  const x = (at: string): number =>
    from === to
      ? (WIDTH + LEFT - RIGHT) / 2
      : round(LEFT + 8 + ((Date.parse(at) - from) / (to - from)) * (WIDTH - RIGHT - LEFT - 16));
  const baseline = HEIGHT - BOTTOM;
  const dates = [...new Set(points.map(({ at }) => day(at)))];
  return html`<svg class="plot" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${inWords(shown)}">
    ${ticksOf(top, y).map(
      (tick) =>
        html`<line class="plot-grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(tick)}" y2="${y(tick)}"/>
      <text class="plot-tick" x="${LEFT - 8}" y="${y(tick) + 3.5}" text-anchor="end">${span(tick)}</text>`,
    )}
    ${
      promised === null
        ? ""
        : html`<line class="plot-promise" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(promised)}" y2="${y(promised)}"/>
      <text class="plot-promised" x="${WIDTH - RIGHT}" y="${y(promised) - 5}" text-anchor="end">promised ${span(promised)}</text>`
    }
    <polyline class="plot-line" points="${points
      .flatMap(({ at, seconds }) => (seconds === null ? [] : [`${x(at)},${y(seconds)}`]))
      .join(" ")}"/>
    ${points.map((point) => mark(point, x(point.at), point.seconds === null ? TOP : y(point.seconds)))}
    ${
      dates.length === 0
        ? ""
        : html`<text class="plot-tick" x="${dates.length === 1 ? (WIDTH + LEFT - RIGHT) / 2 : LEFT}" y="${baseline + 18}" text-anchor="${dates.length === 1 ? "middle" : "start"}">${dates[0]}</text>`
    }
    ${dates.length > 1 ? html`<text class="plot-tick" x="${WIDTH - RIGHT}" y="${baseline + 18}" text-anchor="end">${dates.at(-1)}</text>` : ""}
    <title>${scenario}: ${measure}</title>
  </svg>`;
}

/** A dot where the promise was kept, a cross where it wasn't or nobody knows: also for whoever sees no colours. */
function mark({ at, seconds, kept }: Point, x: number, y: number): Html {
  const said = `${day(at)}: ${seconds === null ? "not measured" : span(seconds)}${kept ? "" : ", missed"}`;
  return kept
    ? html`<circle class="plot-kept" cx="${x}" cy="${y}" r="3.5"><title>${said}</title></circle>`
    : html`<path class="plot-missed" d="M${x - 4} ${y - 4}l8 8m0-8l-8 8"><title>${said}</title></path>`;
}

/** What a reader who doesn't see the plot is told. */
export function inWords({ scenario, measure, promised, points }: Series): string {
  const last = points.at(-1);
  const missed = points.filter(({ kept }) => !kept).length;
  const newest =
    last === undefined
      ? "never measured"
      : `${last.seconds === null ? "not measured" : span(last.seconds)} on ${day(last.at)}`;
  const promise = promised === null ? "nothing promised" : `promised ${span(promised)}`;
  const drills = `${points.length} ${points.length === 1 ? "drill" : "drills"}`;
  return `${measure} of scenario ${scenario}: ${newest}, ${promise}; ${drills}, ${missed === 0 ? "none" : missed} missed`;
}

/** Seconds from 0 on, so that none at all has its place too. */
const scale = (seconds: number): number => Math.log10(1 + seconds);

function ticksOf(top: number, y: (seconds: number) => number): number[] {
  const ticks: number[] = [];
  for (const tick of TICKS) {
    const last = ticks.at(-1);
    if (tick <= top && (last === undefined || y(last) - y(tick) >= APART)) ticks.push(tick);
  }
  return ticks;
}

const round = (pixels: number): number => Math.round(pixels * 10) / 10;
