// The frame of every page. Templates escape what they are given; what is registered as a secret is taken out on top.
import type { Context } from "hono";
import { html, raw } from "hono/html";
import { EXIT, messageOf, RunbookError } from "../lib/errors.ts";
import { redact } from "../lib/redact.ts";
import type { Env } from "./context.ts";

export type Html = ReturnType<typeof html>;

/** Pages in the order of the menu. */
const MENU = [
  ["/", "Tenants"],
  ["/incidents", "Incidents"],
  ["/runs", "Runs"],
  ["/backups", "Backups"],
  ["/drills", "Drills"],
] as const;

export interface Page {
  readonly title: string;
  /** The menu's entry that it belongs to. */
  readonly active?: (typeof MENU)[number][0];
  /** Scripts under /public/ that it needs besides console.js. */
  readonly scripts?: readonly string[];
  /** Where the page leads by itself. */
  readonly onwards?: string;
}

type Status = 200 | 400 | 403 | 404 | 409 | 429 | 500 | 502;

/** Answers with a whole page. */
export async function page(
  c: Context<Env>,
  { title, active, scripts = [], onwards }: Page,
  body: Html,
  status: Status = 200,
) {
  const session = c.get("session");
  const text = await html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
${session === undefined ? "" : html`<meta name="csrf" content="${session.csrf}">`}
${onwards === undefined ? "" : html`<meta http-equiv="refresh" content="0;url=${onwards}">`}
<title>${title} · PenguinMails recovery</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/public/console.css">
${["console.js", ...scripts].map((file) => html`<script type="module" src="/public/${file}"></script>\n`)}
</head>
<body${session === undefined ? "" : raw(" data-signed-in")}>
<a class="skip" href="#main">Skip to content</a>
<header class="bar">
<span class="brand">PenguinMails recovery</span>
${session === undefined ? "" : menu(session.user, session.csrf, active)}
</header>
<main id="main" tabindex="-1">
${body}
</main>
</body>
</html>
`;
  return c.html(redact(String(text)), status);
}

/** Part of a page, as scripts fetch it or an event carries it. */
export const fragment = async (body: Html): Promise<string> => redact(String(await body));

function menu(user: string, csrf: string, active: string | undefined): Html {
  return html`<nav aria-label="Pages"><ul>
${MENU.map(
  ([path, name]) =>
    html`<li><a href="${path}"${path === active ? raw(' aria-current="page"') : ""}>${name}</a></li>\n`,
)}</ul></nav>
<form class="sign-out" method="post" action="/sign-out">
<input type="hidden" name="csrf" value="${csrf}">
<span class="user">${user}</span> <button type="submit">Sign out</button>
</form>`;
}

/** An error as a page: what happened, and what to do next. */
export function errorPage(c: Context<Env>, error: unknown): Promise<Response> {
  const known = error instanceof RunbookError;
  const title = known && error.exitCode === EXIT.permission ? "Insufficient permissions" : "That didn't work";
  return page(
    c,
    { title },
    html`<h1>${title}</h1>
${problem(known ? error.message : `unexpected: ${messageOf(error)}`, known ? error.next : undefined)}`,
    statusOf(error),
  );
}

export const problem = (
  message: string,
  next: string | undefined,
): Html => html`<div class="problem" role="alert">
<p>${message}</p>
${next === undefined ? "" : html`<p><strong>Next:</strong> <code>${next}</code></p>`}
</div>`;

function statusOf(error: unknown): Status {
  if (!(error instanceof RunbookError)) return 500;
  if (error.exitCode === EXIT.usage) return 400;
  if (error.exitCode === EXIT.permission) return 403;
  return error.exitCode === EXIT.refused ? 409 : 502;
}
