// What set-up finds missing on a machine, without installing anything.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { findBrowser, missingPackages } from "../../../scripts/toolchain/system.ts";

let bin: string;
beforeEach(() => {
  bin = mkdtempSync(join(tmpdir(), "recovery-system-"));
  vi.stubEnv("PATH", bin);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(bin, { recursive: true });
});

test("a browser is missing only for whoever asks for one", () => {
  expect(missingPackages({ browser: false })).not.toContain("chromium");
  expect(missingPackages({ browser: true })).toContain("chromium");
  expect(findBrowser()).toBeUndefined();
});

test.each(["chromium", "chromium-browser", "google-chrome"])("%s on PATH is good enough", (name) => {
  writeFileSync(join(bin, name), "#!/bin/sh\n", { mode: 0o755 });
  expect(findBrowser()).toBe(join(bin, name));
  expect(missingPackages({ browser: true })).not.toContain("chromium");
});
