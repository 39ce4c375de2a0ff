// Incidents.
import { html } from "hono/html";
import type { App, Console } from "../context.ts";
import { page } from "../layout.ts";

export function incidentsPages(app: App, _console: Console): void {
  app.get("/incidents", (c) =>
    page(c, { title: "Incidents", active: "/incidents" }, html`<h1>Incidents</h1>`),
  );
}
