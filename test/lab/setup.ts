// One lab for all tests under test/lab: started once, before the first of them, in a folder of its own. While a test
// is being written, TEST_LAB names the folder of a lab that runs already, which is used and left running.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { TestProject } from "vitest/node";
import { startLab } from "../../scripts/lab/lab.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** The shared lab's folder. */
    lab: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const running = process.env.TEST_LAB;
  if (running !== undefined) {
    project.provide("lab", resolve(running));
    return async () => {};
  }
  const scratch = mkdtempSync(join(tmpdir(), "lab-tests-"));
  const remove = (): void => rmSync(scratch, { recursive: true, force: true });
  process.once("exit", remove);
  const begin = performance.now();
  const lab = await startLab({ dir: join(scratch, "lab") });
  const parts = lab.phases.map((phase) => `${phase.title} ${phase.seconds.toFixed(1)}`).join(", ");
  console.log(`lab up in ${((performance.now() - begin) / 1000).toFixed(1)} s (${parts})`);
  project.provide("lab", lab.dir);
  return async () => {
    await lab.stop();
    process.off("exit", remove);
    remove();
  };
}
