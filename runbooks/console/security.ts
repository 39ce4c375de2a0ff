// What keeps other sites, other names for this machine and other people's scripts out of the console. One middleware
// before all routes; each of its refusals has a test.
import type { Context, MiddlewareHandler } from "hono";
import type { Env } from "./context.ts";

/** Everything from this server, nothing inline, nobody frames it. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join("; ");

const HEADERS: Record<string, string> = {
  "Content-Security-Policy": POLICY,
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  // Both caches and the one behind the browser's back button.
  "Cache-Control": "no-store",
};

/** A year: whoever used TLS once is not led back to plain HTTP by somebody in between. */
const STRICT_TRANSPORT = "max-age=31536000";

export function security(options: {
  isOwnHost: (header: string | undefined) => boolean;
  secure: boolean;
}): MiddlewareHandler<Env> {
  return async (c, next) => {
    if (!options.isOwnHost(c.req.header("host"))) return refuse(c, 421, "This server has another name.");
    if (changes(c) && !isSameOrigin(c, options.secure)) {
      return refuse(c, 403, "This request didn't come from a page of the console.");
    }
    await next();
    harden(c, options.secure);
  };
}

function harden(c: Context<Env>, secure: boolean): void {
  for (const [name, value] of Object.entries(HEADERS)) {
    if (name !== "Cache-Control" || !c.req.path.startsWith("/public/")) c.header(name, value);
  }
  if (secure) c.header("Strict-Transport-Security", STRICT_TRANSPORT);
}

function refuse(c: Context<Env>, status: 403 | 421, why: string): Response {
  harden(c, false);
  return c.text(`${why}\n`, status);
}

export const changes = (c: Context<Env>): boolean => !["GET", "HEAD"].includes(c.req.method);

/** Browsers say where a request comes from, and a page can't make them lie; what says nothing is no page of ours. */
function isSameOrigin(c: Context<Env>, secure: boolean): boolean {
  const site = c.req.header("sec-fetch-site");
  const origin = c.req.header("origin");
  if (site !== undefined && site !== "same-origin") return false;
  // Where no referrer is to be told, browsers leave the origin of a form out as well: then only the site counts.
  if (site !== undefined && origin === "null") return true;
  if (origin !== undefined && origin !== `${secure ? "https" : "http"}://${c.req.header("host")}`)
    return false;
  return site !== undefined || origin !== undefined;
}
