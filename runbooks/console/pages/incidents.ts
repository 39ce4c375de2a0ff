// Incidents: what isn't finished, with the button that goes on with it, then what was done under each incident, by whom.
import { html } from "hono/html";
import type { TenantId } from "../../../stacks/names.ts";
import { messageOf } from "../../lib/errors.ts";
import type { Notice } from "../../lib/notice.ts";
import { Outbox } from "../../lib/outbox.ts";
import { readRotation } from "../../lib/rotation-begin.ts";
import { isAtWork, isSilent, isUnfinished, resumeCommand, type Unfinished } from "../../lib/unfinished.ts";
import type { Vault } from "../../lib/vault.ts";
import type { App, Console } from "../context.ts";
import { fragment, type Html, page, problem } from "../layout.ts";
import type { Session } from "../sessions.ts";
import { goOnForm, isUnseen } from "../start-pages.ts";
import { anchor, eventList, logProblems, readLog } from "./events.ts";
import { type Incident, incidentsOf } from "./incident-list.ts";
import { live } from "./live.ts";
import { exact, when } from "./moment.ts";
import { Rolling } from "./rolling.ts";
import { underWay } from "./under-way.ts";
import { badge, command } from "./words.ts";

/** Incidents on the page; older ones stand in the log. */
const MOST = 50;

/** Milliseconds in which changes are told together. */
const TOGETHER_MS = 300;

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

const KNOWN = new WeakMap<Session, Rolling<TenantId, Seen>>();
/** What a tenant's rotation record says: nothing left to do, something, or it can't be read. */
type Seen = { left?: Unfinished; problem?: string };

function rotationsOf(session: Session): Rolling<TenantId, Seen> {
  const known =
    KNOWN.get(session) ??
    new Rolling<TenantId, Seen>({
      read: async (tenant) => ({ value: await readLeft(session.vault, tenant), reads: 2 }),
    });
  KNOWN.set(session, known);
  return known;
}

async function readLeft(vault: Vault, tenant: TenantId): Promise<Seen> {
  try {
    const rotation = (await readRotation(vault, tenant)).stored?.data;
    const isLeft = rotation !== undefined && (isUnfinished(rotation) || isUnseen(rotation));
    return isLeft ? { left: { tenant, rotation } } : {};
  } catch (error) {
    return { problem: messageOf(error) };
  }
}

function watchUnfinished(
  { runs }: Console,
  session: Session,
  tenants: readonly TenantId[],
  tell: (part: Html) => void,
): () => void {
  const rotations = rotationsOf(session);
  let timer: NodeJS.Timeout | undefined;
  const soon = (): void => {
    timer ??= setTimeout(() => {
      timer = undefined;
      tell(html`${underWay(runs)}${leftList(session, tenants, rotations)}`);
    }, TOGETHER_MS);
  };
  const stop = rotations.watch(tenants, soon);
  soon();
  return () => {
    clearTimeout(timer);
    stop();
  };
}

function leftList(session: Session, tenants: readonly TenantId[], rotations: Rolling<TenantId, Seen>): Html {
  const known = tenants.flatMap((tenant) => rotations.known(tenant)?.value ?? []);
  const left = known.flatMap((one) => one.left ?? []);
  const problems = new Set(known.flatMap((one) => one.problem ?? []));
  const whole = known.length === tenants.length;
  return html`${[...problems].map((why) => problem(why, undefined))}
${left.length === 0 ? "" : html`<ul class="left">${left.map((one) => leftItem(session, one))}</ul>`}
<p class="count" role="status">${
    whole
      ? left.length === 0
        ? html`${badge("good", "Nothing")} is left to do for any of ${tenants.length} tenants.`
        : `${left.length} of ${tenants.length} tenants have a reset that isn't finished.`
      : `Looked at ${known.length} of ${tenants.length} tenants…`
  }</p>`;
}

function leftItem(session: Session, one: Unfinished): Html {
  const { kind, incident_id, state, started, actor, holder, reason } = one.rotation;
  const held = isAtWork(one.rotation) || !isSilent(one.rotation);
  return html`<li class="card card-warn">
<p class="card-head"><a href="/tenants/${one.tenant}">${one.tenant}</a>: ${kind}${incident_id === null ? "" : html` for <a href="#${anchor(incident_id)}">${incident_id}</a>`},
${
  isUnfinished(one.rotation)
    ? html`${held ? "under way" : "left"} in state ${badge("warn", state)}`
    : html`done, but ${badge("warn", "the new password was never shown")}`
}</p>
<p class="event-who">begun ${when(started)} by ${holder?.user ?? actor}</p>
<p class="event-why">${reason}</p>
${held ? html`<p>A living run is at it. If it isn't:</p>` : ""}
<div class="actions">${goOnForm(session, one.tenant)} ${isUnfinished(one.rotation) ? command(resumeCommand(one)) : ""}</div>
</li>
`;
}

async function done(console: Console): Promise<Html> {
  const [log, waiting] = await Promise.all([
    readLog(console).catch((error: unknown) => messageOf(error)),
    new Outbox(console.settings, console.env).waiting().catch((error: unknown) => messageOf(error)),
  ]);
  const all = incidentsOf(
    typeof log === "string" ? [] : log.events,
    typeof waiting === "string" ? [] : waiting,
  );
  return html`${typeof log === "string" ? problem(`The audit log can't be read: ${log}`, "npx runbook audit verify") : logProblems(log)}
${typeof waiting === "string" ? problem(`Notices that wait can't be read: ${waiting}`, "npx runbook notify list") : ""}
${all.length === 0 ? html`<p class="empty">There was no incident yet.</p>` : ""}
${all.slice(0, MOST).map((one) => incidentItem(one))}
${all.length > MOST ? html`<p class="count">${all.length - MOST} older ones: ${command("npx runbook audit list")}</p>` : ""}`;
}

function incidentItem(one: Incident): Html {
  const { id, began, tenants, by, events, waiting } = one;
  return html`<article class="card incident" id="${anchor(id)}" aria-labelledby="${anchor(id)}-name">
<h3 id="${anchor(id)}-name">${id}</h3>
<p class="event-who">begun ${when(began)} by ${by.join(", ") || "nobody that is known"}</p>
<p class="tenant-list">${tenants.map((tenant) => html`<a class="chip" href="/tenants/${tenant}">${tenant}</a> `)}</p>
${
  waiting.length === 0
    ? ""
    : html`<div class="waits"><p>${badge("warn", `${waiting.length} notices wait`)} ${waiting.map(noticeWords).join("; ")}</p>
<p>${command("npx runbook notify flush")}</p></div>`
}
${eventList(events, "incident")}
</article>
`;
}

function noticeWords({ name, tenant_id, created, failed }: Notice): string {
  const whys = Object.entries(failed).map(([channel, why]) => `${channel}: ${why}`);
  return `${name.replaceAll("_", " ")}${tenant_id === undefined ? "" : ` of ${tenant_id}`} since ${exact(created)}${whys.length === 0 ? "" : ` (${whys.join(", ")})`}`;
}
