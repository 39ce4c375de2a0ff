// The tenants: the first page.
import { html } from "hono/html";
import type { App, Console } from "../context.ts";
import { page } from "../layout.ts";

export function tenantsPages(app: App, _console: Console): void {
  app.get("/", async (c) => {
    const tenants = await c.get("session").vault.tenants();
    return page(
      c,
      { title: "Tenants", active: "/" },
      html`<h1>Tenants</h1>
<ul>${tenants.map((tenant) => html`<li><a href="/tenants/${tenant}">${tenant}</a></li>\n`)}</ul>`,
    );
  });
}
