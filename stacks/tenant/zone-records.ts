// The DNS records of a tenant, as data: the Route 53 resources and the zone file are both made from it.
import { DKIM_SELECTOR, IMAP_PORT, mailHost, SMTP_PORT } from "../names.ts";
import { type MtaStsMode, mtaStsId } from "./mta-sts.ts";

export interface ZoneRecord {
  /** Full name without the dot at the end. */
  name: string;
  type: "A" | "MX" | "TXT" | "SRV" | "CNAME";
  /** Without quotes and, for TXT, not yet split. */
  value: string;
}

export interface ZoneArgs {
  domain: string;
  address: string;
  /** The DKIM record's text. */
  dkim: string;
  mtaSts: MtaStsMode;
}

/** Seconds. Where the address changes with the host, this is how long senders go on knocking at the dead one. */
export const TTL_S = 300;

export function zoneRecords({ domain, address, dkim, mtaSts }: ZoneArgs): ZoneRecord[] {
  const host = mailHost(domain);
  const at = (name: string) => `${name}.${domain}`;
  return [
    { name: host, type: "A", value: address },
    { name: domain, type: "MX", value: `10 ${host}.` },
    { name: domain, type: "TXT", value: `v=spf1 mx a:${host} ~all` },
    { name: at(`${DKIM_SELECTOR}._domainkey`), type: "TXT", value: dkim },
    {
      name: at("_dmarc"),
      type: "TXT",
      value: `v=DMARC1; p=reject; rua=mailto:admin@${domain}; ruf=mailto:admin@${domain}; adkim=s; aspf=s`,
    },
    { name: at("_submissions._tcp"), type: "SRV", value: `10 1 ${SMTP_PORT} ${host}.` },
    { name: at("_imaps._tcp"), type: "SRV", value: `10 1 ${IMAP_PORT} ${host}.` },
    { name: at("_autodiscover._tcp"), type: "SRV", value: `10 1 443 ${host}.` },
    { name: at("autoconfig"), type: "CNAME", value: `${host}.` },
    { name: at("autodiscover"), type: "CNAME", value: `${host}.` },
    ...(mtaSts === "none"
      ? []
      : ([
          { name: at("mta-sts"), type: "CNAME", value: `${host}.` },
          { name: at("_mta-sts"), type: "TXT", value: `v=STSv1; id=${mtaStsId(domain, mtaSts)}` },
        ] satisfies ZoneRecord[])),
    { name: at("_smtp._tls"), type: "TXT", value: `v=TLSRPTv1; rua=mailto:admin@${domain}` },
  ];
}

/** The pieces of a TXT value: DNS carries strings of at most 255 bytes, a DKIM key is longer. */
export function txtStrings(value: string): string[] {
  return value.match(/.{1,255}/gs) ?? [""];
}
