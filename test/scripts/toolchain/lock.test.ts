import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { withLock } from "../../../scripts/toolchain/lock.mjs";

const MODULE = JSON.stringify(new URL("../../../scripts/toolchain/lock.mjs", import.meta.url).href);

let dir: string;
let lock: string;
const children: ChildProcess[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "recovery-lock-"));
  lock = join(dir, "made", "by", "need", "lock");
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  rmSync(dir, { recursive: true });
});

/** A process that takes the lock and, holding it, runs `body` (which knows `descriptor`, fs and spawn). */
function taker(body: string): ChildProcess {
  const script = `
    import * as fs from "node:fs";
    import { spawn } from "node:child_process";
    import { withLock } from ${MODULE};
    await withLock(${JSON.stringify(lock)}, (who) => console.log("waits for " + who), async (descriptor) => { ${body} });`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  return child;
}

async function holding(body = ""): Promise<ChildProcess> {
  const child = taker(`${body}; console.log("holds"); await new Promise((r) => setTimeout(r, 60_000));`);
  for await (const chunk of child.stdout ?? []) if (String(chunk).includes("holds")) return child;
  throw new Error("the lock's holder has ended");
}

test("two at once work one after the other", async () => {
  const log = join(dir, "log");
  const body = `
    fs.appendFileSync(${JSON.stringify(log)}, "in ");
    await new Promise((r) => setTimeout(r, 300));
    fs.appendFileSync(${JSON.stringify(log)}, "out ");`;
  const codes = [taker(body), taker(body), taker(body)].map(async (child) => (await once(child, "exit"))[0]);
  expect(await Promise.all(codes)).toEqual([0, 0, 0]);
  expect(readFileSync(log, "utf8")).toBe("in out in out in out ");
});

test("who waits is told for whom, and goes on when the other has finished", async () => {
  const holder = taker(`console.log("holds"); await new Promise((r) => setTimeout(r, 500));`);
  await once(holder.stdout ?? holder, "data");
  const waitedFor: string[] = [];
  expect(
    await withLock(
      lock,
      (who) => waitedFor.push(who),
      () => "done",
    ),
  ).toBe("done");
  expect(waitedFor).toEqual([`another set-up (process ${holder.pid})`]);
});

test("a holder that was killed hard is no obstacle", async () => {
  const holder = await holding();
  holder.kill("SIGKILL");
  await once(holder, "exit");
  const waitedFor: string[] = [];
  await withLock(
    lock,
    (who) => waitedFor.push(who),
    () => {},
  );
  expect(waitedFor).toEqual([]);
});

test("what a killed holder has left running with the lock is waited for", async () => {
  const alive = join(dir, "alive");
  const holder = await holding(
    `spawn("sh", ["-c", "sleep 1; touch ${alive}"], { stdio: ["ignore", "ignore", "ignore", descriptor], detached: true })`,
  );
  holder.kill("SIGKILL");
  await once(holder, "exit");
  const waitedFor: string[] = [];
  await withLock(
    lock,
    (who) => waitedFor.push(who),
    () => expect(existsSync(alive)).toBe(true),
  );
  expect(waitedFor).toEqual([`what another set-up (process ${holder.pid}, ended) has left running`]);
});

test("the lock is free again after work that failed", async () => {
  const work = () => {
    throw new Error("failed");
  };
  await expect(withLock(lock, () => {}, work)).rejects.toThrow("failed");
  expect(
    await withLock(
      lock,
      () => expect.unreachable(),
      () => "free",
    ),
  ).toBe("free");
});
