import { PassThrough } from "node:stream";
import { describe, expect, it, vi } from "vitest";
import { Interrupted } from "../../../runbooks/lib/errors.ts";
import { Steps } from "../../../runbooks/lib/steps.ts";
import { Terminal } from "../../../runbooks/lib/terminal.ts";

function engine(dryRun = false) {
  const stderr = new PassThrough();
  const stop = new AbortController();
  const terminal = new Terminal({ stdin: new PassThrough(), stdout: new PassThrough(), stderr, env: {} });
  let seen = "";
  stderr.on("data", (chunk) => {
    seen += chunk;
  });
  return {
    steps: new Steps({ operator: terminal, signal: stop.signal, dryRun }),
    stop,
    progress: () => seen,
  };
}

describe("the step engine", () => {
  it("prints a step's title before the step begins, and its time after it", async () => {
    const { steps, progress } = engine();
    let before = "";
    const value = await steps.check("look", () => {
      before = progress();
      return 7;
    });
    expect(value).toBe(7);
    expect(before).toBe("→ look\n");
    expect(progress()).toMatch(/^→ look\n✓ look \d+\.\ds\n$/);
    expect(steps.all).toEqual([
      { title: "look", kind: "check", outcome: "done", seconds: expect.any(Number) },
    ]);
  });

  it("runs the checks and only announces the changes in a dry run, in the same sentences", async () => {
    const tape: string[] = [];
    const runbook = async (steps: Steps) => {
      await steps.check("look", () => tape.push("looked"));
      return steps.change("turn the key", () => tape.push("turned"));
    };
    const dry = engine(true);
    expect(await runbook(dry.steps)).toBeUndefined();
    expect(tape).toEqual(["looked"]);
    expect(dry.progress()).toContain("would: turn the key\n");
    expect(dry.steps.changeBegan).toBe(false);

    const real = engine();
    await runbook(real.steps);
    expect(tape).toEqual(["looked", "looked", "turned"]);
    expect(real.steps.all.map(({ title }) => title)).toEqual(dry.steps.all.map(({ title }) => title));
    expect(real.steps.changeBegan).toBe(true);
  });

  it("marks a failed step and passes its error on", async () => {
    const { steps, progress } = engine();
    await expect(steps.change("break", () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(progress()).toMatch(/✗ break/);
    expect(steps.all[0]?.outcome).toBe("failed");
  });

  it("finishes the running step when asked to end, and begins no other", async () => {
    const { steps, stop } = engine();
    let finished = false;
    await steps.change("long", async () => {
      stop.abort();
      await new Promise((resolve) => setTimeout(resolve, 20));
      finished = true;
    });
    expect(finished).toBe(true);
    await expect(steps.check("next", () => 0)).rejects.toThrow(Interrupted);
    await expect(steps.change("next", () => 0)).rejects.toThrow(Interrupted);
    expect(steps.all).toHaveLength(1);
  });

  it("indents no step that runs beside another", async () => {
    const { steps, progress } = engine();
    const opened = Promise.withResolvers<void>();
    const turning = steps.change("turn the key", () => opened.promise);
    await vi.waitFor(() => expect(progress()).toContain("→ turn the key\n"));
    await steps.change("open the door", () => steps.check("look", () => {}));
    opened.resolve();
    await turning;
    expect(progress().match(/^ *→ .*$/gm)).toEqual(["→ turn the key", "→ open the door", "  → look"]);
  });

  it("indents steps within a step", async () => {
    const { steps, progress } = engine();
    await steps.check("outer", () => steps.check("inner", () => 0));
    expect(progress()).toMatch(/^→ outer\n {2}→ inner\n {2}✓ inner .*\n✓ outer /);
  });
});
