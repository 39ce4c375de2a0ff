// Records as declared and as answered. Pure.
import type { ZoneRecord } from "./declared.ts";
import { oneLine } from "./printable.ts";

export interface Difference {
  kind: "record-missing" | "record-differs" | "extra-mx";
  found: string;
}

/** How `values` differ from the one that is declared; undefined where they don't. `domain` is the zone's own name. */
export function compare(
  record: ZoneRecord,
  values: readonly string[],
  domain: string,
): Difference | undefined {
  const relevant = values.filter((value) => record.type !== "TXT" || isAlike(record, value, domain));
  const found = oneLine(relevant.join(", "));
  if (relevant.length === 0) return { kind: "record-missing", found: "none" };
  const there = relevant.some((value) => same(record, value));
  if (there && relevant.length === 1) return undefined;
  return { kind: there && record.type === "MX" ? "extra-mx" : "record-differs", found };
}

/** Others keep texts of their own at a domain's name (proofs of ownership); below it all names are the tenant's mail's. */
function isAlike(record: ZoneRecord, value: string, domain: string): boolean {
  return record.name !== domain || tag(value) === tag(record.value);
}

const tag = (text: string): string => text.split(/[\s;]/)[0]?.toLowerCase() ?? "";

/** Names know no case; texts do. */
const same = ({ type, value }: ZoneRecord, answered: string): boolean =>
  type === "TXT" ? answered === value : answered.toLowerCase() === value.toLowerCase();

/** The record's line in a zone file. */
export function lineOf({ name, type, value }: ZoneRecord): string {
  const text = () =>
    (value.match(/.{1,255}/gs) ?? [""]).map((part) => `"${part.replaceAll(/["\\]/g, "\\$&")}"`).join(" ");
  return `${name}. IN ${type} ${type === "TXT" ? text() : value}`;
}
