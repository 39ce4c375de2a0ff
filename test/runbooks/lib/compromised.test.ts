import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isMarked, type Mark, markPatch } from "../../../runbooks/lib/compromised.ts";

const AT = new Date("2026-03-01T10:20:30.000Z");
const mark = (versions: number[], change: Partial<Mark> = {}): Mark => ({
  incident: "INC-7",
  by: "ada",
  at: AT,
  versions,
  ...change,
});

describe("a mark", () => {
  it("says which versions, by which incident, who and when", () => {
    expect(markPatch({}, mark([4]), 0)).toEqual({
      compromised: "true",
      incident_id: "INC-7",
      reset_by: "ada",
      reset_at: "2026-03-01T10:20:30.000Z",
      compromised_versions: "4",
    });
  });

  it.each([
    { there: "3", marked: [5], list: "3,5" },
    { there: "10,9", marked: [2], list: "2,9,10" },
    { there: "3,5", marked: [5, 3, 3], list: "3,5" },
    { there: " 3 , 5 ", marked: [4], list: "3,4,5" },
    { there: "three,,0,-1,1e3,5", marked: [6], list: "5,6" },
    { there: "", marked: [1], list: "1" },
  ])("adds $marked to '$there': '$list', sorted, each once", ({ there, marked, list }) => {
    const patch = markPatch({ compromised: "true", compromised_versions: there }, mark(marked), 0);
    expect(patch.compromised_versions).toBe(list);
  });

  it("doesn't touch other people's keys", () => {
    const patch = markPatch({ owner: "it-department", ticket: "77" }, mark([1]), 0);
    expect(Object.keys(patch).sort()).toEqual([
      "compromised",
      "compromised_versions",
      "incident_id",
      "reset_at",
      "reset_by",
    ]);
  });

  it("that is there already is not written again, so that its first time stays", () => {
    const first = markPatch({}, mark([3, 4]), 0);
    const later = mark([4], { at: new Date("2027-01-01T00:00:00Z"), by: "somebody else" });
    expect(markPatch(first, later, 0)).toEqual({});
  });

  it.each([
    { what: "another incident", by: mark([4], { incident: "INC-8" }), change: {} },
    { what: "another version", by: mark([5]), change: {} },
    { what: "the same after somebody took the mark back", by: mark([4]), change: { compromised: "false" } },
    { what: "the same after somebody removed the list", by: mark([4]), change: { compromised_versions: "" } },
  ])("of $what is written", ({ by, change }) => {
    expect(markPatch({ ...markPatch({}, mark([4]), 0), ...change }, by, 0)).toMatchObject({
      compromised: "true",
      incident_id: by.incident,
    });
  });

  it.each([
    { oldest: 4, marked: [7], list: "4,5,7" },
    { oldest: 6, marked: [7], list: "7" },
    { oldest: 6, marked: [2, 7], list: "2,7" },
  ])("forgets versions that Vault no longer keeps, before $oldest", ({ oldest, marked, list }) => {
    const there = { compromised: "true", compromised_versions: "1,3,4,5" };
    expect(markPatch(there, mark(marked), oldest).compromised_versions).toBe(list);
  });

  it("that gets too long drops the oldest, never what it is about", () => {
    const many = Array.from({ length: 200 }, (_, index) => 1000 + index);
    const there = { compromised: "true", compromised_versions: many.join(",") };
    const list = markPatch(there, mark([7]), 0).compromised_versions ?? "";
    expect(list).toBe(["7", ...many.slice(-102)].join(","));
    expect(Buffer.byteLength(list)).toBe(511);
  });

  it("always fits into Vault's metadata, whatever is there and whoever writes", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 10 ** 14 }), { maxLength: 300, size: "max" }),
        fc.array(fc.integer({ min: 1, max: 10 ** 9 }), { minLength: 1, maxLength: 5 }),
        fc.string({ unit: "binary", maxLength: 1000, size: "max" }),
        fc.integer({ min: 0, max: 10 ** 9 }),
        (known, versions, by, oldest) => {
          const there = { compromised: "true", compromised_versions: known.join(",") };
          const made = mark(versions, { by });
          const patch = markPatch(there, made, oldest);
          for (const value of Object.values(patch)) expect(value).toMatch(/^[\x20-\x7e]{1,512}$/);
          const after = { ...there, ...patch };
          for (const version of versions) expect(isMarked(after, version)).toBe(true);
          expect(markPatch(after, made, oldest)).toEqual({});
        },
      ),
    );
  });

  it.each([
    { by: "ådä\n\u202e", shown: "?d???" },
    { by: "", shown: "unknown" },
    { by: "  ", shown: "unknown" },
    { by: "x".repeat(600), shown: "x".repeat(512) },
  ])("by '$by' is shown in what Vault can print", ({ by, shown }) => {
    expect(markPatch({}, mark([1], { by }), 0).reset_by).toBe(shown);
  });
});

describe("a version", () => {
  it.each([
    { metadata: {}, version: 3, marked: false },
    { metadata: { compromised: "true", compromised_versions: "3,5" }, version: 3, marked: true },
    { metadata: { compromised: "true", compromised_versions: "3,5" }, version: 4, marked: false },
    { metadata: { compromised: "true", compromised_versions: "35" }, version: 3, marked: false },
    { metadata: { compromised: "true", compromised_versions: " 5, 3" }, version: 3, marked: true },
    { metadata: { compromised: "true", compromised_versions: "" }, version: 3, marked: false },
    { metadata: { compromised: "true" }, version: 3, marked: true },
    { metadata: { compromised: "false" }, version: 3, marked: false },
    { metadata: { compromised: "false", compromised_versions: "3" }, version: 3, marked: false },
    { metadata: { compromised_versions: "3" }, version: 3, marked: false },
  ])("$version under $metadata: marked is $marked", ({ metadata, version, marked }) => {
    expect(isMarked(metadata, version)).toBe(marked);
  });
});
