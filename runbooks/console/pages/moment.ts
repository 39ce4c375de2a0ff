// Times and spans as people read them. The exact time stands beside each, for whoever writes the report afterwards.
import { html } from "hono/html";
import { ago } from "../../lib/status-text.ts";
import type { Html } from "../layout.ts";

/** `3 h 5 min ago`, with the exact time in UTC; the page's script keeps it true while the page is open. */
export function when(time: string, now = new Date()): Html {
  if (Number.isNaN(Date.parse(time))) return html`${time}`;
  return html`<time datetime="${new Date(time).toISOString()}" title="${exact(time)}" data-ago>${ago(time, now)}</time>`;
}

/** 2026-01-31 14:05:09 UTC. */
export const exact = (time: string): string =>
  `${new Date(time).toISOString().slice(0, 19).replace("T", " ")} UTC`;

export const day = (time: string): string => new Date(time).toISOString().slice(0, 10);

/** Seconds in the unit that fits: 0.4 s, 12 s, 5 min, 1 h, 1 h 30 min, 24 h. */
export function span(seconds: number): string {
  if (seconds < 10) return `${Math.round(seconds * 10) / 10} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const rest = minutes % 60;
  return `${Math.floor(minutes / 60)} h${rest === 0 ? "" : ` ${rest} min`}`;
}
