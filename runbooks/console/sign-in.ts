// Signing in and out. A refusal says the same and takes the same time whatever was wrong, and there are only so many.
import type { Context, MiddlewareHandler } from "hono";
import { deleteCookie, getCookie, setCookie } from "hono/cookie";
import { html, raw } from "hono/html";
import { RunbookError } from "../lib/errors.ts";
import type { App, Console, Env } from "./context.ts";
import { typedIn } from "./form.ts";
import { fragment, page, problem } from "./layout.ts";
import { Oidc, onwards } from "./oidc.ts";
import { Refusals } from "./refusals.ts";
import { changes } from "./security.ts";
import { isFromSession, type Session } from "./sessions.ts";
import { byPassword, byToken, type Credentials } from "./vault-login.ts";

export function signInPages(app: App, console: Console): void {
  const tools: Tools = { console, refusals: new Refusals(console.limits), oidc: new Oidc(console) };
  app.get("/sign-in", (c) => {
    const ended = c.req.query("ended") !== undefined;
    return signInPage(c, tools, ended ? "You were signed out: your session has ended." : undefined, 200);
  });
  app.post("/sign-in/token", async (c) => {
    const { token } = await typedIn(c, "token");
    return attempt(c, tools, undefined, () => byToken(console, token));
  });
  app.post("/sign-in/password", async (c) => {
    const { name, password } = await typedIn(c, "name", "password");
    return attempt(c, tools, name, () => byPassword(console, name, password));
  });
  app.post("/sign-in/oidc", async (c) => {
    const { role } = await typedIn(c, "role");
    return guarded(c, tools, undefined, () => tools.oidc.leave(c, role));
  });
  app.get("/oidc/callback", (c) => attempt(c, tools, undefined, () => tools.oidc.return(c)));
  app.post("/sign-out", async (c) => {
    const session = console.sessions.find(getCookie(c, cookieName(console)));
    const { csrf } = await typedIn(c, "csrf");
    if (session !== undefined && isFromSession(session, csrf)) console.sessions.end(session);
    deleteCookie(c, cookieName(console), { path: "/", secure: console.secure });
    return c.redirect("/sign-in", 303);
  });
  // A page asks whether its session still lasts; that is no sign of life of the person's.
  app.get("/session", (c) => {
    const session = console.sessions.find(getCookie(c, cookieName(console)));
    return session === undefined ? c.text("signed out", 401) : c.text("signed in");
  });
}

interface Tools {
  readonly console: Console;
  readonly refusals: Refusals;
  readonly oidc: Oidc;
}

/** Lets only those through who are signed in and may list the tenants; a change only from a page of their session. */
export function requireSession(console: Console): MiddlewareHandler<Env> {
  return async (c, next) => {
    const session = console.sessions.find(getCookie(c, cookieName(console)));
    if (session === undefined) {
      return isByScript(c) || changes(c) ? c.text("signed out", 401) : c.redirect("/sign-in", 303);
    }
    c.set("session", session);
    if (changes(c)) {
      const given = c.req.header("x-csrf") ?? (await c.req.parseBody()).csrf;
      if (!isFromSession(session, given)) {
        throw new RunbookError("This form isn't from your session", {
          exit: "permission",
          next: "open the page again",
        });
      }
    }
    if (!isByScript(c)) console.sessions.touch(session);
    if (session.lacks !== undefined) throw session.lacks;
    return next();
  };
}

/** What a page fetches by itself, on a timer or as a stream, in contrast to what a person does. */
const isByScript = (c: Context<Env>): boolean =>
  !changes(c) && (c.req.header("sec-fetch-dest") ?? "document") !== "document";

function attempt(
  c: Context<Env>,
  tools: Tools,
  name: string | undefined,
  login: () => Promise<Credentials>,
): Promise<Response> {
  return guarded(c, tools, name, async (forgive) => {
    beginSession(c, tools.console, await tools.console.sessions.begin(await login()));
    await forgive();
    // From the identity provider it is another site that leads here, and a redirect would still count as its own.
    return c.req.method === "GET" ? onwards(c, "/", "Signed in") : c.redirect("/", 303);
  });
}

/** Lets only so many through, and answers each refusal alike. */
async function guarded(
  c: Context<Env>,
  tools: Tools,
  name: string | undefined,
  act: (forgive: () => Promise<void>) => Promise<Response>,
): Promise<Response> {
  const { refusals } = tools;
  const address = c.env.incoming.socket.remoteAddress ?? "";
  const wait = await refusals.count(name, address);
  if (wait !== undefined) {
    c.header("Retry-After", String(wait));
    return signInPage(c, tools, `Too many attempts. Try again in ${wait} seconds.`, 429);
  }
  const answer = refusals.notBefore();
  try {
    return await act(() => refusals.forgive(name, address));
  } catch (error) {
    await answer;
    return refusedPage(c, tools, error);
  }
}

function beginSession(c: Context<Env>, console: Console, session: Session): void {
  const before = console.sessions.find(getCookie(c, cookieName(console)));
  if (before !== undefined) console.sessions.end(before);
  setCookie(c, cookieName(console), session.id, {
    httpOnly: true,
    sameSite: "Strict",
    path: "/",
    secure: console.secure,
  });
}

const cookieName = ({ secure, port }: Console): string => `${secure ? "__Host-" : ""}console-${port}`;

function refusedPage(c: Context<Env>, tools: Tools, error: unknown): Promise<Response> {
  if (!(error instanceof RunbookError)) throw error;
  return signInPage(c, tools, error, 403);
}

async function signInPage(
  c: Context<Env>,
  { oidc }: Tools,
  why: string | RunbookError | undefined,
  status: 200 | 403 | 429,
) {
  const refused = typeof why === "string" ? problem(why, undefined) : why && problem(why.message, why.next);
  const said = refused === undefined ? "" : raw(await fragment(refused));
  return page(
    c,
    { title: "Sign in" },
    html`<div class="sign-in">
<h1>Sign in with Vault</h1>
<p>You act with your own rights. You are signed out after 15 minutes without a click.</p>
${said}
${(await oidc.offered(c)) ? oidc.form() : ""}
<form method="post" action="/sign-in/token" class="card">
<h2>With a token</h2>
<label for="token">Vault token</label>
<input id="token" name="token" type="password" required autocomplete="off" spellcheck="false" autofocus>
<p class="hint"><code>vault print token</code> prints yours after <code>vault login</code>.</p>
<button type="submit" class="primary">Sign in</button>
</form>
<form method="post" action="/sign-in/password" class="card">
<h2>With a name and password</h2>
<label for="name">Name</label>
<input id="name" name="name" required autocomplete="username" spellcheck="false" autocapitalize="none">
<label for="password">Password</label>
<input id="password" name="password" type="password" required autocomplete="current-password">
<button type="submit">Sign in</button>
</form>
</div>`,
    status,
  );
}
