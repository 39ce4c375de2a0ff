// Incidents as the audit log tells them: all that was done under one id, for whom, by whom. Pure.
import type { AuditEvent } from "../../lib/audit-chain.ts";
import type { Notice } from "../../lib/notice.ts";
import { actorOf, incidentOf } from "./event-words.ts";

export interface Incident {
  readonly id: string;
  /** ISO 8601: the first and the last thing that is known of it. */
  readonly began: string;
  readonly last: string;
  readonly tenants: readonly string[];
  readonly by: readonly string[];
  /** In the order of time. */
  readonly events: readonly AuditEvent[];
  /** Notices that their receivers don't have yet. */
  readonly waiting: readonly Notice[];
}

/** The one that something happened in last comes first. @param events in the order of time. */
export function incidentsOf(events: readonly AuditEvent[], waiting: readonly Notice[]): Incident[] {
  const byId = Map.groupBy(events, (event) => incidentOf(event) ?? "");
  const notices = Map.groupBy(waiting, ({ incident_id }) => incident_id ?? "");
  const ids = new Set([...byId.keys(), ...notices.keys()]);
  ids.delete("");
  return [...ids]
    .map((id) => incident(id, byId.get(id) ?? [], notices.get(id) ?? []))
    .sort((a, b) => Date.parse(b.last) - Date.parse(a.last) || (a.id < b.id ? -1 : 1));
}

function incident(id: string, events: readonly AuditEvent[], waiting: readonly Notice[]): Incident {
  const times = [...events.map(({ timestamp }) => timestamp), ...waiting.map(({ created }) => created)].sort(
    (a, b) => Date.parse(a) - Date.parse(b),
  );
  return {
    id,
    began: times[0] ?? "",
    last: times.at(-1) ?? "",
    tenants: distinct([
      ...events.map(({ tenant_id }) => tenant_id),
      ...waiting.map(({ tenant_id }) => tenant_id),
    ]).sort(),
    by: distinct(events.map(actorOf)),
    events,
    waiting,
  };
}

const distinct = (items: readonly (string | undefined)[]): string[] => [
  ...new Set(items.filter((item): item is string => item !== undefined && item !== "")),
];
