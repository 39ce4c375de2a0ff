// What became of the mail that was submitted while something happened to the server. Pure.

/** A message that a client wanted to be rid of; times by `performance.now()`. */
export interface Submitted {
  number: number;
  /** `new`: it opens a connection for each message. `kept`: it keeps one. */
  client: "new" | "kept";
  began: number;
  /** When the server took it; undefined: it never did. */
  accepted?: number;
}

export interface Tally {
  submitted: number;
  /** Messages that are in no mailbox. */
  lost: number;
  /** Messages that are there more than once: the client was cut off before it heard that one was taken. */
  repeated: number;
  /** Seconds that the worse of the two clients waited at most from one accepted message to the next. */
  longestGap: number;
  /** Seconds of mail that are gone: from the first lost message to the last. 0 where none is lost. */
  lostSeconds: number;
}

/** @param mailbox the numbers of the messages that were found in the mailbox; @param stopped when the clients ended. */
export function tally(submitted: readonly Submitted[], mailbox: readonly number[], stopped: number): Tally {
  const found = Map.groupBy(mailbox, (number) => number);
  const lost = submitted.filter(({ number }) => !found.has(number));
  const from = Math.min(...lost.map(({ began }) => began));
  const to = Math.max(...lost.map(({ accepted }) => accepted ?? stopped));
  return {
    submitted: submitted.length,
    lost: lost.length,
    repeated: [...found.values()].filter((copies) => copies.length > 1).length,
    longestGap:
      Math.max(...(["new", "kept"] as const).map((client) => gap(submitted, client, stopped))) / 1000,
    lostSeconds: lost.length === 0 ? 0 : (to - from) / 1000,
  };
}

function gap(submitted: readonly Submitted[], client: Submitted["client"], stopped: number): number {
  const own = submitted.filter((one) => one.client === client);
  const times = own.flatMap(({ accepted }) => accepted ?? []);
  const givenUp = own.some(({ accepted }) => accepted === undefined);
  const marks = givenUp ? [...times, stopped] : times;
  return Math.max(0, ...marks.map((time, index) => time - (marks[index - 1] ?? own[0]?.began ?? time)));
}
