// A tenant in the list: what is known of it, and room for what is still to be read, so that nothing moves when it comes.
import { html } from "hono/html";
import type { TenantId } from "../../../stacks/names.ts";
import type { Html } from "../layout.ts";
import type { Look } from "./look.ts";
import { when } from "./moment.ts";
import { badge, loginBadge, marksOf } from "./words.ts";

export function tenantRow(tenant: TenantId, look: Look | undefined): Html {
  return html`<tr data-tenant="${tenant}">
<td class="choose"><input type="checkbox" name="tenant" value="${tenant}" aria-label="Choose ${tenant}"></td>
<th scope="row"><a href="/tenants/${tenant}">${tenant}</a></th>
${cells(look)}
<td class="acts"><a class="button quiet-danger" href="/tenants/${tenant}/reset" aria-label="Emergency reset of ${tenant}">Reset…</a></td>
</tr>
`;
}

/** The cells that change; a script puts them in the place of those that stand there. */
function cells(look: Look | undefined): Html {
  const cell = (name: string, label: string, content: Html | string): Html =>
    html`<td data-cell="${name}" data-label="${label}">${content}</td>`;
  if (look === undefined) {
    const waiting = html`<span class="waiting" aria-label="being read">…</span>`;
    return html`${cell("rotated", "Last rotation", waiting)}${cell("marks", "Marks", waiting)}
${cell("login", "Login", waiting)}${cell("host", "Host", waiting)}`;
  }
  return html`${cell("rotated", "Last rotation", rotated(look))}${cell("marks", "Marks", marksOf(look))}
${cell("login", "Login", look.status === undefined ? "" : loginBadge(look))}${cell("host", "Host", hostOf(look))}`;
}

function rotated({ status, problem }: Look): Html {
  if (status !== undefined)
    return html`${when(status.last_rotated)} <span class="version">v${status.version}</span>`;
  return problem === undefined
    ? html`<span class="none">offboarded</span>`
    : badge("warn", "Not known", problem);
}

const hostOf = ({ host, status, problem }: Look): Html =>
  host === undefined
    ? status !== undefined && problem !== undefined
      ? badge("warn", "Not known", problem)
      : html`<span class="none">${status === undefined ? "" : "none yet"}</span>`
    : html`<span class="address">${host.vps_ip}</span> <span class="domain">${host.domain}</span>`;
