// The DNS records that Mailu wants for a domain, in the words of its API (core/admin/mailu/models.py).
import type { Settings } from "./config.ts";
import type { DkimKeys } from "./dkim.ts";

const PROTOCOLS: [name: string, port: string, priority: number][] = [
  ["imap", "143", 20],
  ["pop3", "110", 20],
  ["submission", "587", 20],
  ["imaps", "993", 10],
  ["pop3s", "995", 10],
  ["submissions", "465", 10],
];

/** The `dns_*` fields of GET /domain/NAME; null where Mailu has none. */
export function dnsRecords(
  name: string,
  dkim: DkimKeys,
  settings: Settings,
): Record<string, string | string[] | null> {
  const host = settings("HOSTNAMES").split(",")[0]?.trim() ?? "";
  const ports = settings("PORTS", "25,80,443,465,993,995,4190").split(",");
  const report = (key: string, tag: string) =>
    settings(key) === "" ? "" : ` ${tag}=mailto:${settings(key)}@${settings("DOMAIN")};`;
  const signed = dkim.record(name);
  return {
    dns_autoconfig: [
      ...PROTOCOLS.map(([protocol, port, priority]) =>
        ports.includes(port)
          ? `_${protocol}._tcp.${name}. 600 IN SRV ${priority} 1 ${port} ${host}.`
          : `_${protocol}._tcp.${name}. 600 IN SRV 0 0 0 .`,
      ),
      `autoconfig.${name}. 600 IN CNAME ${host}.`,
      `autodiscover.${name}. 600 IN CNAME ${host}.`,
    ],
    dns_mx: `${name}. 600 IN MX 10 ${host}.`,
    dns_spf: `${name}. 600 IN TXT "v=spf1 mx a:${host} ~all"`,
    dns_dkim: signed,
    dns_dmarc:
      signed &&
      `_dmarc.${name}. 600 IN TXT "v=DMARC1; p=reject;${report("DMARC_RUA", "rua")}${report("DMARC_RUF", "ruf")} adkim=s; aspf=s"`,
    dns_dmarc_report: signed && `${name}._report._dmarc.${settings("DOMAIN")}. 600 IN TXT "v=DMARC1;"`,
    dns_tlsa: null,
  };
}
