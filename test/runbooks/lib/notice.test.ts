import { describe, expect, it } from "vitest";
import { contactAddresses, Notice, parseNotice } from "../../../runbooks/lib/notice.ts";
import type { Server } from "../../../runbooks/lib/records.ts";
import { newNotice } from "./fixtures/told.ts";

const server = (contact_email: string, second_contact_email?: unknown): Server => ({
  vps_ip: "192.0.2.1",
  api_url: "https://192.0.2.1/api/v1",
  smtp_host: "192.0.2.1",
  smtp_port: 465,
  imap_host: "192.0.2.1",
  imap_port: 993,
  domain: "acme.example",
  contact_email,
  host_key: "ssh-ed25519 AAAA",
  ...(second_contact_email === undefined ? {} : { second_contact_email }),
});

describe("whom to tell at a tenant", () => {
  it.each<[string, Server, string[]]>([
    ["an address elsewhere", server("it@people.example"), ["it@people.example"]],
    [
      "an address in its own domain and a second one elsewhere",
      server("it@acme.example", "boss@people.example"),
      ["it@acme.example", "boss@people.example"],
    ],
    ["a domain that only looks like its own", server("it@notacme.example"), ["it@notacme.example"]],
    ["the same address twice", server("it@people.example", "it@people.example"), ["it@people.example"]],
  ])("is %s, without a warning", (_, record, to) => {
    expect(contactAddresses(record)).toEqual({ to, copy_to_security: false });
  });

  it.each<[string, Server, string[]]>([
    ["only an address in its own domain", server("it@ACME.example"), ["it@ACME.example"]],
    ["one below its own domain", server("it@mail.acme.example"), ["it@mail.acme.example"]],
    [
      "a second one in its own domain too",
      server("it@acme.example", "boss@acme.example"),
      ["it@acme.example", "boss@acme.example"],
    ],
    ["a second one that is no address", server("it@acme.example", "boss"), ["it@acme.example"]],
    ["a second one that is no text", server("it@acme.example", 5), ["it@acme.example"]],
  ])("warns of %s, and tells the security team as well", (_, record, to) => {
    expect(contactAddresses(record)).toEqual({
      to,
      copy_to_security: true,
      warning: expect.stringContaining("second_contact_email"),
    });
  });

  it("goes into a notice as it is", () => {
    const { warning: _, ...contacts } = contactAddresses(server("it@acme.example"));
    expect(
      Notice.parse({ ...newNotice({ audience: "tenant", ...contacts }), created: "2026-01-31T00:00:00Z" }),
    ).toMatchObject({ to: ["it@acme.example"], copy_to_security: true, delivered: [] });
  });
});

describe("a notice", () => {
  const parse = (change: Record<string, unknown>) =>
    Notice.safeParse({ ...newNotice(), created: "2026-01-31T00:00:00Z", ...change });

  it("keeps a subject on one line and takes what steers a terminal or a reader out of its texts", () => {
    const { data } = parse({
      subject: "reset\r\nBcc: mallory@evil.example\u2028now\u202e",
      text: "one\r\ntwo\rthree\n\tfour\u001b[2J\u0000\u2066five",
      incident_id: "INC-1\nX: y",
    });
    expect(data?.subject).toBe("reset Bcc: mallory@evil.example now");
    expect(data?.text).toBe("one\ntwo\nthree\n\tfour [2J  five");
    expect(data?.incident_id).toBe("INC-1 X: y");
  });

  it.each<[string, Record<string, unknown>]>([
    ["an id that leaves the folder", { event_id: "../../etc/passwd" }],
    ["an id with a line break", { event_id: "a\nb" }],
    ["an empty id", { event_id: "" }],
    ["a recipient with a header in it", { audience: "tenant", to: ["a@b.example\r\nBcc: c@d.example"] }],
    ["several recipients in one", { audience: "tenant", to: ["a@b.example, c@d.example"] }],
    ["nobody to tell at the tenant", { audience: "tenant", to: [] }],
    ["a time that is none", { created: "yesterday" }],
    ["a name that isn't one", { name: "reset\n" }],
  ])("isn't one with %s", (_, change) => {
    expect(parse(change).success).toBe(false);
  });

  it("is read back as it was, and what is none is undefined", () => {
    const { data } = parse({ delivered: ["mail:a@b.example"] });
    expect(parseNotice(JSON.stringify(data))).toEqual(data);
    for (const body of ["", "{", "null", "[]", '{"event_id":"x"}']) expect(parseNotice(body)).toBeUndefined();
  });
});
