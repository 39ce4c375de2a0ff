// A log read in pieces is the log: whatever the lengths of its lines are, and wherever the reading begins.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, expect, it } from "vitest";
import { splitLines } from "../../../runbooks/lib/audit-chain.ts";
import { countLines, lastLine, wholeLines } from "../../../runbooks/lib/log-lines.ts";

const folder = mkdtempSync(join(tmpdir(), "lines-"));
afterAll(() => rmSync(folder, { recursive: true }));
const file = join(folder, "log");

function readAll(from = 0) {
  const pieces: Buffer[] = [];
  const reading = wholeLines(file, from);
  for (let next = reading.next(); ; next = reading.next()) {
    if (next.done === true) return { pieces, rest: next.value };
    pieces.push(Buffer.from(next.value));
  }
}

// Around the size of a piece, and several pieces long.
const length = fc.oneof(fc.nat(300), fc.integer({ min: 65_530, max: 65_542 }), fc.constant(200_000));

it("yields every whole line and returns what is left of one", () => {
  fc.assert(
    fc.property(fc.array(length, { maxLength: 6 }), length, (lengths, left) => {
      const text = lengths.map((size, at) => `${String.fromCharCode(97 + at).repeat(size)}\n`).join("");
      writeFileSync(file, text + "z".repeat(left));
      const { pieces, rest } = readAll();
      expect(Buffer.concat(pieces).toString() === text).toBe(true);
      expect(rest.toString() === "z".repeat(left)).toBe(true);
      for (const piece of pieces) expect(splitLines(piece).rest).toHaveLength(0);
      expect(pieces.reduce((sum, piece) => sum + countLines(piece), 0)).toBe(lengths.length);
      const last = pieces.at(-1);
      if (last !== undefined) expect(lastLine(last).equals(splitLines(last).lines.at(-1) ?? last)).toBe(true);
    }),
    { numRuns: 60 },
  );
});

it("begins where it is told to", () => {
  writeFileSync(file, "one\ntwo\nthree\nfo");
  expect(Buffer.concat(readAll(4).pieces).toString()).toBe("two\nthree\n");
  expect(readAll(4).rest.toString()).toBe("fo");
});

it("has no lines where there is no file", () => {
  rmSync(file);
  expect(readAll()).toEqual({ pieces: [], rest: Buffer.alloc(0) });
});
