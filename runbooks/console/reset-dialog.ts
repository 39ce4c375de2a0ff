// The danger button: a dialog that asks for incident, reason and the tenant's name, and starts the Emergency Reset. The
// same form is a page of its own, for what was filled in wrong and for a browser without scripts.
import { html } from "hono/html";
import { type TenantId, tenantIdProblem } from "../../stacks/names.ts";
import { EXIT, RunbookError } from "../lib/errors.ts";
import type { App, Console } from "./context.ts";
import { formMarks, typedIn } from "./form.ts";
import { type Html, page, problem } from "./layout.ts";
import type { Session } from "./sessions.ts";

/** Rotates although the incident had its rotation. */
export const AGAIN = "--again";

interface Typed {
  readonly incident: string;
  readonly reason: string;
}

/** The button and its dialog, for a page that has dialog.js. */
export function resetButton(session: Session, tenant: TenantId): Html {
  return html`<a href="/tenants/${tenant}/reset" class="danger button" data-opens="reset-dialog">Emergency reset</a>
<dialog id="reset-dialog" aria-labelledby="reset-title">
<h2 id="reset-title">Emergency reset of ${tenant}</h2>
${form(session, tenant)}
</dialog>`;
}

export function resetPages(app: App, console: Console): void {
  app.get("/tenants/:tenant/reset", (c) => {
    const tenant = c.req.param("tenant");
    if (tenantIdProblem(tenant) !== undefined) return c.notFound();
    return page(
      c,
      { title: `Emergency reset of ${tenant}`, active: "/" },
      wholePage(c.get("session"), tenant as TenantId),
    );
  });
  app.post("/tenants/:tenant/reset", async (c) => {
    const session = c.get("session");
    const tenant = c.req.param("tenant");
    if (tenantIdProblem(tenant) !== undefined) return c.notFound();
    const { name, again, once, ...typed } = await typedIn(c, "incident", "reason", "name", "again", "once");
    try {
      if (name !== tenant) {
        throw new RunbookError(`The name that was typed is not ${tenant}`, {
          exit: "usage",
          next: `type ${tenant}, if that is the tenant that you mean`,
        });
      }
      const run = await console.runs.start(session, {
        runbook: "emergency-reset",
        args: [
          `--tenant=${tenant}`,
          `--incident=${typed.incident}`,
          `--reason=${typed.reason}`,
          ...(again === "yes" ? [AGAIN] : []),
        ],
        title: `Emergency reset of ${tenant}, ${typed.incident}`,
        tenant,
        incident: typed.incident,
        key: `reset ${tenant} ${typed.incident}`,
        once,
      });
      return c.redirect(`/runs/${run.id}`, 303);
    } catch (error) {
      if (!(error instanceof RunbookError) || error.exitCode !== EXIT.usage) throw error;
      const title = `Emergency reset of ${tenant}`;
      return page(c, { title, active: "/" }, wholePage(session, tenant as TenantId, { typed, error }), 400);
    }
  });
}

const wholePage = (...given: Parameters<typeof form>): Html =>
  html`<h1>Emergency reset of ${given[1]}</h1>${form(...given)}`;

function form(
  session: Session,
  tenant: TenantId,
  { typed, error }: { typed?: Typed; error?: RunbookError } = {},
): Html {
  return html`<form method="post" action="/tenants/${tenant}/reset" class="reset" data-once>
<p>A new password is set at once, the old one is proven dead, open connections end. Mail goes on.</p>
${error === undefined ? "" : problem(error.message, error.next)}
${formMarks(session)}
<label for="incident">Incident id</label>
<input id="incident" name="incident" required maxlength="64" autocomplete="off" spellcheck="false" value="${typed?.incident ?? ""}" aria-describedby="incident-hint">
<p class="hint" id="incident-hint">Such as INC-2024-001</p>
<label for="reason">Reason</label>
<input id="reason" name="reason" required maxlength="500" autocomplete="off" value="${typed?.reason ?? ""}" aria-describedby="reason-hint">
<p class="hint" id="reason-hint">One line. It is audited and sent to the security team.</p>
<label class="choice"><input type="checkbox" name="again" value="yes"> Rotate once more, if this incident had its reset before</label>
<label for="name">Type <strong>${tenant}</strong> to confirm</label>
<input id="name" name="name" required pattern="${tenant}" title="${tenant}" autocomplete="off" spellcheck="false" autocapitalize="none">
<div class="actions">
<a href="/tenants/${tenant}" class="button" data-closes>Cancel</a>
<button type="submit" class="danger">Reset now</button>
</div>
</form>`;
}
