// Two kinds of tests. `unit` needs no lab and runs in parallel; `lab` shares one running lab, made by its
// global set-up, and runs file by file, so that one file's killed host is never another's surprise.
import { existsSync } from "node:fs";
import { defineConfig } from "vitest/config";

const LAB_TESTS = "test/lab/**/*.test.ts";
const LAB_SETUP = "test/lab/setup.ts";

export default defineConfig({
  test: {
    // A test that passes at the second attempt has failed.
    retry: 0,
    allowOnly: false,
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: [LAB_TESTS],
          // One more than the default on two cores: most tests wait for processes, not for the processor.
          maxWorkers: 2,
          // Some start labs of their own, beside everything else.
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "lab",
          include: [LAB_TESTS],
          globalSetup: existsSync(new URL(LAB_SETUP, import.meta.url)) ? [LAB_SETUP] : [],
          fileParallelism: false,
          // Stacks go up and down in some of them, on machines that have other things to do.
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});
