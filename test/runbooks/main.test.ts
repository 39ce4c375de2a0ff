import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Runbook } from "../../runbooks/lib/runbook.ts";
import { RUNBOOKS } from "../../runbooks/main.ts";
import { Running } from "./lib/fixtures/process.ts";

const FOLDER = join(import.meta.dirname, "../../runbooks");
const run = (...args: string[]) => new Running(join(FOLDER, "main.ts"), args).ended();

describe("npx runbook", () => {
  it("lists every runbook there is", async () => {
    const files = readdirSync(FOLDER).filter((name) => name.endsWith(".ts") && name !== "main.ts");
    expect(Object.keys(RUNBOOKS).sort()).toEqual(files.map((name) => name.slice(0, -3)).sort());
    const { code, stdout } = await run();
    for (const name of Object.keys(RUNBOOKS)) expect(stdout).toContain(name);
    expect(code).toBe(0);
  });

  it.each(Object.keys(RUNBOOKS))(
    "describes %s as the runbook itself does, with a command that can be typed",
    async (name) => {
      const { default: runbook } = (await import(join(FOLDER, `${name}.ts`))) as { default: Runbook };
      expect(runbook.name).toBe(name);
      expect(runbook.summary).toBe(RUNBOOKS[name]);
      expect(runbook.example).toMatch(new RegExp(`^npx runbook ${name}(?: |$)`));
      const { code, stdout } = await run(name, "--help");
      expect(stdout).toContain(runbook.example);
      for (const flag of ["--dry-run", "--json", "--yes"]) expect(stdout).toContain(flag);
      expect(code).toBe(0);
    },
  );

  it("has Node keep to itself what it tells developers of a library's deprecated calls", () => {
    // Set where this file's import of it has been evaluated.
    expect(process.noDeprecation).toBe(true);
  });

  it("names the nearest runbook for one that doesn't exist", async () => {
    const { code, stderr } = await run("replace-vsp", "--tenant", "acme");
    expect(stderr).toContain("there is no runbook 'replace-vsp': did you mean replace-vps?");
    expect(code).toBe(2);
  });

  it.each(["__proto__", "constructor", "lib/audit", "../main"])(
    "doesn't take %s for a runbook",
    async (name) => {
      const { code, stderr } = await run(name);
      expect(stderr).toContain("there is no runbook");
      expect(code).toBe(2);
    },
  );
});
