// Starting runs, watching them, finding them again, and the one-time display.
import { html } from "hono/html";
import { type SSEStreamingApi, streamSSE } from "hono/streaming";
import { RunbookError } from "../lib/errors.ts";
import type { App, Console } from "./context.ts";
import { fragment, page } from "./layout.ts";
import { AGAIN } from "./reset-dialog.ts";
import {
  credentialView,
  displayFor,
  liveView,
  runHead,
  stateOf,
  stateText,
  type Update,
  utc,
} from "./run-view.ts";
import type { ConsoleRun } from "./runs.ts";
import type { Session } from "./sessions.ts";
import { driftForm } from "./start-pages.ts";

/** Milliseconds in which changes become one update. */
const TOGETHER_MS = 100;

/** Milliseconds between two signs that the stream still lives. */
const ALIVE_MS = 15_000;

export function runPages(app: App, console: Console): void {
  app.get("/runs", (c) =>
    page(c, { title: "Runs", active: "/runs" }, runList(console.runs.list(), c.get("session"))),
  );
  app.get("/runs/:id", (c) => {
    const run = found(console, c.req.param("id"));
    const session = c.get("session");
    return page(
      c,
      { title: run.wanted.title, active: "/runs", scripts: ["run.js"] },
      html`${runHead(run)}
${credentialView(run, session)}
<div id="run-lost" class="problem" role="alert" hidden><p>The console doesn't answer. What stands here may be past.</p>
<p><strong>Next:</strong> start the console again where it ran. Whatever it left unfinished stands under <a href="/incidents">Incidents</a>, with a button that goes on with it.</p></div>
<p id="run-said" class="visually-hidden" role="status"></p>
<div id="run-live" data-events="/runs/${run.id}/events" data-ended="${String(run.ended !== undefined)}">${liveView(run, session)}</div>`,
    );
  });
  app.get("/runs/:id/events", (c) => {
    const run = found(console, c.req.param("id"));
    // A page that is gone is no error of the server's.
    return streamSSE(
      c,
      (stream) => watch(stream, run, c.get("session")),
      async () => {},
    );
  });
  app.post("/runs/:id/again", async (c) => {
    const { wanted } = found(console, c.req.param("id"));
    // What was to be rotated once more was: this goes on with it.
    const args = wanted.args.filter((word) => word !== AGAIN);
    const again = await console.runs.start(c.get("session"), { ...wanted, args, once: "" });
    return c.redirect(`/runs/${again.id}`, 303);
  });
  app.post("/runs/:id/credential", (c) => {
    const run = found(console, c.req.param("id"));
    const handing = run.sessionId === c.get("session").id ? run.operator.take() : undefined;
    if (handing === undefined) return c.json({ gone: true }, 410);
    // Counts as shown once the whole answer has left; a connection that broke before leaves it to be fetched again.
    const { outgoing } = c.env;
    outgoing.once("close", () => handing.handed(outgoing.writableFinished));
    return c.json(handing.fields);
  });
}

function found(console: Console, id: string): ConsoleRun {
  const run = console.runs.find(id);
  if (run !== undefined) return run;
  throw new RunbookError("This run isn't known here: the console was started anew since", {
    exit: "usage",
    next: "Incidents shows what is unfinished, with a button that goes on with it",
  });
}

function runList(runs: ConsoleRun[], session: Session): ReturnType<typeof html> {
  const head = html`<h1>Runs</h1>
<div class="actions">${driftForm(session)} <a class="button" href="/respond">Respond to a compromise</a></div>`;
  if (runs.length === 0) return html`${head}<p class="empty">Nothing was started here yet.</p>`;
  return html`${head}
<table><caption class="visually-hidden">Runs, the newest first</caption>
<thead><tr><th scope="col">Run</th><th scope="col">State</th><th scope="col">By</th><th scope="col">Started</th></tr></thead>
<tbody>
${runs.map(
  (run) => html`<tr><th scope="row"><a href="/runs/${run.id}">${run.wanted.title}</a></th>
<td><span class="state state-${stateOf(run)}">${stateText(run)}</span></td><td>${run.user}</td>
<td><time datetime="${run.started.toISOString()}">${utc(run.started)}</time></td></tr>\n`,
)}</tbody></table>`;
}

/** Tells the page of each change, until the run, the session or the page is gone. */
async function watch(stream: SSEStreamingApi, run: ConsoleRun, session: Session): Promise<void> {
  let wake = () => {};
  const changed = () => wake();
  run.watchers.add(changed);
  session.ended.addEventListener("abort", changed);
  stream.onAbort(changed);
  const alive = setInterval(changed, ALIVE_MS);
  try {
    for (;;) {
      const next = new Promise<void>((resolve) => {
        wake = resolve;
      });
      if (stream.aborted) return;
      if (session.ended.aborted) return await stream.writeSSE({ event: "signed-out", data: "" });
      const update = await updateOf(run, session);
      await stream.writeSSE({ event: "update", data: JSON.stringify(update) });
      if (update.ended) return;
      await next;
      await stream.sleep(TOGETHER_MS);
    }
  } finally {
    clearInterval(alive);
    run.watchers.delete(changed);
    session.ended.removeEventListener("abort", changed);
  }
}

async function updateOf(run: ConsoleRun, session: Session): Promise<Update & { expires: string }> {
  return {
    html: await fragment(liveView(run, session)),
    said: await fragment(html`${stateText(run)}`),
    display: displayFor(run, session),
    expires: run.operator.expires,
    ended: run.ended !== undefined,
  };
}
