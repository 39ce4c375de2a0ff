// The audit log as pages show it: each event a line, with all of it to unfold. Whatever stands in it is text.
import { statSync } from "node:fs";
import { html } from "hono/html";
import { type OpenedAudit, openAudit } from "../../lib/audit.ts";
import type { AuditEvent } from "../../lib/audit-chain.ts";
import { mergeEvents, readChains } from "../../lib/audit-reader.ts";
import type { Console } from "../context.ts";
import { type Html, problem } from "../layout.ts";
import { actorOf, incidentOf, inWords, reasonOf } from "./event-words.ts";
import { when } from "./moment.ts";

/** Milliseconds for which what was read is good: the log is read whole, with its copies, and held against them. */
const FRESH_MS = 5_000;

export interface Log {
  /** In the order of time. */
  readonly events: readonly AuditEvent[];
  /** Why not all of them are here. */
  readonly problems: readonly string[];
}

const READ = new WeakMap<Console, { at: number; print: string; log: Promise<Log> }>();

/** The log, as `audit list` reads it; again when it has grown, or others may have written. @throws Error when it can't be read. */
export function readLog(console: Console): Promise<Log> {
  const last = READ.get(console);
  const print = fingerprint(console.settings.audit.log);
  if (last !== undefined && last.print === print && performance.now() - last.at < FRESH_MS) return last.log;
  const log = readNow(console);
  READ.set(console, { at: performance.now(), print, log });
  log.catch(() => READ.delete(console));
  return log;
}

function fingerprint(file: string): string {
  const found = statSync(file, { throwIfNoEntry: false });
  return `${found?.size} ${found?.mtimeMs}`;
}

const OPENED = new WeakMap<Console, OpenedAudit>();

async function readNow(console: Console): Promise<Log> {
  const opened = OPENED.get(console) ?? openAudit(console.settings.audit, console.env);
  // Kept, since it asks the bucket only for what it hasn't read yet.
  OPENED.set(console, opened);
  const { store, copies } = opened;
  const chains = await readChains(store, copies);
  const problems = chains.flatMap(({ where, problem: found }) =>
    found === undefined ? [] : [`${where}: event ${found.seq} was ${found.kind} (${found.why})`],
  );
  return { events: mergeEvents(chains), problems };
}

/** The newest first. @param about whom all of them are about, so that each needn't say it. */
export const eventList = (events: readonly AuditEvent[], about: "tenant" | "incident"): Html =>
  html`<ol class="events">${events.toReversed().map((event) => eventItem(event, about))}</ol>`;

function eventItem(event: AuditEvent, about: "tenant" | "incident"): Html {
  const incident = about === "incident" ? undefined : incidentOf(event);
  const tenant = about === "tenant" ? undefined : event.tenant_id;
  const reason = reasonOf(event);
  return html`<li class="event event-${event.severity ?? "low"}">
<p class="event-head"><span class="event-what">${tenant === undefined ? "" : html`<a href="/tenants/${tenant}">${tenant}</a>: `}${inWords(event)}</span> ${when(event.timestamp)}</p>
<p class="event-who">by ${actorOf(event)}${incident === undefined ? "" : html` · <a href="/incidents#${anchor(incident)}">${incident}</a>`}</p>
${reason === undefined ? "" : html`<p class="event-why">${reason}</p>`}
<details><summary>All of it<span class="visually-hidden"> about: ${inWords(event)}</span></summary>
<pre tabindex="0">${JSON.stringify(event, undefined, 2)}</pre></details>
</li>
`;
}

/** An incident's id, or anything that stands for one in the log, as a fragment of an address. */
export const anchor = (incident: string): string => `incident-${encodeURIComponent(incident)}`;

/** What is to be said before a log that isn't whole. */
export const logProblems = ({ problems }: Log): Html =>
  html`${problems.map((text) => problem(`The audit log is not whole: ${text}`, "npx runbook audit verify"))}`;
