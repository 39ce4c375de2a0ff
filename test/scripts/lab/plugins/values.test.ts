import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { changes, type Resource } from "../../../../scripts/lab/plugins/protocol/resource.ts";
import {
  asSecret,
  equal,
  hasSecret,
  hasUnknown,
  plain,
  UNKNOWN,
} from "../../../../scripts/lab/plugins/protocol/values.ts";

const resource: Resource = {
  replaceOn: ["name"],
  json: ["policy"],
  sets: ["tags"],
  create: async () => ({ id: "x" }),
  update: async () => undefined,
};
const changed = (before: object, after: object) =>
  Object.fromEntries(changes(resource, { ...before }, { ...after }));

describe("values of the provider protocol", () => {
  it("come out as they went in, whatever part of them is secret", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const wrapped = { list: [asSecret(value)], map: { inner: asSecret({ deeper: asSecret(value) }) } };
        expect(hasSecret(wrapped)).toBe(true);
        expect(equal(plain(wrapped), { list: [value], map: { inner: { deeper: value } } })).toBe(true);
      }),
    );
  });

  it("are known to be unknown at any depth", () => {
    expect(hasUnknown({ list: [asSecret({ part: UNKNOWN })] })).toBe(true);
    expect(hasUnknown({ list: ["part"] })).toBe(false);
  });
});

describe("what changed in a resource", () => {
  it("is nothing where only spelling differs", () => {
    expect(changed({ policy: '{"a": 1, "b": [2]}' }, { policy: '{"b":[2],"a":1}' })).toEqual({});
    expect(changed({ tags: ["a", "b"] }, { tags: ["b", "a"] })).toEqual({});
    expect(changed({ other: { a: 1, b: 2 }, none: [] }, { other: { b: 2, a: 1 } })).toEqual({});
  });

  it("names each input, and whether it replaces", () => {
    expect(changed({ name: "a", other: 1, gone: true }, { name: "b", other: 2, new: 3 })).toEqual({
      name: { replace: true },
      other: { replace: false },
      gone: { replace: false },
      new: { replace: false },
    });
    expect(changed({ list: [1, 2] }, { list: [2, 1] })).toEqual({ list: { replace: false } });
  });

  it("includes what isn't known yet", () => {
    expect(changed({ name: "a" }, { name: UNKNOWN })).toEqual({ name: { replace: true } });
  });
});
