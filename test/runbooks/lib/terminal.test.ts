// What a terminal that goes away does to what was to be shown on it.
import { PassThrough, Writable } from "node:stream";
import { expect, test } from "vitest";
import { Terminal } from "../../../runbooks/lib/terminal.ts";

/** A terminal whose window is closed: writing to it fails, as it does for Node on Linux. */
const closed = () =>
  new Writable({ write: (_chunk, _encoding, done) => done(new Error("write EIO")) }).on("error", () => {});

test("what a closed terminal didn't take doesn't count as shown", async () => {
  const io = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: closed(), env: {} };
  let shown = 0;
  const revealed = new Terminal(io).reveal(
    { text: "secret" },
    60,
    async () => void shown++,
    new AbortController().signal,
  );
  await expect(revealed).rejects.toMatchObject({ exitCode: 5, message: expect.stringContaining("not seen") });
  expect(shown).toBe(0);
});
