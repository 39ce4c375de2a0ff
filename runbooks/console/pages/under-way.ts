// Runs that go on while nobody looks: where they are found again.
import { html } from "hono/html";
import type { Html } from "../layout.ts";
import { stateText } from "../run-view.ts";
import type { Runs } from "../runs.ts";
import { when } from "./moment.ts";

/** Those of this console that haven't ended; of all tenants, or of one. */
export function underWay(runs: Runs, tenant?: string): Html {
  const living = runs
    .list()
    .filter(({ ended, wanted }) => ended === undefined && (tenant === undefined || wanted.tenant === tenant));
  return html`${living.map(
    (
      run,
    ) => html`<p class="card card-live"><a href="/runs/${run.id}">${run.wanted.title}</a>, started ${when(run.started.toISOString())} by ${run.user}.
${stateText(run)}</p>
`,
  )}`;
}
