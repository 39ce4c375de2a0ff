// A response for several tenants: choose them, say what was found, confirm their number, and it runs for all of them.
import { html, raw } from "hono/html";
import { EXIT, RunbookError } from "../lib/errors.ts";
import type { App, Console } from "./context.ts";
import { allTypedIn, formMarks, typedIn } from "./form.ts";
import { type Html, page, problem } from "./layout.ts";
import type { Session } from "./sessions.ts";

const TITLE = "Respond to a compromise";

export function respondPages(app: App, console: Console): void {
  app.get("/respond", async (c) => {
    const tenants = await c.get("session").vault.tenants();
    return page(c, { title: TITLE, active: "/", scripts: ["choose.js"] }, choice(c.get("session"), tenants));
  });
  // A form and not a link: hundreds of names don't fit into an address.
  app.post("/respond/choice", async (c) => {
    const tenants = await allTypedIn(c, "tenant");
    if (tenants.length === 0) return c.redirect("/respond", 303);
    return page(c, { title: TITLE, active: "/" }, form(c.get("session"), tenants));
  });
  app.post("/respond", async (c) => {
    const session = c.get("session");
    const tenants = await allTypedIn(c, "tenant");
    const { number, once, ...typed } = await typedIn(c, "incident", "details", "number", "once");
    try {
      if (number.trim() !== String(tenants.length)) {
        throw new RunbookError(`The number that was typed is not ${tenants.length}`, {
          exit: "usage",
          next: `type ${tenants.length}, if those are the tenants that you mean`,
        });
      }
      const run = await console.runs.start(session, {
        runbook: "respond-to-compromise",
        args: [
          `--incident=${typed.incident}`,
          `--details=${typed.details}`,
          `--tenants=${tenants.join(",")}`,
        ],
        title: `Response for ${tenants.length === 1 ? tenants[0] : `${tenants.length} tenants`}, ${typed.incident}`,
        incident: typed.incident,
        key: `respond ${typed.incident} ${tenants.toSorted().join(",")}`,
        once,
      });
      return c.redirect(`/runs/${run.id}`, 303);
    } catch (error) {
      if (!(error instanceof RunbookError) || error.exitCode !== EXIT.usage) throw error;
      return page(c, { title: TITLE, active: "/" }, form(session, tenants, { typed, error }), 400);
    }
  });
}

const choice = (session: Session, tenants: readonly string[]): Html => html`<h1>${TITLE}</h1>
<p>Which tenants' credentials may be in strangers' hands?</p>
<form method="post" action="/respond/choice" class="choose">
${formMarks(session)}
<label for="filter">Search</label>
<input id="filter" type="search" autocomplete="off" data-filters="tenant-choice">
<fieldset id="tenant-choice"><legend>Tenants</legend>
${tenants.map((tenant) => html`<label class="choice"><input type="checkbox" name="tenant" value="${tenant}"> ${tenant}</label>\n`)}</fieldset>
<div class="actions"><a class="button" href="/">Cancel</a>
<button type="submit" class="primary">Go on</button></div>
</form>`;

function form(
  session: Session,
  tenants: readonly string[],
  { typed, error }: { typed?: { incident: string; details: string }; error?: RunbookError } = {},
): Html {
  const number = String(tenants.length);
  return html`<h1>${TITLE}</h1>
<form method="post" action="/respond" class="reset" data-once>
<p>Each gets a new password at once, the old ones are proven dead, tenants and the security team are told.</p>
${error === undefined ? "" : problem(error.message, error.next)}
${formMarks(session)}
<details${tenants.length <= 20 ? raw(" open") : ""}><summary>${number} ${tenants.length === 1 ? "tenant" : "tenants"}</summary>
<ul class="chosen">${tenants.map((tenant) => html`<li>${tenant}<input type="hidden" name="tenant" value="${tenant}"></li>\n`)}</ul></details>
<label for="incident">Incident id</label>
<input id="incident" name="incident" required maxlength="64" autocomplete="off" spellcheck="false" value="${typed?.incident ?? ""}" aria-describedby="incident-hint">
<p class="hint" id="incident-hint">Such as INC-2024-001</p>
<label for="details">What was found</label>
<input id="details" name="details" required maxlength="500" autocomplete="off" value="${typed?.details ?? ""}" aria-describedby="details-hint">
<p class="hint" id="details-hint">One line. It is audited and sent to the security team.</p>
<label for="number">Type <strong>${number}</strong>, the number of tenants, to confirm</label>
<input id="number" name="number" required inputmode="numeric" pattern="${number}" title="${number}" autocomplete="off">
<div class="actions"><a class="button" href="/respond">Back</a>
<button type="submit" class="danger">Rotate now</button></div>
</form>`;
}
