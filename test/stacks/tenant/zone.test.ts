// A tenant's DNS records, and the two ways in which they are written down.
import { describe, expect, it } from "vitest";
import { route53Value } from "../../../stacks/tenant/dns.ts";
import { mtaStsId, mtaStsNginx, mtaStsPolicy } from "../../../stacks/tenant/mta-sts.ts";
import { zoneFile } from "../../../stacks/tenant/zone-file.ts";
import { TTL_S, txtStrings, zoneRecords } from "../../../stacks/tenant/zone-records.ts";

const DKIM = `v=DKIM1; k=rsa; p=${"A".repeat(392)}`;
const ARGS = { domain: "acme.example", address: "192.0.2.25", dkim: DKIM, mtaSts: "testing" as const };
const records = zoneRecords(ARGS);
const value = (name: string, type: string) => records.find((r) => r.name === name && r.type === type)?.value;

describe("a tenant's records", () => {
  it.each([
    ["mail.acme.example", "A", "192.0.2.25"],
    ["acme.example", "MX", "10 mail.acme.example."],
    ["acme.example", "TXT", "v=spf1 mx a:mail.acme.example ~all"],
    ["dkim._domainkey.acme.example", "TXT", DKIM],
    ["_submissions._tcp.acme.example", "SRV", "10 1 465 mail.acme.example."],
    ["_imaps._tcp.acme.example", "SRV", "10 1 993 mail.acme.example."],
    ["_autodiscover._tcp.acme.example", "SRV", "10 1 443 mail.acme.example."],
    ["autoconfig.acme.example", "CNAME", "mail.acme.example."],
    ["autodiscover.acme.example", "CNAME", "mail.acme.example."],
    ["mta-sts.acme.example", "CNAME", "mail.acme.example."],
    ["_smtp._tls.acme.example", "TXT", "v=TLSRPTv1; rua=mailto:admin@acme.example"],
  ])("have %s %s", (name, type, expected) => {
    expect(value(name, type)).toBe(expected);
  });

  it("reject mail that only pretends to be the tenant's", () => {
    expect(value("_dmarc.acme.example", "TXT")).toMatch(
      /^v=DMARC1; p=reject; rua=mailto:admin@acme\.example;/,
    );
  });

  it("have each name and type once, and at most five minutes to live", () => {
    const keys = records.map((record) => `${record.type} ${record.name}`);
    expect(new Set(keys).size).toBe(keys.length);
    expect(TTL_S).toBeLessThanOrEqual(300);
  });

  it("leave MTA-STS out where it's switched off", () => {
    const names = zoneRecords({ ...ARGS, mtaSts: "none" }).map((record) => record.name);
    expect(names.filter((name) => name.includes("mta-sts"))).toEqual([]);
  });
});

describe("MTA-STS", () => {
  it("names the mail host, and the record's id changes with the policy", () => {
    expect(mtaStsPolicy("acme.example", "enforce")).toBe(
      "version: STSv1\nmode: enforce\nmx: mail.acme.example\nmax_age: 604800\n",
    );
    const ids = (["testing", "enforce"] as const).map((mode) => mtaStsId("acme.example", mode));
    expect(new Set(ids).size).toBe(2);
    for (const id of ids) expect(id).toMatch(/^[a-z0-9]{1,32}$/);
    expect(value("_mta-sts.acme.example", "TXT")).toBe(`v=STSv1; id=${ids[0]}`);
  });

  it("is served with the line ends that the RFC wants", () => {
    expect(mtaStsNginx("acme.example", "testing")).toContain(
      'return 200 "version: STSv1\\r\\nmode: testing\\r\\n',
    );
  });
});

describe("long TXT values", () => {
  it("are split into strings of at most 255 bytes that join to the same text", () => {
    const strings = txtStrings(DKIM);
    expect(strings.map((text) => text.length)).toEqual([255, DKIM.length - 255]);
    expect(strings.join("")).toBe(DKIM);
    expect(txtStrings("a".repeat(255))).toHaveLength(1);
    expect(txtStrings("a".repeat(256))).toHaveLength(2);
  });

  it("reach Route 53 as several quoted strings, once the provider has put its quotes around", () => {
    const written = `"${route53Value({ name: "x", type: "TXT", value: DKIM })}"`;
    expect(written).toBe(`"${DKIM.slice(0, 255)}" "${DKIM.slice(255)}"`);
    expect(route53Value({ name: "x", type: "A", value: "192.0.2.25" })).toBe("192.0.2.25");
  });
});

describe("the zone file", () => {
  const lines = zoneFile("acme.example", records).trimEnd().split("\n");

  it("starts with origin and lifetime and has a line for each record", () => {
    expect(lines.slice(0, 2)).toEqual(["$ORIGIN acme.example.", "$TTL 300"]);
    expect(lines).toHaveLength(records.length + 2);
    expect(lines).toContain("mail.acme.example. 300 IN A 192.0.2.25");
    expect(lines).toContain("acme.example. 300 IN MX 10 mail.acme.example.");
  });

  it("quotes texts and splits long ones", () => {
    expect(lines).toContain('acme.example. 300 IN TXT "v=spf1 mx a:mail.acme.example ~all"');
    expect(lines.find((line) => line.includes("_domainkey"))).toBe(
      `dkim._domainkey.acme.example. 300 IN TXT "${DKIM.slice(0, 255)}" "${DKIM.slice(255)}"`,
    );
    expect(zoneFile("x.example", [{ name: "x.example", type: "TXT", value: 'a"b\\c' }])).toContain(
      '"a\\"b\\\\c"',
    );
  });
});
