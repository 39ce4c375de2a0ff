// Incidents: what isn't finished, with the button that goes on with it, then what was done under each incident, by whom.
import { html } from "hono/html";
import { openAudit } from "../../lib/audit.ts";
import { messageOf } from "../../lib/errors.ts";
import type { Notice } from "../../lib/notice.ts";
import { Outbox } from "../../lib/outbox.ts";
import type { App, Console } from "../context.ts";
import { fragment, type Html, page, problem } from "../layout.ts";
import { anchor, eventList, logProblems, readLog } from "./events.ts";
import { type Incident, incidentsOf } from "./incident-list.ts";
import { live } from "./live.ts";
import { exact, when } from "./moment.ts";
import { watchUnfinished } from "./unfinished-list.ts";
import { badge, command } from "./words.ts";

/** Incidents on the page; older ones stand in the log. */
const MOST = 50;

export function incidentsPages(app: App, console: Console): void {
  app.get("/incidents", (c) =>
    page(
      c,
      { title: "Incidents", active: "/incidents", scripts: ["live.js"] },
      html`<h1>Incidents</h1>
<section aria-labelledby="unfinished"><h2 id="unfinished">Unfinished</h2>
<div id="left" data-stream="/incidents/live" class="part part-short"><p class="waiting">Looking at every tenant…</p></div></section>
<section aria-labelledby="done"><h2 id="done">What was done</h2>
<div data-part="/incidents/done" class="part part-long"><p class="waiting">Reading the audit log…</p></div></section>`,
    ),
  );
  app.get("/incidents/done", async (c) => c.html(await fragment(await done(console))));
  app.get("/incidents/live", async (c) => {
    const session = c.get("session");
    const tenants = await session.vault.tenants();
    return live(c, (send) => watchUnfinished(console, session, tenants, (part) => send("left", part)));
  });
}

async function done(console: Console): Promise<Html> {
  const [log, notices, spooled] = await Promise.all([
    readLog(console).catch((error: unknown) => messageOf(error)),
    new Outbox(console.settings, console.env).waiting().catch((error: unknown) => messageOf(error)),
    spool(console).catch((error: unknown) => messageOf(error)),
  ]);
  const waiting = typeof notices === "string" ? [] : notices;
  const all = incidentsOf(typeof log === "string" ? [] : log.events, waiting);
  return html`${typeof log === "string" ? problem(`The audit log can't be read: ${log}`, "npx runbook audit verify") : logProblems(log)}
${typeof notices === "string" ? problem(`Notices that wait can't be read: ${notices}`, "npx runbook notify list") : ""}
${spooled === 0 ? "" : problem(typeof spooled === "string" ? spooled : `${count(spooled, "audit event waits", "audit events wait")} for the log`, "npx runbook audit flush")}
${waits(waiting.filter(({ incident_id }) => incident_id === undefined))}
${all.length === 0 ? html`<p class="empty">There was no incident yet.</p>` : ""}
${all.slice(0, MOST).map((one) => incidentItem(one))}
${all.length > MOST ? html`<p class="count">${all.length - MOST} older ones: ${command("npx runbook audit list")}</p>` : ""}`;
}

/** How many events the log couldn't take. */
const spool = async ({ settings, env }: Console): Promise<number> =>
  openAudit(settings.audit, env).spool.waiting().length;

function incidentItem(one: Incident): Html {
  const { id, began, tenants, by, events, waiting } = one;
  return html`<article class="card incident" id="${anchor(id)}" aria-labelledby="${anchor(id)}-name">
<h3 id="${anchor(id)}-name">${id}</h3>
<p class="event-who">begun ${when(began)} by ${by.join(", ") || "nobody that is known"}</p>
<p class="tenant-list">${tenants.map((tenant) => html`<a class="chip" href="/tenants/${tenant}">${tenant}</a> `)}</p>
${waits(waiting)}
${eventList(events, "incident")}
</article>
`;
}

const waits = (notices: readonly Notice[]): Html =>
  notices.length === 0
    ? html``
    : html`<div class="waits"><p>${badge("warn", count(notices.length, "notice waits", "notices wait"))} ${notices.map(noticeWords).join("; ")}</p>
<p>${command("npx runbook notify flush")}</p></div>`;

function noticeWords({ name, tenant_id, created, failed }: Notice): string {
  const whys = Object.entries(failed).map(([channel, why]) => `${channel}: ${why}`);
  return `${name.replaceAll("_", " ")}${tenant_id === undefined ? "" : ` of ${tenant_id}`} since ${exact(created)}${whys.length === 0 ? "" : ` (${whys.join(", ")})`}`;
}

const count = (number: number, one: string, many: string): string => `${number} ${number === 1 ? one : many}`;
