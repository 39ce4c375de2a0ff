// The stand-in's HTTPS side: the API below WEB_API, the log-in page of webmail, the fixed answers of overrides; and port 80.
import { appendFile } from "node:fs";
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { answerCall } from "./api.ts";
import type { Answer, Mailu } from "./api-call.ts";
import type { MailuConfig } from "./config.ts";
import type { FaultSwitch } from "./faults.ts";
import { fixedAnswers } from "./overrides.ts";

/** The listener for port 443. Every request leaves one line in the access log. */
export function website(mailu: Mailu, faults: FaultSwitch, config: MailuConfig): RequestListener {
  const fixed = fixedAnswers(config.paths.nginx);
  const api = `${mailu.settings("WEB_API", "/api")}/v1`;
  const apiOn = ["true", "True", "yes", "1"].includes(mailu.settings("API", "false"));
  return async (request, response) => {
    const { pathname } = new URL(request.url ?? "/", "https://localhost");
    const ip = request.socket.remoteAddress ?? "";
    response.once("close", () => {
      const line = `${new Date().toISOString()} ${ip} ${request.method} ${pathname} ${response.statusCode}\n`;
      appendFile(config.accessLog, line, () => {});
    });
    if (apiOn && pathname.startsWith(`${api}/`)) {
      await callApi(mailu, faults, request, response, safeDecode(pathname.slice(api.length)), ip);
    } else if (fixed.has(pathname)) {
      response.writeHead(200, { "content-type": "text/plain" }).end(fixed.get(pathname));
    } else {
      await page(mailu, request, response, pathname, ip);
    }
  };
}

/** Port 80 sends everybody to HTTPS. */
export const redirector = () =>
  createServer((request, response) => {
    response.writeHead(301, { location: `https://${request.headers.host ?? ""}${request.url}` }).end();
  });

async function callApi(
  mailu: Mailu,
  faults: FaultSwitch,
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
  ip: string,
): Promise<void> {
  const method = request.method ?? "GET";
  const body = await text(request);
  const fault = faults.forCall(method, path);
  if (fault?.delay !== undefined) await sleep(fault.delay);
  if (fault?.gate !== undefined) await faults.atGate(fault.gate);
  if (fault?.hang) return;
  if (fault?.status !== undefined) {
    return answer(response, { status: fault.status, body: { message: FAULT_MESSAGES[fault.status] } });
  }
  if (fault?.ignore) return answer(response, { status: 200, body: { code: 200, message: "OK" } });
  const result = await answerCall(mailu, method, path, request.headers.authorization, body, ip).catch(
    failure,
  );
  if (fault?.loseAnswer) request.socket.destroy();
  else answer(response, result);
}

const FAULT_MESSAGES: Record<number, string> = {
  400: "Input payload validation failed",
  401: "A valid Authorization header is mandatory",
  403: "Invalid API token",
  404: "The requested URL was not found on the server.",
  429: "Too many attempts from your IP (rate-limit)",
  500: "Internal Server Error",
  502: "Bad Gateway",
  503: "Service Unavailable",
};

/** Flask's answer to what nobody expected, a full disk for one; the cause is in the container's log only. */
function failure(error: unknown): Answer {
  console.error(error);
  return { status: 500, body: { message: "Internal Server Error" } };
}

function answer(response: ServerResponse, { status, body }: Answer): void {
  response.writeHead(status, { "content-type": "application/json" }).end(`${JSON.stringify(body)}\n`);
}

async function page(
  mailu: Mailu,
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
  ip: string,
): Promise<void> {
  const html = (status: number, body: string, headers: Record<string, string> = {}) =>
    response.writeHead(status, { "content-type": "text/html; charset=utf-8", ...headers }).end(body);
  if (path === "/") return void response.writeHead(302, { location: "/webmail" }).end();
  if (path === "/health") return void response.writeHead(204).end();
  if (path === "/sso/login" && request.method === "POST") return logIn(mailu, request, html, ip);
  if (
    path === "/sso/login" ||
    path === "/webmail" ||
    path.startsWith("/webmail/") ||
    path.startsWith("/admin")
  ) {
    const session = /(?:^|;\s*)session=([0-9a-f]+)/.exec(request.headers.cookie ?? "")?.[1];
    const email = mailu.accounts.sessionOf(session);
    html(
      200,
      email === undefined ? loginPage("") : `<title>Webmail</title><h1>Inbox</h1><p>${escapeHtml(email)}</p>`,
    );
    return;
  }
  html(404, "<h1>404 Not Found</h1>");
}

type Html = (status: number, body: string, headers?: Record<string, string>) => unknown;

async function logIn(mailu: Mailu, request: IncomingMessage, html: Html, ip: string): Promise<void> {
  const form = new URLSearchParams(await text(request));
  const email = (form.get("email") ?? "").toLowerCase();
  const verdict = await mailu.accounts.login("web", email, form.get("pw") ?? "", ip);
  if (verdict === "ok") {
    const cookie = `session=${mailu.accounts.openSession(email)}; Path=/; HttpOnly; Secure; SameSite=Lax`;
    html(302, "", { location: "/webmail", "set-cookie": cookie });
  } else {
    html(
      200,
      loginPage(
        verdict === "limited" ? "Too many attempts from your IP (rate-limit)" : "Wrong e-mail or password",
      ),
    );
  }
}

const loginPage = (message: string): string =>
  `<!doctype html><title>Sign in</title><h1>Sign in</h1><p>${message}</p>` +
  `<form method="post" action="/sso/login"><input name="email" type="email"><input name="pw" type="password">` +
  `<button>Sign in Webmail</button></form>`;

const escapeHtml = (text: string): string => text.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);

async function text(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

function safeDecode(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
