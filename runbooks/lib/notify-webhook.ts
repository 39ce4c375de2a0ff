// A notice as a webhook's request: JSON of our own, signed, or what Slack takes.
import { createHmac } from "node:crypto";
import { canonicalJson } from "./audit-chain.ts";
import type { Notice } from "./notice.ts";
import { orDown, Undelivered } from "./notify-attempt.ts";
import { readSecret, type Webhook, webhookUrl } from "./notify-settings.ts";

/**
 * Posts a notice to a webhook. A redirect isn't followed: it would take the notice to where nobody decided.
 * @throws Undelivered, or whatever went wrong on the way.
 */
export async function postWebhook(
  webhook: Webhook,
  notice: Notice,
  { env, signal }: { env: NodeJS.ProcessEnv; signal: AbortSignal },
): Promise<void> {
  const [url, secret] = orDown(() => [
    webhookUrl(webhook, env),
    webhook.secret === undefined ? undefined : readSecret(webhook.secret, env),
  ]);
  const body = canonicalJson(webhook.format === "slack" ? slackMessage(notice) : genericMessage(notice));
  const answer = await fetch(url, {
    method: "POST",
    body,
    headers: {
      "Content-Type": "application/json",
      "Idempotency-Key": notice.event_id,
      ...(secret === undefined ? {} : signature(secret, body)),
    },
    redirect: "manual",
    signal,
  });
  if (answer.ok) return answer.body?.cancel();
  const said = await shortAnswer(answer);
  throw new Undelivered(`HTTP ${answer.status}${said}`, verdictOn(answer.status));
}

/** A redirect, a missing right or address: the webhook itself is wrong. Otherwise a 4xx is about this one request. */
function verdictOn(status: number): "later" | "never" | "down" {
  if (status >= 500 || [408, 425, 429].includes(status)) return "later";
  return status < 400 || [401, 403, 404, 410].includes(status) ? "down" : "never";
}

/** `X-Signature` is over the time too, so that a receiver can refuse what somebody recorded and plays back. */
function signature(secret: string, body: string): Record<string, string> {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const digest = createHmac("sha256", secret).update(`${timestamp}.${body}`).digest("hex");
  return { "X-Timestamp": timestamp, "X-Signature": `sha256=${digest}` };
}

function genericMessage(notice: Notice): Record<string, unknown> {
  const { event_id, name, severity, subject, text, tenant_id, incident_id, fields, created } = notice;
  return { event_id, name, severity, subject, text, tenant_id, incident_id, fields, created };
}

/** Plain-text blocks: Slack looks for no markup in them. `text` is what a notification on a phone shows. */
function slackMessage(notice: Notice): Record<string, unknown> {
  const facts = [
    ["Severity", notice.severity],
    ["Tenant", notice.tenant_id],
    ["Incident", notice.incident_id],
    ["Event", notice.event_id],
  ].flatMap(([title, value]) => (value === undefined ? [] : [plain(`${title}: ${value}`, 2000)]));
  return {
    text: slackText(notice.subject, 1000),
    mrkdwn: false,
    unfurl_links: false,
    unfurl_media: false,
    blocks: [
      { type: "header", text: plain(notice.subject, 150) },
      { type: "section", text: plain(notice.text, 3000) },
      { type: "section", fields: facts },
    ],
  };
}

/** Slack refuses a whole message for one empty or too long text. */
const plain = (text: string, most: number) => ({
  type: "plain_text",
  text: slackText(text, most) || "-",
  emoji: false,
});

const ESCAPES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };

/** Escaped as Slack demands, and cut between two characters so that the escaped text has at most `most`. */
function slackText(text: string, most: number): string {
  const escaped = [...text].map((character) => ESCAPES[character] ?? character);
  if (escaped.join("").length <= most) return escaped.join("");
  let short = "";
  for (const piece of escaped) {
    if (short.length + piece.length >= most) break;
    short += piece;
  }
  return `${short}…`;
}

/** What Slack says is a word such as `no_service`; anything longer is a page for people. */
async function shortAnswer(answer: Response): Promise<string> {
  const reader = answer.body?.getReader();
  const first = await reader?.read();
  await reader?.cancel();
  const said = new TextDecoder().decode(first?.value).trim();
  return /^\w[\w .-]{0,60}$/.test(said) ? ` (${said})` : "";
}
