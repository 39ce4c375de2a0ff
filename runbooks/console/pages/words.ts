// Small parts that pages share: what state something is in, and a command to copy.
import { html } from "hono/html";
import type { TenantStatus } from "../../lib/status-tenants.ts";
import type { Html } from "../layout.ts";
import type { Look } from "./look.ts";

export type Tone = "good" | "bad" | "warn" | "calm";

/** A state in a word. Its sign tells the tone to whoever sees no colours. */
export const badge = (tone: Tone, text: string, said?: string | null): Html =>
  html`<span class="badge badge-${tone}"${said ? html` title="${said}"` : ""}>${text}</span>`;

/** A command for the terminal, with a button that copies it. */
export const command = (text: string): Html =>
  html`<span class="copyable"><code>${text}</code><button type="button" class="copy" data-copy="${text}">Copy<span class="visually-hidden"> ${text}</span></button></span>`;

const LOGIN: Record<TenantStatus["login"], [Tone, string]> = {
  accepted: ["good", "Logs in"],
  refused: ["bad", "Refused"],
  limited: ["warn", "Shut out for now"],
  inconclusive: ["warn", "No answer"],
  unknown: ["warn", "Not known"],
  untried: ["calm", "Being tried"],
};

export function loginBadge({ status }: Look): Html {
  const [tone, text] = LOGIN[status?.login ?? "untried"];
  return badge(tone, text, status?.said);
}

/** What somebody has to do something about: marks on the current version, a rotation that isn't finished. */
export function marksOf({ status, unfinished }: Look): Html {
  const marks = [
    ...(status?.marked ? [badge("bad", `Compromised: ${status.marked}`)] : []),
    ...(unfinished === undefined ? [] : [badge("warn", `Rotation in state ${unfinished.rotation.state}`)]),
  ];
  return marks.length === 0 ? html`<span class="none">none</span>` : html`${marks}`;
}
