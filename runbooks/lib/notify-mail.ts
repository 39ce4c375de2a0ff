// A notice as an e-mail: the same bytes each time it is sent, so that a repeated one is known by its Message-ID.
import { lookup } from "node:dns/promises";
import type { Notice } from "./notice.ts";
import { abortable, orDown, Undelivered } from "./notify-attempt.ts";
import { type Notify, readSecret } from "./notify-settings.ts";

/**
 * Hands a notice for one address to the relay.
 * @throws Undelivered, or whatever went wrong on the way to the relay.
 */
export async function sendMail(
  notify: Notify,
  notice: Notice,
  to: string,
  { env, signal }: { env: NodeJS.ProcessEnv; signal: AbortSignal },
): Promise<void> {
  const { relay } = notify;
  await refuseOwnHost(relay.host, notice.not_via, signal);
  const auth = orDown(
    () => relay.login && { user: relay.login.username, pass: readSecret(relay.login.password, env) },
  );
  const { createTransport } = await import("nodemailer");
  const transport = createTransport({
    host: relay.host,
    port: relay.port,
    secure: relay.tls === "implicit",
    requireTLS: relay.tls === "starttls",
    ignoreTLS: relay.tls === "none",
    tls: { minVersion: "TLSv1.2" },
    disableFileAccess: true,
    disableUrlAccess: true,
    ...(auth === undefined ? {} : { auth }),
  });
  try {
    await transport.sendMail({ ...message(notify.from, notice, to), signal });
  } catch (error) {
    throw undelivered(error);
  } finally {
    transport.close();
  }
}

/** The Message-ID of a notice, whoever sends it and to whomever. */
export const messageId = (from: string, notice: Notice): string =>
  `<${notice.event_id}@${from.slice(from.lastIndexOf("@") + 1)}>`;

function message(from: string, notice: Notice, to: string) {
  return {
    from,
    to,
    envelope: { from, to: [to] },
    subject: notice.subject,
    text: notice.text,
    date: new Date(notice.created),
    messageId: messageId(from, notice),
    headers: {
      "Auto-Submitted": "auto-generated",
      "Idempotency-Key": notice.event_id,
      ...(notice.severity === "info" ? {} : { Importance: "high" }),
    },
  };
}

/** A mail host whose credential was lost may be in a stranger's hands: what it carries can be read or withheld. */
async function refuseOwnHost(relay: string, hosts: string[], signal: AbortSignal): Promise<void> {
  if (hosts.length === 0) return;
  const forbidden = new Set(hosts.map(bare));
  const addresses = await abortable(lookup(relay, { all: true }), signal);
  const own = [relay, ...addresses.map(({ address }) => address)].find((name) => forbidden.has(bare(name)));
  if (own === undefined) return;
  throw new Undelivered(`the relay ${relay} is the mail host of the tenant that this is about`, "never");
}

const bare = (host: string): string => host.toLowerCase().replace(/\.$/, "");

/** A refused address or message is that notice's own matter; everything else concerns the relay. */
function undelivered(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { code, responseCode = 0 } = error as { code?: string; responseCode?: number };
  const final = responseCode >= 500;
  if (code === "EENVELOPE" || code === "EMESSAGE") {
    return new Undelivered(error.message, final ? "never" : "later", { cause: error });
  }
  // A wrong password repeated would lock the account at many a relay.
  if (code === "EAUTH" || final) return new Undelivered(error.message, "down", { cause: error });
  return error;
}
