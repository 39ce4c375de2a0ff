// One tenant: how it stands, its password's versions, what was ever done to it, and the buttons.
import { html } from "hono/html";
import { type TenantId, tenantIdProblem, tenantStack, webmailUrl } from "../../../stacks/names.ts";
import { type AdminMetadata, isMarked, readMetadata } from "../../lib/compromised.ts";
import { messageOf, RunbookError } from "../../lib/errors.ts";
import { isAtWork, isSilent, resumeCommand } from "../../lib/unfinished.ts";
import type { App, Console } from "../context.ts";
import { fragment, type Html, page, problem } from "../layout.ts";
import { resetButton } from "../reset-dialog.ts";
import type { Session } from "../sessions.ts";
import { driftForm, goOnForm } from "../start-pages.ts";
import { eventList, logProblems, readLog } from "./events.ts";
import { live } from "./live.ts";
import { type Look, lookAt } from "./look.ts";
import { when } from "./moment.ts";
import { looksOf } from "./tenants.ts";
import { underWay } from "./under-way.ts";
import { badge, command, loginBadge } from "./words.ts";

/** Events on the page; older ones stand in the log. */
const MOST = 100;

export function tenantPages(app: App, console: Console): void {
  app.get("/tenants/:tenant", async (c) => {
    const tenant = c.req.param("tenant");
    if (!isTenantId(tenant)) return c.notFound();
    const session = c.get("session");
    const looks = looksOf(session);
    const [{ value: look }, known] = await Promise.all([
      lookAt(session.vault, tenant, looks.known(tenant)?.value, { login: false, host: true }),
      readMetadata(session.vault, tenant).catch((error: unknown) => error),
    ]);
    looks.put(tenant, look);
    return page(
      c,
      { title: tenant, active: "/", scripts: ["dialog.js", "live.js"] },
      whole(console, session, look, known),
    );
  });
  app.get("/tenants/:tenant/live", (c) => {
    const tenant = c.req.param("tenant");
    if (!isTenantId(tenant)) return c.notFound();
    return live(c, (send) =>
      looksOf(c.get("session")).watch([tenant], (_, { value }) =>
        send("stand", () => stand(console, c.get("session"), value)),
      ),
    );
  });
  app.get("/tenants/:tenant/history", async (c) => {
    const tenant = c.req.param("tenant");
    if (!isTenantId(tenant)) return c.notFound();
    return c.html(await fragment(await history(console, tenant)));
  });
}

const isTenantId = (name: string): name is TenantId => tenantIdProblem(name) === undefined;

function whole(console: Console, session: Session, look: Look, known: unknown): Html {
  const { tenant, status } = look;
  const metadata = known as AdminMetadata;
  return html`<div class="heading"><h1>${tenant}</h1>
${status === undefined ? "" : html`<div class="actions">${driftForm(session, tenantStack(tenant))} ${resetButton(session, tenant)}</div>`}</div>
<section aria-labelledby="stands"><h2 id="stands" class="visually-hidden">How it stands</h2>
<div id="stand" data-stream="/tenants/${tenant}/live">${stand(console, session, look)}</div></section>
<section aria-labelledby="versions"><h2 id="versions">Versions of the password</h2>
${
  known instanceof Error
    ? problem(messageOf(known), known instanceof RunbookError ? known.next : undefined)
    : versions(metadata)
}</section>
<section aria-labelledby="terminal"><h2 id="terminal">From a terminal</h2>
<dl class="facts">
<div><dt>Its VPS is dead or hangs</dt><dd>${command(`npx runbook replace-vps --tenant ${tenant}`)}</dd></div>
<div><dt>Vault is down and its password leaked</dt><dd>${command(`npx runbook contain --tenant ${tenant} --incident INC-ID --reason "WHY"`)}</dd></div>
</dl></section>
<section aria-labelledby="history"><h2 id="history">History</h2>
<div data-part="/tenants/${tenant}/history" class="part part-long"><p class="waiting">Reading the audit log…</p></div></section>`;
}

/** What changes while the page is open. */
function stand({ runs }: Console, session: Session, look: Look): Html {
  const { tenant, status, host, unfinished, problem: why } = look;
  if (status === undefined) {
    return why === undefined
      ? html`<p class="empty">Vault has no password of ${tenant}: it was offboarded, or it never was there.</p>`
      : problem(why, `npx runbook check-drift --stack ${tenantStack(tenant)}`);
  }
  return html`${why === undefined ? "" : problem(why, `npx runbook check-drift --stack ${tenantStack(tenant)}`)}${underWay(runs, tenant)}${status.marked === null ? "" : problem(`The password in use is compromised: incident ${status.marked}`, "press Emergency reset, with the same incident")}
${unfinished === undefined ? "" : rotationOf(session, look)}
<dl class="facts">
<div><dt>Password</dt><dd>version ${status.version}, made ${when(status.last_rotated)} ${status.marked === null ? badge("good", "Not marked") : badge("bad", `Compromised: ${status.marked}`)}</dd></div>
<div><dt>Login</dt><dd>${loginBadge(look)} ${status.said === null ? "" : html`<span class="said">${status.said}</span>`}</dd></div>
<div><dt>Host</dt><dd>${host === undefined ? "none yet" : html`<span class="address">${host.vps_ip}</span> mail.${host.domain}`}</dd></div>
<div><dt>Contact</dt><dd>${host === undefined ? "not known" : host.contact_email}</dd></div>
<div><dt>Webmail</dt><dd>${host === undefined ? "none yet" : webmailUrl(host.domain)}</dd></div>
</dl>`;
}

function rotationOf(session: Session, { unfinished }: Look): Html {
  if (unfinished === undefined) return html``;
  const { rotation } = unfinished;
  const held = isAtWork(rotation) || !isSilent(rotation);
  return html`<div class="card card-warn"><p>${held ? "A rotation is under way" : "A rotation was left unfinished"}:
${rotation.kind}${rotation.incident_id === null ? "" : ` for ${rotation.incident_id}`}, state ${badge("warn", rotation.state)}, begun ${when(rotation.started)} by ${rotation.holder?.user ?? rotation.actor}</p>
${held ? html`<p>If nobody is at it any more:</p>` : ""}
<div class="actions">${goOnForm(session, unfinished.tenant)} ${command(resumeCommand(unfinished))}</div></div>`;
}

function versions({ current_version, custom_metadata, versions: all }: AdminMetadata): Html {
  const numbers = Object.keys(all)
    .map(Number)
    .sort((a, b) => b - a);
  return html`<table class="versions">
<thead><tr><th scope="col">Version</th><th scope="col">Made</th><th scope="col">State</th></tr></thead>
<tbody>${numbers.map((number) => {
    const one = all[number];
    return html`<tr><th scope="row" data-label="Version">${number}</th><td data-label="Made">${one === undefined ? "" : when(one.created_time)}</td>
<td data-label="State">${number === current_version ? badge("good", "In use") : ""} ${isMarked(custom_metadata, number) ? badge("bad", "Compromised") : ""} ${one?.destroyed ? badge("calm", "Destroyed") : one?.deletion_time ? badge("calm", "Deleted") : ""}</td></tr>
`;
  })}</tbody></table>
${custom_metadata.incident_id === undefined ? "" : html`<p class="count">Last marked for ${custom_metadata.incident_id}${custom_metadata.reset_by === undefined ? "" : ` by ${custom_metadata.reset_by}`}${custom_metadata.reset_at === undefined ? "" : html`, ${when(custom_metadata.reset_at)}`}</p>`}`;
}

async function history(console: Console, tenant: TenantId): Promise<Html> {
  try {
    const log = await readLog(console);
    const events = log.events.filter(({ tenant_id }) => tenant_id === tenant);
    return html`${logProblems(log)}${events.length === 0 ? html`<p class="empty">Nothing was done to it yet.</p>` : eventList(events.slice(-MOST), "tenant")}
${events.length > MOST ? html`<p class="count">${events.length - MOST} older ones: ${command(`npx runbook audit list --tenant ${tenant}`)}</p>` : ""}`;
  } catch (error) {
    return problem(`The audit log can't be read: ${messageOf(error)}`, "npx runbook audit verify");
  }
}
