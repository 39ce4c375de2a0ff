// How often an open page asks Vault: seen with a clock that the test turns.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { READS_PER_SECOND, Rolling } from "../../../runbooks/console/pages/rolling.ts";

let reads: { key: string; at: number }[];
beforeEach(() => {
  reads = [];
  vi.useFakeTimers();
});
afterEach(() => vi.useRealTimers());

const ROWS = Array.from({ length: 25 }, (_, index) => `tenant-${index}`);

function rolling(cost = 3): Rolling<string, number> {
  return new Rolling<string, number>({
    read: async (key, before = 0) => {
      reads.push({ key, at: performance.now() });
      return { value: before + 1, reads: cost };
    },
  });
}
const pass = (seconds: number) => vi.advanceTimersByTimeAsync(seconds * 1000);

test("a page is filled at once, and then costs no more than so many reads a second", async () => {
  const shown = rolling();
  const stop = shown.watch(ROWS, () => {});
  await pass(0.001);
  expect(reads.map(({ key }) => key).sort()).toEqual([...ROWS].sort());
  await pass(60);
  expect((reads.length - ROWS.length) * 3).toBeLessThanOrEqual(60 * READS_PER_SECOND + 3);
  expect((reads.length - ROWS.length) * 3).toBeGreaterThan(50 * READS_PER_SECOND);
  stop();
});

test("every row has its turn: none is older than a whole round", async () => {
  const shown = rolling();
  const stop = shown.watch(ROWS, () => {});
  await pass(90);
  const round = (ROWS.length * 3) / READS_PER_SECOND;
  for (const row of ROWS)
    expect(performance.now() - (shown.known(row)?.at ?? 0)).toBeLessThan((round + 2) * 1000);
  stop();
});

test("nothing is read once nobody looks, and another look goes on", async () => {
  const shown = rolling();
  shown.watch(ROWS, () => {})();
  await pass(60);
  const before = reads.length;
  await pass(600);
  expect(reads.length).toBe(before);
  const stop = shown.watch(ROWS.slice(0, 2), () => {});
  await pass(0.001);
  expect(reads.slice(before).map(({ key }) => key)).toEqual(ROWS.slice(0, 2));
  stop();
});

test("two pages that show the same share the reads; each is told what it shows", async () => {
  const shown = rolling();
  const told: [string[], string[]] = [[], []];
  const stops = [
    shown.watch(ROWS.slice(0, 10), (key) => told[0].push(key)),
    shown.watch(ROWS.slice(5, 15), (key) => told[1].push(key)),
  ];
  await pass(61);
  expect((reads.length - 15) * 3).toBeLessThanOrEqual(61 * READS_PER_SECOND + 3);
  expect(new Set(told[0])).toEqual(new Set(ROWS.slice(0, 10)));
  expect(new Set(told[1])).toEqual(new Set(ROWS.slice(5, 15)));
  for (const stop of stops) stop();
});

test("what was forgotten is read before its turn", async () => {
  const shown = rolling();
  const stop = shown.watch(ROWS, () => {});
  await pass(1);
  const [newest = ""] = reads.toReversed().map(({ key }) => key);
  shown.forget(newest);
  const before = reads.length;
  await pass(0.001);
  expect(reads.slice(before).map(({ key }) => key)).toContain(newest);
  expect(shown.known(newest)?.value).toBe(1);
  stop();
});

test("a value that is only a part is read again at once, after all that is still missing", async () => {
  const shown = new Rolling<string, number>({
    read: async (key, before = 0) => {
      reads.push({ key, at: performance.now() });
      return { value: before + 1, reads: 2 };
    },
    whole: (value) => value > 1,
  });
  const stop = shown.watch(ROWS, () => {});
  await pass(0.001);
  expect(reads.map(({ key }) => key)).toEqual([...ROWS, ...ROWS]);
  stop();
});

test("what was read by itself, or forgotten, while a read was under way isn't undone by that one's answer", async () => {
  let answer = (_: { value: string; reads: number }) => {};
  let asked = 0;
  const shown = new Rolling<string, string>({
    read: () => {
      asked += 1;
      return new Promise((resolve) => {
        answer = resolve;
      });
    },
  });
  const stop = shown.watch(["a"], () => {});
  shown.put("a", "newer");
  answer({ value: "older", reads: 1 });
  await pass(0);
  expect(shown.known("a")?.value).toBe("newer");
  await pass(1);
  expect(asked).toBe(2);
  shown.forget("a");
  answer({ value: "from before", reads: 1 });
  await pass(1);
  expect(shown.known("a")).toBeUndefined();
  expect(asked).toBe(3);
  stop();
});
