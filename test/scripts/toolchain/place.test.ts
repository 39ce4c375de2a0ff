import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { place } from "../../../scripts/toolchain/place.ts";

let root: string;
let dir: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "recovery-place-"));
  dir = join(root, "pulumi-3.259.0");
});
afterEach(() => rmSync(root, { recursive: true }));

test("the directory has its name only once its content is complete", async () => {
  await place(dir, async (partial) => {
    writeFileSync(join(partial, "pulumi"), "half");
    expect(existsSync(dir)).toBe(false);
    writeFileSync(join(partial, "pulumi"), "whole");
  });
  expect(readFileSync(join(dir, "pulumi"), "utf8")).toBe("whole");
  expect(readdirSync(root)).toEqual(["pulumi-3.259.0"]);
});

test("nothing stays of an attempt that failed", async () => {
  const attempt = place(dir, async (partial) => {
    writeFileSync(join(partial, "pulumi"), "half");
    throw new Error("the compiler failed");
  });
  await expect(attempt).rejects.toThrow("the compiler failed");
  expect(readdirSync(root)).toEqual([]);
});

test("what a killed attempt has left is neither used nor kept", async () => {
  mkdirSync(`${dir}.partial/deep`, { recursive: true });
  writeFileSync(`${dir}.partial/deep/leftover`, "half");
  await place(dir, async (partial) => {
    expect(readdirSync(partial)).toEqual([]);
    writeFileSync(join(partial, "vault"), "whole");
  });
  expect(readdirSync(dir)).toEqual(["vault"]);
  expect(readdirSync(root)).toEqual(["pulumi-3.259.0"]);
});
