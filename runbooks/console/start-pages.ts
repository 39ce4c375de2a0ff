// What else can be started here: looking at a backup, looking for drift, and going on with what a dead run left. Each
// has a form for the pages, and a route that starts the runbook.
import { html } from "hono/html";
import { type TenantId, tenantIdProblem } from "../../stacks/names.ts";
import { RunbookError } from "../lib/errors.ts";
import type { Rotation } from "../lib/records.ts";
import { readRotation } from "../lib/rotation-begin.ts";
import { isUnfinished } from "../lib/unfinished.ts";
import type { App, Console } from "./context.ts";
import { formMarks, typedIn } from "./form.ts";
import type { Html } from "./layout.ts";
import type { Wanted } from "./runs.ts";
import type { Session } from "./sessions.ts";

/** Opens a backup: of a day such as 2026-02-28, or the newest. */
export const verifyForm = (
  session: Session,
  date = "latest",
): Html => html`<form method="post" action="/start/verify-backup" data-once>
${formMarks(session)}<input type="hidden" name="date" value="${date}">
<button type="submit">Verify${date === "latest" ? " the newest" : ""}<span class="visually-hidden"> backup${date === "latest" ? "" : ` of ${date}`}</span></button>
</form>`;

/** Looks for drift in all stacks, or in one. */
export const driftForm = (
  session: Session,
  stack = "",
): Html => html`<form method="post" action="/start/check-drift" data-once>
${formMarks(session)}<input type="hidden" name="stack" value="${stack}">
<button type="submit">Check drift${stack === "" ? "" : html`<span class="visually-hidden"> of ${stack}</span>`}</button>
</form>`;

/** Goes on with a tenant's rotation that a dead run left, or shows its password that nobody has seen. */
export const goOnForm = (
  session: Session,
  tenant: TenantId,
): Html => html`<form method="post" action="/start/go-on" data-once>
${formMarks(session)}<input type="hidden" name="tenant" value="${tenant}">
<button type="submit" class="primary">Go on<span class="visually-hidden"> with ${tenant}</span></button>
</form>`;

/** A reset whose new password was never handed out: the same command hands it out, and rotates nothing. */
export const isUnseen = ({ kind, incident_id, displayed }: Rotation): boolean =>
  kind === "reset" && incident_id !== null && !displayed;

export function startPages(app: App, console: Console): void {
  app.post("/start/verify-backup", async (c) => {
    const { date, once } = await typedIn(c, "date", "once");
    const title = date === "latest" ? "Verify the newest backup" : `Verify the backup of ${date}`;
    const run = await console.runs.start(c.get("session"), {
      runbook: "verify-backup",
      args: [`--date=${date}`],
      title,
      key: `verify ${date}`,
      once,
    });
    return c.redirect(`/runs/${run.id}`, 303);
  });
  app.post("/start/check-drift", async (c) => {
    const { stack, once } = await typedIn(c, "stack", "once");
    const run = await console.runs.start(c.get("session"), {
      runbook: "check-drift",
      args: stack === "" ? [] : [`--stack=${stack}`],
      title: stack === "" ? "Check drift" : `Check drift of ${stack}`,
      key: `drift ${stack}`,
      once,
    });
    return c.redirect(`/runs/${run.id}`, 303);
  });
  app.post("/start/go-on", async (c) => {
    const { tenant, once } = await typedIn(c, "tenant", "once");
    if (tenantIdProblem(tenant) !== undefined) return c.notFound();
    const { stored } = await readRotation(c.get("session").vault, tenant as TenantId);
    const run = await console.runs.start(c.get("session"), goingOn(tenant, stored?.data, once));
    return c.redirect(`/runs/${run.id}`, 303);
  });
}

/** A reset goes on by its own command, since only that hands out the password; everything else by `resume`. */
function goingOn(tenant: string, rotation: Rotation | undefined, once: string): Wanted {
  if (rotation === undefined || !(isUnfinished(rotation) || isUnseen(rotation))) {
    throw new RunbookError(`Nothing of ${tenant} is unfinished any more`, {
      exit: "refused",
      next: "open the tenant's page: it shows how it stands",
    });
  }
  const { incident_id: incident, reason } = rotation;
  if (!isUnseen(rotation) || incident === null) {
    const title = `Finish the rotation of ${tenant}`;
    return { runbook: "resume", args: [`--tenant=${tenant}`], title, tenant, key: `resume ${tenant}`, once };
  }
  return {
    runbook: "emergency-reset",
    args: [`--tenant=${tenant}`, `--incident=${incident}`, `--reason=${reason}`],
    title: `Emergency reset of ${tenant}, ${incident}`,
    tenant,
    incident,
    key: `reset ${tenant} ${incident}`,
    once,
  };
}
