import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { redact, redactDeep, registerSecret } from "../../../runbooks/lib/redact.ts";

/** Text that a password generator or a PEM file could hold, and everything harder than that. */
const secret = fc.oneof(
  fc.string({ minLength: 8, maxLength: 40, size: "max", unit: "binary-ascii" }),
  fc.string({ minLength: 8, maxLength: 40, size: "max", unit: "grapheme" }),
  fc.base64String({ minLength: 12, maxLength: 60, size: "max" }),
);

describe("redaction", () => {
  it.each<[string, (value: string) => string]>([
    ["as it is", (value) => value],
    ["as base64", (value) => Buffer.from(value).toString("base64")],
    ["as base64url", (value) => Buffer.from(value).toString("base64url")],
    ["URI-encoded", (value) => encodeURIComponent(value.toWellFormed())],
    ["in a form", (value) => new URLSearchParams([["", value]]).toString().slice(1)],
    ["in JSON", (value) => JSON.stringify(value).slice(1, -1)],
    ["in JSON within JSON", (value) => JSON.stringify(JSON.stringify(value)).slice(3, -3)],
    ["in a shell's single quotes", (value) => value.replaceAll("'", "'\\''")],
  ])("hides a registered secret %s", (_, encode) => {
    fc.assert(
      fc.property(secret, fc.string(), fc.string(), (value, before, after) => {
        registerSecret(value);
        const form = encode(value);
        expect(redact(`${before}${form}${after}`)).not.toContain(form);
      }),
    );
  });

  it("hides a secret inside the base64 of something longer, such as a Basic header", () => {
    fc.assert(
      fc.property(
        fc.base64String({ minLength: 16, maxLength: 40, size: "max" }),
        fc.nat(9),
        fc.nat(9),
        (value, before, after) => {
          registerSecret(value);
          const whole = Buffer.from(`${"u".repeat(before)}${value}${"x".repeat(after)}`).toString("base64");
          // Each alignment loses at most the two characters that it shares with its neighbours on either side.
          const shown = redact(whole).split("[redacted]");
          const left = shown.map((part) => Buffer.from(part, "base64").toString("latin1"));
          expect(shown.length).toBeGreaterThan(1);
          expect(left.some((part) => part.includes(value.slice(3, -3)))).toBe(false);
        },
      ),
    );
  });

  it("hides each line of a private key, also where a log indents them", () => {
    const lines = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"];
    registerSecret(`-----BEGIN PRIVATE KEY-----\n${lines.join("\n")}\n-----END PRIVATE KEY-----\n`);
    const log = `-----BEGIN PRIVATE KEY-----\n${lines.map((line) => `  ${line}`).join("\n")}`;
    expect(redact(log)).toBe("-----BEGIN PRIVATE KEY-----\n  [redacted]\n  [redacted]");
  });

  it("leaves nothing of a longer secret that contains a shorter one", () => {
    registerSecret("hunter22");
    registerSecret("hunter22-and-the-rest");
    expect(redact("x hunter22-and-the-rest y")).toBe("x [redacted] y");
  });

  it("leaves nothing of two secrets that overlap", () => {
    registerSecret("swordfish-and");
    registerSecret("fish-and-chips");
    expect(redact("x swordfish-and-chips y")).toBe("x [redacted] y");
  });

  it("hides the encodings of a secret that is itself an encoding of another", () => {
    registerSecret("the first of two");
    const second = Buffer.from("the first of two").toString("base64");
    registerSecret(second);
    expect(redact(Buffer.from(second).toString("base64"))).toBe("[redacted]");
  });

  it("takes no longer for each text once the secrets of hundreds of tenants are known", () => {
    for (let count = 0; count < 2_000; count++) registerSecret(randomBytes(48).toString("base64"));
    const { user } = process.cpuUsage();
    for (let count = 0; count < 1_000; count++)
      redact("the reset of a tenant, as an audit event tells of it");
    expect((process.cpuUsage().user - user) / 1e6).toBeLessThan(1);
  });

  it("ignores values too short to be told from ordinary text", () => {
    registerSecret("acme");
    registerSecret("");
    expect(redact("the tenant acme")).toBe("the tenant acme");
  });

  it("reaches keys and values at any depth, and leaves other types as they are", () => {
    registerSecret("s3cr3t-value");
    expect(redactDeep({ a: [{ "k s3cr3t-value": "v s3cr3t-value" }], n: 1, t: true, z: null })).toEqual({
      a: [{ "k [redacted]": "v [redacted]" }],
      n: 1,
      t: true,
      z: null,
    });
  });
});
