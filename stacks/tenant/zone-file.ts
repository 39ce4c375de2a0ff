// The tenant's records as a zone file (RFC 1035), for those who host DNS elsewhere.
import { TTL_S, txtStrings, type ZoneRecord } from "./zone-records.ts";

/** Lines to append to `domain`'s zone, or to upload where a provider takes zone files. */
export function zoneFile(domain: string, records: readonly ZoneRecord[]): string {
  return `$ORIGIN ${domain}.\n$TTL ${TTL_S}\n${records.map(line).join("\n")}\n`;
}

function line({ name, type, value }: ZoneRecord): string {
  return `${name}. ${TTL_S} IN ${type} ${type === "TXT" ? txtStrings(value).map(quoted).join(" ") : value}`;
}

const quoted = (text: string): string => `"${text.replaceAll(/["\\]/g, "\\$&")}"`;
