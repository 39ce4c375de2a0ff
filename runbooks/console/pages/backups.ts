// Backups.
import { html } from "hono/html";
import type { App, Console } from "../context.ts";
import { page } from "../layout.ts";

export function backupsPages(app: App, _console: Console): void {
  app.get("/backups", (c) => page(c, { title: "Backups", active: "/backups" }, html`<h1>Backups</h1>`));
}
