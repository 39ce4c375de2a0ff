// A run as its page shows it. What changes while it runs is one part of the page, which the server writes anew.
import { html, raw } from "hono/html";
import { EXIT } from "../lib/errors.ts";
import { seconds } from "../lib/terminal.ts";
import { type Html, problem } from "./layout.ts";
import { type ConsoleRun, commandOf } from "./runs.ts";
import type { Session } from "./sessions.ts";

/** So many stand open; more would hide what comes below. */
const FEW_NOTES = 3;

/** What the page gets at each change. */
export interface Update {
  /** The part that changes, as HTML. */
  readonly html: string;
  /** For screen readers: one sentence. */
  readonly said: string;
  readonly display: ReturnType<typeof displayFor>;
  readonly ended: boolean;
}

export function liveView(run: ConsoleRun, session: Session): Html {
  const { steps, notes, progressText, resultText, said } = run.operator;
  return html`<p class="state state-${stateOf(run)}">${stateText(run)}</p>
<ol class="steps">
${steps.map(
  (step) => html`<li class="step step-${step.state} depth-${Math.min(step.depth, 3)}">
<span class="mark" aria-hidden="true"></span><span class="title">${step.title}</span>
<span class="took">${step.seconds === undefined ? (step.state === "running" ? "running" : "") : seconds(step.seconds * 1000)}</span>
${step.state === "failed" ? html`<span class="visually-hidden">failed</span>` : ""}</li>\n`,
)}</ol>
${progressText === "" ? "" : html`<p class="progress">${progressText}</p>`}
${notes.length === 0 ? "" : html`<details class="notes"${notes.length <= FEW_NOTES ? raw(" open") : ""}><summary>Notes (${notes.length})</summary><pre tabindex="0">${notes.join("\n")}</pre></details>`}
${said === undefined ? "" : problem(said.message, said.next)}
${resultText === "" ? "" : html`<h2>Result</h2><pre class="result" tabindex="0">${resultText}</pre>`}
${run.ended === undefined || run.ended.code === 0 ? "" : againForm(run, session)}`;
}

/** The very command once more: it does only what is outstanding. */
const againForm = (
  run: ConsoleRun,
  session: Session,
): Html => html`<form method="post" action="/runs/${run.id}/again">
<input type="hidden" name="csrf" value="${session.csrf}">
<button type="submit" class="primary">Run it again</button>
${run.ended?.code === EXIT.incomplete ? html`<p class="hint">The same command with your rights: it does only what is outstanding.</p>` : ""}
</form>`;

/** The new credential's place on the page. It is empty until its button is pressed. */
export function credentialView(run: ConsoleRun, session: Session): Html {
  const display = displayFor(run, session);
  return html`<section id="credential" class="credential" aria-labelledby="credential-title"${display === "none" ? raw(" hidden") : ""}
  data-display="${display}" data-expires="${run.operator.expires}">
<h2 id="credential-title">New password</h2>
<div data-when="waiting">
<p>It can be shown once, in this window. Nobody else can see it here.</p>
<button type="button" class="primary" id="show-credential">Show the new password</button>
<p class="hint">Waiting for you for another <span data-countdown></span>.</p>
</div>
<div data-when="open">
<dl id="credential-fields"></dl>
<p>Wiped in <strong data-countdown></strong>. A reload can't bring it back.</p>
<button type="button" id="hide-credential">Hide it now</button>
</div>
<p data-when="shown">It was shown once. Who needs another one starts a new reset.</p>
<p data-when="wiped" role="status">Wiped from this page. It was shown once.</p>
<p data-when="gone">Nobody looked at it in time, so it was wiped. Run the same again: nothing is rotated, and it is shown.</p>
<p data-when="other">Only ${run.user} can see it, in the session that started this run.</p>
</section>`;
}

/** `other`: it is somebody else's to see, or of an earlier session. */
export function displayFor(run: ConsoleRun, session: Session) {
  const { display } = run.operator;
  return display === "waiting" && run.sessionId !== session.id ? "other" : display;
}

export function runHead(run: ConsoleRun): Html {
  const { wanted, user, started } = run;
  return html`<h1>${wanted.title}</h1>
<p class="meta">Started by ${user}, <time datetime="${started.toISOString()}">${utc(started)}</time>. It goes on when you close this page.</p>
<details class="command"><summary>The same on a terminal</summary><pre tabindex="0"><code>${commandOf(wanted)}</code></pre></details>`;
}

export const utc = (at: Date): string => `${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;

export function stateOf({ ended }: ConsoleRun): "running" | "done" | "failed" | "incomplete" {
  if (ended === undefined) return "running";
  if (ended.code === 0) return "done";
  return ended.code === EXIT.incomplete ? "incomplete" : "failed";
}

export function stateText(run: ConsoleRun): string {
  const { ended, operator } = run;
  if (ended === undefined) {
    const step = operator.steps.findLast(({ state }) => state === "running");
    if (operator.display === "waiting") return "Done so far: waiting for you to look at the new password";
    return step === undefined ? "Starting" : `Running: ${step.title}`;
  }
  return END_TEXT[ended.code] ?? `Failed (exit ${ended.code})`;
}

const END_TEXT: Record<number, string> = {
  0: "Done",
  [EXIT.failed]: "Failed",
  [EXIT.usage]: "Not started: bad input",
  [EXIT.permission]: "Not started: insufficient permissions",
  [EXIT.refused]: "Refused: going on would be dangerous",
  [EXIT.incomplete]: "Incomplete: run it again to do what is left",
  [EXIT.drift]: "Drift found",
  130: "Ended before anything was changed",
};
