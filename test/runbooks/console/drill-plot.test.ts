// The drills' plot, read back out of its picture: where a drawn mark stands says how many seconds it stands for.
import { expect, test } from "vitest";
import { inWords, plot, seriesOf } from "../../../runbooks/console/pages/drill-plot.ts";
import type { DrillReport } from "../../../runbooks/lib/drill-reports.ts";

type Measured = [at: string, rto: number | null, rpo?: number | null];

/** The newest first, as they are read. */
const reports = (...measured: Measured[]): DrillReport[] =>
  measured.toReversed().map(([at, rto, rpo = 0]) => ({
    at,
    scenarios: [
      {
        name: "2 Vault loss",
        passed: true,
        ...{ target_rto_s: 1800, measured_rto_s: rto, target_rpo_s: 86_400, measured_rpo_s: rpo },
      },
    ],
  }));

const THREE = reports(
  ["2026-01-01T02:00:00Z", 20, 0],
  ["2026-01-02T02:00:00Z", 2000, 100],
  ["2026-01-05T02:00:00Z", null, 90_000],
);

const picture = async (...given: Parameters<typeof plot>) => String(await plot(...given));
const [rto, rpo] = seriesOf(THREE);
if (rto === undefined || rpo === undefined) throw new Error("two series are expected");

const circles = (svg: string) =>
  [...svg.matchAll(/<circle class="plot-kept" cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, x, y]) => ({
    x: Number(x),
    y: Number(y),
  }));
const crosses = (svg: string) =>
  [...svg.matchAll(/<path class="plot-missed" d="M([\d.]+) ([\d.]+)l/g)].map(([, x, y]) => ({
    x: Number(x) + 4,
    y: Number(y) + 4,
  }));
const promised = (svg: string) => Number(/class="plot-promise"[^>]* y1="([\d.]+)"/.exec(svg)?.[1]);

test("a drill within its promise is a dot below the promise's line, one that missed it a cross above", async () => {
  const svg = await picture(rto);
  expect(circles(svg)).toHaveLength(1);
  expect(circles(svg)[0]?.y).toBeGreaterThan(promised(svg));
  const [late, unknown] = crosses(svg);
  expect(late?.y).toBeLessThan(promised(svg));
  // The one that was never measured stands above all that was.
  expect(unknown?.y).toBeLessThanOrEqual(late?.y ?? 0);
});

test("days lie as far apart as they are", async () => {
  const svg = await picture(rpo);
  const [first, second] = circles(svg).map(({ x }) => x);
  const [third] = crosses(svg).map(({ x }) => x);
  if (first === undefined || second === undefined || third === undefined) throw new Error(svg);
  expect((third - first) / (second - first)).toBeCloseTo(4, 1);
});

test("the line skips what was not measured", async () => {
  const [, points = ""] = /<polyline class="plot-line" points="([^"]*)"/.exec(await picture(rto)) ?? [];
  expect(points.split(" ")).toHaveLength(2);
});

test("a single drill, with nothing lost and nothing promised to be lost, is drawn whole", async () => {
  const one: DrillReport = {
    at: "2026-01-01T02:00:00Z",
    scenarios: [
      {
        ...{ name: "1", passed: true, target_rto_s: 1, measured_rto_s: 1, target_rpo_s: 0 },
        measured_rpo_s: 0,
      },
    ],
  };
  for (const series of seriesOf([one])) {
    const svg = await picture(series);
    expect(svg).not.toContain("NaN");
    expect(svg).not.toContain("Infinity");
    expect(circles(svg)).toHaveLength(1);
  }
});

test("everything stays within the picture, whatever was measured", async () => {
  for (const seconds of [0, 0.4, 59, 1800, 1801, 86_400 * 365]) {
    const svg = await picture(seriesOf(reports(["2026-01-01T02:00:00Z", seconds]))[0] ?? rto);
    for (const { y } of [...circles(svg), ...crosses(svg)]) {
      expect(y).toBeGreaterThanOrEqual(10);
      expect(y).toBeLessThanOrEqual(126);
    }
  }
});

test("says in words what the picture shows", () => {
  expect(inWords(rto)).toBe(
    "RTO of scenario 2 Vault loss: not measured on 2026-01-05, promised 30 min; 3 drills, 2 missed",
  );
  expect(inWords(rpo)).toBe(
    "RPO of scenario 2 Vault loss: 25 h on 2026-01-05, promised 24 h; 3 drills, 1 missed",
  );
});

test("a scenario's name is shown as text, whatever is in it", async () => {
  const hostile = reports(["2026-01-01T02:00:00Z", 1]);
  for (const { scenarios } of hostile) for (const one of scenarios) one.name = '"><script>alert(1)</script>';
  const svg = await picture(seriesOf(hostile)[0] ?? rto);
  expect(svg).not.toContain("<script");
  expect(svg).toContain("&lt;script&gt;");
});
