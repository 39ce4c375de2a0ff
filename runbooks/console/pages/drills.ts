// Drills.
import { html } from "hono/html";
import type { App, Console } from "../context.ts";
import { page } from "../layout.ts";

export function drillsPages(app: App, _console: Console): void {
  app.get("/drills", (c) => page(c, { title: "Drills", active: "/drills" }, html`<h1>Drills</h1>`));
}
