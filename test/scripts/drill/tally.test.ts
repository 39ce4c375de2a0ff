import { expect, test } from "vitest";
import { type Submitted, tally } from "../../../scripts/drill/tally.ts";

const mail = (number: number, client: "new" | "kept", began: number, accepted?: number): Submitted => ({
  number,
  client,
  began,
  ...(accepted === undefined ? {} : { accepted }),
});

/** Two clients, four messages; `kept` waits from 200 to 1700. */
const four = [
  mail(1, "new", 0, 100),
  mail(2, "kept", 0, 200),
  mail(3, "new", 100, 300),
  mail(4, "kept", 220, 1700),
];

test.each<[string, Submitted[], number[], Partial<ReturnType<typeof tally>>]>([
  ["all there", four, [4, 1, 3, 2], { submitted: 4, lost: 0, repeated: 0, lostSeconds: 0, longestGap: 1.5 }],
  ["one is missing", four, [1, 2, 4], { lost: 1, repeated: 0, lostSeconds: 0.2 }],
  ["the first and the last are missing", four, [2, 3], { lost: 2, lostSeconds: 1.7 }],
  ["all are missing", four, [], { submitted: 4, lost: 4 }],
  ["one is there twice and one three times", four, [1, 1, 2, 3, 3, 3, 4], { lost: 0, repeated: 2 }],
  ["a copy doesn't stand for another message", four, [1, 1, 2, 4], { lost: 1, repeated: 1 }],
  [
    "one was never taken: lost until the end, and a gap until the end",
    [...four, mail(5, "new", 400)],
    [1, 2, 3, 4],
    { submitted: 5, lost: 1, lostSeconds: 9.6, longestGap: 9.7 },
  ],
  [
    "one that was never acknowledged and is there all the same isn't lost",
    [...four, mail(5, "new", 400)],
    [1, 2, 3, 4, 5],
    { lost: 0, lostSeconds: 0 },
  ],
  ["the first message had to wait", [mail(1, "new", 0, 3000)], [1], { longestGap: 3 }],
  ["nothing was submitted", [], [], { submitted: 0, lost: 0, repeated: 0, lostSeconds: 0, longestGap: 0 }],
])("counts: %s", (_, submitted, mailbox, expected) => {
  expect(tally(submitted, mailbox, 10_000)).toMatchObject(expected);
});
