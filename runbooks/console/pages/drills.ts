// Drills: what recovery took each time, against what is promised.
import { html } from "hono/html";
import { type DrillReport, readDrillReports } from "../../lib/drill-reports.ts";
import { messageOf } from "../../lib/errors.ts";
import type { App, Console } from "../context.ts";
import { type Html, page, problem } from "../layout.ts";
import { plot, type Series, seriesOf } from "./drill-plot.ts";
import { span, when } from "./moment.ts";
import { badge, command } from "./words.ts";

/** Drills on the page, the newest ones: a quarter of a year, where one is played each day. */
const MOST = 90;

export function drillsPages(app: App, { settings }: Console): void {
  app.get("/drills", (c) =>
    page(
      c,
      { title: "Drills", active: "/drills", scripts: ["live.js"] },
      html`<h1>Drills</h1>${shown(settings.drills)}`,
    ),
  );
}

function shown(folder: string): Html {
  try {
    const reports = readDrillReports(folder, MOST);
    if (reports.length === 0)
      return html`<p class="empty">No drill is on record here yet: ${command("npm run drill")}</p>`;
    return html`${plots(seriesOf(reports))}${table(reports)}`;
  } catch (error) {
    return problem(messageOf(error), `ls ${folder}`);
  }
}

const plots = (all: readonly Series[]): Html =>
  html`<div class="plots">${all.map(
    (series) => html`<figure class="card">
<figcaption><span class="plot-scenario">${series.scenario}</span> ${series.measure === "RTO" ? "Time to recover (RTO)" : "Data lost (RPO)"}</figcaption>
${plot(series)}</figure>`,
  )}</div>`;

const table = (reports: readonly DrillReport[]): Html => html`<h2>Every drill</h2>
<table class="drills">
<thead><tr><th scope="col">When</th><th scope="col">Scenario</th><th scope="col">RTO</th><th scope="col">promised</th><th scope="col">RPO</th><th scope="col">promised</th><th scope="col">Promise</th></tr></thead>
<tbody>${reports.map(({ at, scenarios }) =>
  scenarios.map(
    (one) => html`<tr>
<th scope="row" data-label="When">${when(at)}</th><td data-label="Scenario">${one.name}</td>
<td data-label="RTO" class="number">${measured(one.measured_rto_s)}</td><td data-label="promised" class="number">${measured(one.target_rto_s)}</td>
<td data-label="RPO" class="number">${measured(one.measured_rpo_s)}</td><td data-label="promised" class="number">${measured(one.target_rpo_s)}</td>
<td data-label="Promise">${one.passed ? badge("good", "Kept") : badge("bad", "Missed")}</td></tr>
`,
  ),
)}</tbody></table>`;

const measured = (seconds: number | null): string => (seconds === null ? "–" : span(seconds));
