// One tenant.
import { html } from "hono/html";
import { type TenantId, tenantIdProblem } from "../../../stacks/names.ts";
import type { App, Console } from "../context.ts";
import { page } from "../layout.ts";
import { resetButton } from "../reset-dialog.ts";

export function tenantPages(app: App, _console: Console): void {
  app.get("/tenants/:tenant", async (c) => {
    const tenant = c.req.param("tenant");
    if (tenantIdProblem(tenant) !== undefined) return c.notFound();
    return page(
      c,
      { title: tenant, active: "/", scripts: ["dialog.js"] },
      html`<h1>${tenant}</h1>
${resetButton(c.get("session"), tenant as TenantId)}`,
    );
  });
}
