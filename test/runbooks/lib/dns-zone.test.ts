// Records as declared against what a server answers.
import { expect, test } from "vitest";
import { compare, lineOf } from "../../../runbooks/lib/dns-zone.ts";

const MX = { name: "acme.example", type: "MX", value: "10 mail.acme.example." };
const SPF = { name: "acme.example", type: "TXT", value: "v=spf1 mx a:mail.acme.example ~all" };
const DKIM = { name: "dkim._domainkey.acme.example", type: "TXT", value: "v=DKIM1; k=rsa; p=Ab" };

test.each<[string, typeof MX, string[], ReturnType<typeof compare>]>([
  ["the same", MX, ["10 mail.acme.example."], undefined],
  ["the same in other letters, since names know no case", MX, ["10 MAIL.acme.example."], undefined],
  ["none", MX, [], { kind: "record-missing", found: "none" }],
  [
    "another priority",
    MX,
    ["20 mail.acme.example."],
    { kind: "record-differs", found: "20 mail.acme.example." },
  ],
  [
    "one more MX",
    MX,
    ["10 mail.acme.example.", "5 mx.evil.example."],
    { kind: "extra-mx", found: "10 mail.acme.example., 5 mx.evil.example." },
  ],
  ["another's text beside ours", SPF, ["site=1", SPF.value], undefined],
  ["another's text alone", SPF, ["site=1"], { kind: "record-missing", found: "none" }],
  [
    "two policies, of which none counts then",
    SPF,
    [SPF.value, "v=spf1 -all"],
    { kind: "record-differs", found: `${SPF.value}, v=spf1 -all` },
  ],
  [
    "other letters in a key",
    DKIM,
    ["v=DKIM1; k=rsa; p=aB"],
    { kind: "record-differs", found: "v=DKIM1; k=rsa; p=aB" },
  ],
  [
    "a key beside ours",
    DKIM,
    [DKIM.value, "k=rsa; p=Zz"],
    { kind: "record-differs", found: `${DKIM.value}, k=rsa; p=Zz` },
  ],
  ["what could forge a line", DKIM, ["a\nb"], { kind: "record-differs", found: "a b" }],
])("%s", (_, record, values, expected) => {
  expect(compare(record, values, "acme.example")).toEqual(expected);
});

test("a record is shown as its zone has it", () => {
  expect(lineOf(MX)).toBe("acme.example. IN MX 10 mail.acme.example.");
  expect(lineOf({ ...DKIM, value: `"${"x".repeat(300)}` })).toBe(
    `dkim._domainkey.acme.example. IN TXT "\\"${"x".repeat(254)}" "${"x".repeat(46)}"`,
  );
});
