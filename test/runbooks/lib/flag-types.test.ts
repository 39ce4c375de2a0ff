import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { domainFlag, incidentFlag, sentenceFlag, tenantFlag } from "../../../runbooks/lib/flag-types.ts";

const accepts = (flag: { safeParse(text: unknown): { success: boolean } }, text: unknown): boolean =>
  flag.safeParse(text).success;
const of = (characters: string) => fc.constantFrom(...characters);

const LETTERS = "abcdefghijklmnopqrstuvwxyz";
const DIGITS = "0123456789";
const ASCII = Array.from({ length: 0x80 }, (_, code) => String.fromCodePoint(code));
const ALNUM = LETTERS + LETTERS.toUpperCase() + DIGITS;

describe("a tenant's id", () => {
  it("is 2 to 31 letters and digits with single hyphens between them", () => {
    const word = fc.string({ unit: of(LETTERS + DIGITS), minLength: 1, maxLength: 8 });
    const id = fc
      .tuple(of(LETTERS), fc.array(word, { minLength: 1, maxLength: 4 }))
      .map(([first, words]) => first + words.join("-"))
      .filter((text) => text.length <= 31 && !["canary", "platform", "all"].includes(text));
    fc.assert(fc.property(id, (text) => tenantFlag.parse(text) === text));
  });

  it("is nothing that leads elsewhere in a path, a shell or a list", () => {
    const rest = fc.string({ unit: of(LETTERS), minLength: 1, maxLength: 9 });
    const foreign = fc
      .string({ unit: "grapheme", minLength: 1, maxLength: 3 })
      .filter((text) => !/^[a-z0-9-]+$/.test(text));
    fc.assert(
      fc.property(rest, foreign, rest, (before, bad, after) => !accepts(tenantFlag, before + bad + after)),
    );
    for (const character of ASCII.filter((one) => !/[a-z0-9-]/.test(one)))
      expect(accepts(tenantFlag, `a${character}b`), JSON.stringify(character)).toBe(false);
    for (const text of ["", "a", "../x", "-a", "a-", "a--b", "1a", "Acme", "a/b", "a\n", "a".repeat(32)])
      expect(accepts(tenantFlag, text), text).toBe(false);
    for (const text of ["canary", "platform", "all"]) expect(accepts(tenantFlag, text), text).toBe(false);
  });
});

describe("an incident's id", () => {
  const middle = fc.string({ unit: of(`${ALNUM}._:#-`), maxLength: 62, size: "max" });
  const edge = of(ALNUM);

  it("is up to 64 letters, digits and . _ : # - with a letter or digit at both ends", () => {
    const id = fc.oneof(
      edge,
      fc.tuple(edge, middle, edge).map((parts) => parts.join("")),
    );
    fc.assert(fc.property(id, (text) => incidentFlag.parse(text) === text));
  });

  it("is nothing else: no other character, no other edge, not a character more", () => {
    const foreign = fc
      .oneof(
        fc.constantFrom(...ASCII),
        fc.integer({ min: 0x80, max: 0xd7ff }).map((code) => String.fromCodePoint(code)),
      )
      .filter((text) => !/[A-Za-z0-9._:#-]/.test(text));
    for (const character of ASCII.filter((one) => !/[A-Za-z0-9._:#-]/.test(one)))
      expect(accepts(incidentFlag, `a${character}b`), JSON.stringify(character)).toBe(false);
    fc.assert(fc.property(edge, foreign, edge, (a, bad, b) => !accepts(incidentFlag, a + bad + b)));
    fc.assert(
      fc.property(of("._:#-"), middle, edge, (bad, text, end) => !accepts(incidentFlag, bad + text + end)),
    );
    fc.assert(
      fc.property(
        edge,
        middle,
        of("._:#-"),
        (first, text, bad) => !accepts(incidentFlag, first + text + bad),
      ),
    );
    const length = fc.integer({ min: 65, max: 5_000 });
    fc.assert(fc.property(edge, length, (text, times) => !accepts(incidentFlag, text.repeat(times))));
  });

  it("is at most 64 bytes of ASCII, so that it fits wherever it is written", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 80, size: "max" }), (text) => {
        if (accepts(incidentFlag, text)) expect(text).toMatch(/^[\x21-\x7e]{1,64}$/);
      }),
    );
  });
});

describe("a sentence", () => {
  /** Whole characters, so that a count of them means something. */
  const plain = fc.string({
    unit: of(`${ALNUM} .,;:!?'"$\`\\/äß€日本`),
    minLength: 1,
    maxLength: 500,
    size: "max",
  });

  it("is any text of one line, without the blanks around it", () => {
    const given = plain.filter((text) => text.trim() !== "");
    fc.assert(fc.property(given, (text) => sentenceFlag.parse(`  ${text} `) === text.trim()));
  });

  it("is never empty", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: of(" \t\n\u00a0"), maxLength: 20 }),
        (text) => !accepts(sentenceFlag, text),
      ),
    );
  });

  it("has at most 500 characters", () => {
    const sized = (length: number) => "x".repeat(length);
    expect(accepts(sentenceFlag, sized(500))).toBe(true);
    fc.assert(
      fc.property(fc.integer({ min: 501, max: 5_000 }), (length) => !accepts(sentenceFlag, sized(length))),
    );
  });

  it("holds nothing that could forge a line or turn a text around", () => {
    const codes = [
      ...Array.from({ length: 0x20 }, (_, code) => code),
      ...Array.from({ length: 0x21 }, (_, at) => 0x7f + at),
      ...[0x2028, 0x2029, 0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2066, 0x2067, 0x2068, 0x2069],
    ];
    for (const code of codes)
      expect(accepts(sentenceFlag, `a${String.fromCodePoint(code)}b`), `U+${code.toString(16)}`).toBe(false);
    const bad = fc.constantFrom(...codes.map((code) => String.fromCodePoint(code)));
    const beside = fc.string({ unit: of(ALNUM), minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(beside, bad, beside, (a, character, b) => !accepts(sentenceFlag, a + character + b)),
    );
  });
});

describe("all of them", () => {
  it("take text alone, and none throws anything but a refusal", () => {
    const flags = [tenantFlag, incidentFlag, sentenceFlag, domainFlag];
    fc.assert(
      fc.property(fc.anything(), (value) => {
        for (const flag of flags) if (typeof value !== "string") expect(accepts(flag, value)).toBe(false);
      }),
    );
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        for (const flag of flags) expect(typeof accepts(flag, text)).toBe("boolean");
      }),
    );
  });

  it("come out as they went in, so that what was checked is what is used", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        for (const flag of [tenantFlag, incidentFlag, domainFlag]) {
          const parsed = flag.safeParse(text);
          if (parsed.success) expect(parsed.data).toBe(text);
        }
      }),
    );
  });
});
