// Signing in at the identity provider, through the auth method `people` of the platform stack. Vault keeps the state of
// the login, and the browser a nonce: without it nobody can be led into a login that somebody else began.
import { randomBytes } from "node:crypto";
import type { Context } from "hono";
import { deleteCookie, getCookie, setCookie } from "hono/cookie";
import { html } from "hono/html";
import { z } from "zod";
import { messageOf, RunbookError } from "../lib/errors.ts";
import type { Console, Env } from "./context.ts";
import { type Html, page } from "./layout.ts";
import { type Credentials, fetched, Login, vaultFor } from "./vault-login.ts";

/** Roles that do something here; the platform stack says which groups hold them. */
const ROLES = ["platform-admin", "incident-responder", "tenant-deployer", "drift-reader"] as const;

/** Seconds that a person may take at the identity provider. */
const PATIENCE_S = 300;

/** Milliseconds for which Vault's answer holds whether there is such a login. */
const KNOWN_MS = 60_000;

export class Oidc {
  readonly #console: Console;
  #offered: { at: number; answer: Promise<boolean> } | undefined;

  constructor(console: Console) {
    this.#console = console;
  }

  /** Whether Vault has it, by browser: it answers everybody who asks for where to go. */
  offered(c: Context<Env>): Promise<boolean> {
    const known = this.#offered;
    if (known !== undefined && performance.now() - known.at < KNOWN_MS) return known.answer;
    const answer = this.#begin(c, ROLES[0], "").then(
      () => true,
      (error: unknown) => /could not be found/.test(messageOf(error)),
    );
    this.#offered = { at: performance.now(), answer };
    return answer;
  }

  form(): Html {
    return html`<form method="post" action="/sign-in/oidc" class="card" data-once>
<h2>At your identity provider</h2>
<label for="role">Role</label>
<select id="role" name="role">${ROLES.map((role) => html`<option>${role}</option>`)}</select>
<button type="submit" class="primary">Go to the identity provider</button>
</form>`;
  }

  /** A page that leads there. No redirect: what follows a form may only be this server (form-action). */
  async leave(c: Context<Env>, role: string): Promise<Response> {
    if (!ROLES.some((one) => one === role)) {
      throw new RunbookError("There is no such role", { exit: "usage", next: "choose one of the list" });
    }
    const nonce = randomBytes(24).toString("base64url");
    const url = await this.#begin(c, role, nonce);
    if (url === "") {
      throw new RunbookError(
        `Vault doesn't let the role ${role} sign in from ${callbackOf(c, this.#console)}`,
        {
          exit: "permission",
          next: "add that address to people.redirectUris of the platform stack: pulumi config, then pulumi up",
        },
      );
    }
    // Lax, since the provider's page sends the person back; it is of use for this one login only.
    setCookie(c, cookieName(this.#console), nonce, {
      httpOnly: true,
      sameSite: "Lax",
      path: "/oidc",
      maxAge: PATIENCE_S,
      secure: this.#console.secure,
    });
    return onwards(c, url, "Going to your identity provider");
  }

  /** The person is back. @throws RunbookError (3) for whatever Vault or the provider refuses. */
  async return(c: Context<Env>): Promise<Credentials> {
    const nonce = getCookie(c, cookieName(this.#console));
    deleteCookie(c, cookieName(this.#console), { path: "/oidc", secure: this.#console.secure });
    const { state, code } = c.req.query();
    if (nonce === undefined || state === undefined || code === undefined) {
      throw refused("The identity provider sent nobody back who began to sign in here");
    }
    const vault = await vaultFor(this.#console, "");
    const query = new URLSearchParams({ state, code, client_nonce: nonce }).toString();
    const path = "auth/people/oidc/callback";
    const answer = await vault.read(`${path}?${query}`, Login).catch((error: unknown) => {
      throw refused(messageOf(error).replaceAll(`?${query}`, ""));
    });
    if (answer === undefined) throw refused("Vault has no login at an identity provider any more");
    return fetched(answer);
  }

  async #begin(c: Context<Env>, role: string, nonce: string): Promise<string> {
    const vault = await vaultFor(this.#console, "");
    const body = { role, redirect_uri: callbackOf(c, this.#console), client_nonce: nonce };
    return (await vault.write("auth/people/oidc/auth_url", body, AuthUrl)).data.auth_url;
  }
}

/** Leads on by itself. The page that follows counts as reached from here, so that its browser sends a strict cookie. */
export const onwards = (c: Context<Env>, url: string, title: string): Promise<Response> =>
  page(c, { title, onwards: url }, html`<h1>${title}</h1><p><a href="${url}" rel="noreferrer">Go on</a></p>`);

/** The address to allow in the platform stack. The Host header was checked. */
const callbackOf = (c: Context<Env>, { secure }: Console): string =>
  `${secure ? "https" : "http"}://${c.req.header("host")}/oidc/callback`;

const cookieName = ({ secure, port }: Console): string => `${secure ? "__Secure-" : ""}console-oidc-${port}`;

const refused = (message: string): RunbookError =>
  new RunbookError(message, {
    exit: "permission",
    next: "sign in again; are you in the group of that role?",
  });

const AuthUrl = z.object({ data: z.object({ auth_url: z.string() }) });
