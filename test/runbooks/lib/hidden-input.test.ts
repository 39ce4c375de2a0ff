import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { readHidden } from "../../../runbooks/lib/hidden-input.ts";
import { redact } from "../../../runbooks/lib/redact.ts";

function terminal() {
  const stdin = Object.assign(new PassThrough(), { isTTY: true, raw: [] as boolean[], setRawMode });
  const stderr = new PassThrough();
  let shown = "";
  stderr.on("data", (chunk) => (shown += chunk));
  function setRawMode(raw: boolean) {
    stdin.raw.push(raw);
  }
  return { stdin, stderr, shown: () => shown };
}

const PEM = `-----BEGIN PRIVATE KEY-----\n${"QUJD".repeat(16)}\n-----END PRIVATE KEY-----`;

test("what is typed is not shown, and is a secret from then on", async () => {
  const io = terminal();
  const answer = readHidden(io, { question: "The passphrase" });
  for (const key of "hunter222x\u007f\r") io.stdin.write(key);
  expect(await answer).toBe("hunter222");
  expect(io.shown()).toBe("The passphrase (it isn't shown): \n");
  expect(redact("it is hunter222")).toBe("it is [redacted]");
  expect(io.stdin.raw).toEqual([true, false]);
});

test("what is pasted may have several lines, and ends where it is complete", async () => {
  const io = terminal();
  const answer = readHidden(io, {
    question: "The key",
    isComplete: (text) => text.includes("-----END PRIVATE KEY-----"),
  });
  io.stdin.write(PEM.replaceAll("\n", "\r"));
  io.stdin.write("\r");
  expect(await answer).toBe(PEM);
});

test("the terminal isn't let go between two lines, nor before the question: it would show what is typed then", async () => {
  const io = terminal();
  const rawAt: boolean[] = [];
  io.stderr.on("data", () => rawAt.push(io.stdin.raw.at(-1) === true));
  const answer = readHidden(io, {
    question: "The first",
    isComplete: (text) => text.split("\n").length > 2,
    more: () => "\nThe second: ",
  });
  io.stdin.write("one-secret\r");
  io.stdin.write("\r");
  io.stdin.write("another-one\r");
  expect(await answer).toBe("one-secret\n\nanother-one");
  expect(io.shown()).toBe("The first (it isn't shown): \nThe second: \n");
  expect(io.stdin.raw).toEqual([true, false]);
  expect(rawAt).toEqual([true, true, false]);
});

test("Ctrl-C ends it, and so does the end of the input without a word", async () => {
  const io = terminal();
  const answer = readHidden(io, { question: "The key" });
  io.stdin.write("abc\u0003");
  await expect(answer).rejects.toThrow("ended at a question");
  expect(io.stdin.raw).toEqual([true, false]);
  const other = terminal();
  other.stdin.end();
  await expect(readHidden(other, { question: "The key" })).rejects.toThrow("nothing was given");
});

test("where nobody is at a terminal, standard input is read to its end", async () => {
  const stdin = new PassThrough();
  const answer = readHidden({ stdin, stderr: new PassThrough() }, { question: "The key" });
  stdin.write(PEM.slice(0, 30));
  stdin.end(`${PEM.slice(30)}\n`);
  expect(await answer).toBe(PEM);
});
