// Proving a credential by using it: SMTP AUTH, IMAP login, and the webmail page answering. The libraries are
// loaded here and not at start, since only few runs get this far.
import { get } from "node:https";
import type { TlsTrust } from "./tls-trust.ts";

/** Loads the libraries while something else is waited for: a tenth of a second that the first login then doesn't take. */
export function loadMailLibraries(): void {
  for (const library of [import("nodemailer"), import("imapflow")]) library.catch(() => {});
}

/** Milliseconds that one login may take. */
const TIMEOUT_MS = 15_000;

/** Where to log in and as whom. */
export interface Login {
  readonly host: string;
  readonly smtpPort: number;
  readonly imapPort: number;
  readonly trust: TlsTrust;
  readonly username: string;
  readonly password: string;
}

/**
 * What a server said to a login. Only `refused` (535 / NO) means that the credential is wrong: `limited` (451) says
 * that the server lets nobody in for now, and a timeout or a disconnection says nothing.
 */
export type Verdict =
  | { readonly result: "accepted" }
  | { readonly result: "refused" | "limited" | "inconclusive"; readonly said: string };

/** Tries SMTP AUTH over TLS and logs out again. */
export async function smtpLogin(login: Login): Promise<Verdict> {
  const { createTransport } = await import("nodemailer");
  const transport = createTransport({
    host: login.host,
    port: login.smtpPort,
    secure: true,
    tls: login.trust,
    auth: { user: login.username, pass: login.password },
    connectionTimeout: TIMEOUT_MS,
    greetingTimeout: TIMEOUT_MS,
    socketTimeout: TIMEOUT_MS,
  });
  try {
    await transport.verify();
    return { result: "accepted" };
  } catch (error) {
    const code = (error as { responseCode?: number }).responseCode;
    const result = code === 535 ? "refused" : code === 451 ? "limited" : "inconclusive";
    return { result, said: `SMTP: ${(error as Error).message}` };
  } finally {
    transport.close();
  }
}

/** Tries an IMAP login over TLS and logs out again. */
export async function imapLogin(login: Login): Promise<Verdict> {
  const { ImapFlow } = await import("imapflow");
  const client = new ImapFlow({
    host: login.host,
    port: login.imapPort,
    secure: true,
    servername: login.trust.servername,
    tls: login.trust,
    auth: { user: login.username, pass: login.password },
    logger: false,
    verifyOnly: true,
    connectionTimeout: TIMEOUT_MS,
    greetingTimeout: TIMEOUT_MS,
    socketTimeout: TIMEOUT_MS,
  });
  // A late error event without a listener would end the process.
  client.on("error", () => {});
  try {
    await client.connect();
    return { result: "accepted" };
  } catch (error) {
    const failure = error as Error & {
      authenticationFailed?: boolean;
      responseText?: string;
      serverResponseCode?: string;
    };
    const said = `IMAP: ${failure.responseText ?? failure.message}`;
    // Every NO is an authentication failure to the library; only the code (RFC 5530) tells why.
    const code = failure.serverResponseCode;
    if (failure.authenticationFailed !== true) return { result: "inconclusive", said };
    if (code === undefined || code === "AUTHENTICATIONFAILED") return { result: "refused", said };
    return { result: code === "LIMIT" || code === "UNAVAILABLE" ? "limited" : "inconclusive", said };
  } finally {
    client.close();
  }
}

/** Whether the webmail page answers; the login form is enough, a session isn't needed. */
export async function webmailAnswers(address: string, trust: TlsTrust): Promise<Verdict> {
  const { promise, resolve } = Promise.withResolvers<Verdict>();
  const fail = (said: string): void => resolve({ result: "inconclusive", said: `webmail: ${said}` });
  get(
    {
      ...trust,
      host: address,
      path: "/webmail",
      headers: { Host: trust.servername },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    },
    (response) => {
      response.resume();
      const status = response.statusCode ?? 0;
      if (status >= 200 && status < 400) resolve({ result: "accepted" });
      else fail(`HTTP ${status}`);
    },
  ).on("error", (error) => fail(error.message));
  return promise;
}

/** All three at once; what was not accepted, in words (empty: everything was). */
export async function unprovenLogins(login: Login): Promise<string[]> {
  const verdicts = await Promise.all([
    smtpLogin(login),
    imapLogin(login),
    webmailAnswers(login.host, login.trust),
  ]);
  return verdicts.flatMap((verdict) => (verdict.result === "accepted" ? [] : [verdict.said]));
}
