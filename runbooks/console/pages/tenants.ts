// The first page: the tenants, a page of them at a time, whatever their number. What is known of them comes as it is
// read, with the person's own token, and goes on being read for as long as somebody looks.
import { html } from "hono/html";
import { type TenantId, tenantIdProblem } from "../../../stacks/names.ts";
import type { App, Console } from "../context.ts";
import { formMarks } from "../form.ts";
import { fragment, type Html, page } from "../layout.ts";
import type { Runs } from "../runs.ts";
import type { Session } from "../sessions.ts";
import { driftForm } from "../start-pages.ts";
import { live } from "./live.ts";
import { type Look, looks } from "./look.ts";
import type { Rolling } from "./rolling.ts";
import { tenantRow } from "./tenant-row.ts";

/** Rows on a page. */
const ROWS = 25;

export function tenantsPages(app: App, console: Console): void {
  app.get("/", async (c) => {
    looksOf(c.get("session")).forgetBefore(lastEnd(console.runs));
    const shown = await choose(c.get("session"), c.req.query());
    return page(
      c,
      { title: "Tenants", active: "/", scripts: ["live.js", "tenants.js"] },
      whole(c.get("session"), shown),
    );
  });
  // What a search finds while it is typed.
  app.get("/tenants/list", async (c) => {
    const session = c.get("session");
    return c.html(await fragment(list(session, await choose(session, c.req.query()))));
  });
  app.get("/tenants/live", (c) => {
    const asked = c.req.queries("tenant") ?? [];
    const tenants = asked.filter((name): name is TenantId => tenantIdProblem(name) === undefined);
    return live(c, (send) =>
      looksOf(c.get("session")).watch(tenants.slice(0, ROWS), (tenant, { value }) =>
        send("tenant", () => tenantRow(tenant, value)),
      ),
    );
  });
}

const KNOWN = new WeakMap<Session, Rolling<TenantId, Look>>();

/** What a person has seen of the tenants; it goes when the session goes. */
export function looksOf(session: Session): Rolling<TenantId, Look> {
  const known = KNOWN.get(session) ?? looks(session.vault);
  KNOWN.set(session, known);
  return known;
}

/** When the last run here ended, by `performance.now()`: what was read before may be otherwise now. */
function lastEnd(runs: Runs): number {
  const ends = runs.list().flatMap(({ ended }) => ended?.at.getTime() ?? []);
  return performance.now() - (Date.now() - Math.max(0, ...ends));
}

interface Shown {
  readonly search: string;
  readonly found: number;
  readonly all: number;
  /** From 1 on. */
  readonly page: number;
  readonly pages: number;
  readonly tenants: readonly TenantId[];
}

async function choose(
  session: Session,
  { q = "", page: asked = "1" }: Record<string, string>,
): Promise<Shown> {
  const search = q.trim().toLowerCase().slice(0, 100);
  const all = await session.vault.tenants();
  const found = all.filter((tenant) => tenant.includes(search));
  const pages = Math.max(1, Math.ceil(found.length / ROWS));
  const number = Math.min(pages, Math.max(1, Math.trunc(Number(asked)) || 1));
  const tenants = found.slice((number - 1) * ROWS, number * ROWS);
  return { search, found: found.length, all: all.length, page: number, pages, tenants };
}

const whole = (session: Session, shown: Shown): Html => html`<div class="heading">
<h1>Tenants</h1>
<form role="search" class="search" action="/" data-search>
<label for="q" class="visually-hidden">Search tenants by name</label>
<input id="q" name="q" type="search" value="${shown.search}" placeholder="Search by name" autocomplete="off" spellcheck="false">
<button type="submit">Search</button>
</form>
<div class="actions"><a class="button" href="/respond">Respond to a compromise</a> ${driftForm(session)}</div>
</div>
<form method="post" action="/respond/choice">
${formMarks(session)}
<div id="list">${list(session, shown)}</div>
<div id="chosen" class="chosen-bar" role="region" aria-label="Chosen tenants" hidden>
<p data-names></p><span data-others></span>
<button type="button" data-clear>Clear</button>
<button type="submit" class="danger">Respond to a compromise…</button>
</div>
</form>`;

function list(session: Session, shown: Shown): Html {
  const known = looksOf(session);
  const { tenants, found, all, search } = shown;
  const count = search === "" ? `${all} tenants` : `${found} of ${all} tenants`;
  return html`<p class="count" role="status">${count}</p>
${
  tenants.length === 0
    ? html`<p class="empty">${
        all === 0
          ? html`There is no tenant yet: <code>npx runbook onboard-tenant --tenant acme --domain acme.example</code>`
          : html`No tenant's name has “${search}” in it. <a href="/">Show all</a>`
      }</p>`
    : html`<table class="tenants">
<thead><tr><td class="choose"></td><th scope="col">Tenant</th><th scope="col">Last rotation</th><th scope="col">Marks</th><th scope="col">Login</th><th scope="col">Host</th><td class="acts"></td></tr></thead>
<tbody data-live>
${tenants.map((tenant) => tenantRow(tenant, known.known(tenant)?.value))}</tbody>
</table>`
}
${pager(shown)}`;
}

function pager({ page: number, pages, search }: Shown): Html {
  if (pages === 1) return html``;
  const to = (target: number, text: string, rel: string): Html =>
    target < 1 || target > pages
      ? html`<span class="off">${text}</span>`
      : html`<a rel="${rel}" href="/?${new URLSearchParams({ ...(search === "" ? {} : { q: search }), page: `${target}` })}">${text}</a>`;
  return html`<nav class="pager" aria-label="More tenants">${to(number - 1, "Previous", "prev")}
<span>Page ${number} of ${pages}</span> ${to(number + 1, "Next", "next")}</nav>`;
}
