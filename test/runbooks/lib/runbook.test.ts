import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { defineRunbook } from "../../../runbooks/lib/runbook.ts";
import { Running } from "./fixtures/process.ts";

const MEND = join(import.meta.dirname, "fixtures", "mend.ts");
let folder: string;
let tape: string;
let started: Running[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "runbook-"));
  tape = join(folder, "tape");
  writeFileSync(
    join(folder, "recovery.yaml"),
    "vault: {addr: 'http://127.0.0.1:1'}\naudit: {log: audit.jsonl}\n",
  );
});
afterEach(() => {
  for (const { child } of started) child.kill("SIGKILL");
  started = [];
  rmSync(folder, { recursive: true });
});

const clean = { NO_COLOR: "", FORCE_COLOR: "", DEBUG: "", RECOVERY_CONFIG: "" };

function start(args: string[], env: NodeJS.ProcessEnv = {}): Running {
  const running = new Running(process.execPath, [MEND, ...args], { cwd: folder, env: { ...clean, ...env } });
  started.push(running);
  return running;
}

/** The same on a terminal of its own. */
function startOnTerminal(args: string[], env: NodeJS.ProcessEnv = {}): Running {
  const words = [process.execPath, MEND, ...args].map((word) => `'${word}'`).join(" ");
  const running = new Running("script", ["-qec", `stty cols 120 rows 40; ${words}`, "/dev/null"], {
    cwd: folder,
    env: { ...clean, TERM: "xterm", ...env },
  });
  started.push(running);
  return running;
}

const run = (...args: string[]) => start(args).ended();
const done = () => (existsSync(tape) ? readFileSync(tape, "utf8").trim().split("\n") : []);

describe("a runbook", () => {
  it("prints its result on stdout and its progress on stderr", async () => {
    const { code, stdout, stderr } = await run("--tenant", "acme", "--tape", tape);
    expect(stdout).toBe("  tenant  acme\n  screws  2\n");
    expect(stderr.replace(/\d+\.\ds/g, "0.0s").split("\n")).toEqual([
      "→ look at the host",
      "✓ look at the host 0.0s",
      "→ turn the first screw",
      "✓ turn the first screw 0.0s",
      "→ turn the second screw",
      "✓ turn the second screw 0.0s",
      "",
    ]);
    expect(code).toBe(0);
    expect(done()).toEqual(["looked", "first", "second", "closed"]);
  });

  it("prints one JSON document with the result, the run's id and its timed steps under --json", async () => {
    const { code, stdout } = await run("--tenant", "acme", "--json");
    const document = JSON.parse(stdout);
    expect(document).toMatchObject({ tenant: "acme", screws: 2, dry_run: false });
    expect(document.run_id).toMatch(/^[0-9a-f-]{36}$/);
    expect(document.steps).toHaveLength(3);
    expect(document.steps[1]).toEqual({
      title: "turn the first screw",
      kind: "change",
      outcome: "done",
      seconds: expect.any(Number),
    });
    expect(code).toBe(0);
  });

  it("only checks in a dry run, and leaves no audit log", async () => {
    const { code, stdout, stderr } = await run(
      "--tenant",
      "acme",
      "--tape",
      tape,
      "--audited",
      "--ask",
      "--dry-run",
    );
    expect(done()).toEqual(["looked", "closed"]);
    expect(stderr).toContain("would ask: Mend acme?");
    expect(stderr).toContain(
      "would: turn the first screw\nwould: write it down\nwould: turn the second screw\n",
    );
    expect(stdout).toContain("acme");
    expect(stderr).toMatch(/dry run: nothing was changed.*\n$/);
    expect(existsSync(join(folder, "audit.jsonl"))).toBe(false);
    expect(code).toBe(0);
  });

  it("ends its audit events with run_finished and the number of them", async () => {
    await run("--tenant", "acme", "--audited");
    const events = readFileSync(join(folder, "audit.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(events.map(({ event }) => event)).toEqual(["mended", "run_finished"]);
    expect(events[1].details).toEqual({ events: 1, exit_code: 0 });
    expect(events[1].run_id).toBe(events[0].run_id);
  });

  it.each<[string, string[], string]>([
    ["a missing flag", [], "error: --tenant is missing\nnext:  npx runbook mend --help\n"],
    ["a bad value", ["--tenant", "../x"], "error: --tenant: takes lower-case letters\n"],
    ["an unknown flag", ["--tenant", "acme", "--frce"], "error: --frce is not a flag"],
    ["a word", ["acme"], "error: 'acme' is not expected here\n"],
    ["a change without a yes", ["--tenant", "acme", "--ask"], "add --yes"],
  ])("exits with 2 for %s, having changed nothing", async (_, args, message) => {
    const { code, stderr, stdout } = await run("--tape", tape, ...args);
    expect(stderr).toContain(message);
    expect(stdout).toBe("");
    expect(code).toBe(2);
    expect(done()).not.toContain("first");
  });

  it.each([
    { args: ["--yes"], says: "add --name acme" },
    { args: ["--name", "acme"], says: "add --yes --name acme" },
    { args: ["--yes", "--name", "globex"], says: "--name is globex, and not acme" },
    { args: ["--dry-run", "--name", "globex"], says: "--name is globex, and not acme" },
  ])("doesn't take $args for a typed word", async ({ args, says }) => {
    const { code, stderr } = await run("--tenant", "acme", "--typed", "--tape", tape, ...args);
    expect(stderr).toContain(says);
    expect(code).toBe(2);
    expect(done()).not.toContain("first");
  });

  it("takes --yes with the word in its flag", async () => {
    const { code } = await run("--tenant", "acme", "--typed", "--tape", tape, "--yes", "--name", "acme");
    expect(code).toBe(0);
    expect(done()).toContain("second");
  });

  it("goes on without asking under --yes", async () => {
    const { code, stderr } = await run("--tenant", "acme", "--ask", "--yes", "--tape", tape);
    expect(stderr).toContain("Mend acme? (--yes)");
    expect(done()).toContain("second");
    expect(code).toBe(0);
  });

  it("says what happened and what to type next, in words and in JSON, with the error's exit code", async () => {
    const { code, stdout, stderr } = await run("--tenant", "acme", "--fail", "refused", "--json");
    expect(stderr).toContain("error: the host is sealed\nnext:  vault operator unseal\n");
    expect(JSON.parse(stdout).error).toEqual({
      message: "the host is sealed",
      exit_code: 4,
      next: "vault operator unseal",
    });
    expect(code).toBe(4);
  });

  it("prints JSON for a wrong command line too", async () => {
    const { code, stdout } = await run("--json", "--nonsense");
    expect(JSON.parse(stdout).error.exit_code).toBe(2);
    expect(code).toBe(2);
  });

  it("prints what it found beside the error", async () => {
    const { code, stdout } = await run("--tenant", "acme", "--fail", "drift", "--json");
    expect(JSON.parse(stdout)).toMatchObject({ found: 3, error: { exit_code: 7 } });
    expect(code).toBe(7);
  });

  it("shows a bug's stack only under DEBUG", async () => {
    const plain = await run("--tenant", "acme", "--fail", "bug");
    expect(plain.stderr).toContain("error: unexpected: x is undefined");
    expect(plain.stderr).not.toContain("mend.ts");
    expect(plain.code).toBe(1);
    const debug = await start(["--tenant", "acme", "--fail", "bug"], { DEBUG: "1" }).ended();
    expect(debug.stderr).toContain("mend.ts");
  });

  it("prints no registered secret anywhere, DEBUG or not", async () => {
    const { stdout, stderr } = await start(["--tenant", "acme", "--fail", "secret", "--json"], {
      DEBUG: "1",
    }).ended();
    expect(stderr).toContain("note: [redacted]");
    expect(stdout + stderr).not.toContain("correct-horse");
    expect(stdout).not.toContain(Buffer.from("correct-horse-battery").toString("base64").slice(0, 12));
  });

  it("goes on when nobody reads its progress any more", async () => {
    const running = start(["--tenant", "acme", "--tape", tape, "--until", join(folder, "go")]);
    await running.says("→ turn the first screw");
    running.child.stderr?.destroy();
    running.child.stdout?.destroy();
    writeFileSync(join(folder, "go"), "");
    expect((await running.ended()).code).toBe(0);
    expect(done()).toContain("second");
  });

  it("refuses a definition whose flag every runbook has already", () => {
    const define = () =>
      defineRunbook({
        name: "x",
        summary: "",
        example: "",
        flags: z.object({ dryRun: z.boolean() }),
        run: async () => ({}),
      });
    expect(define).toThrow("dryRun");
  });
});

describe("an interrupted runbook", () => {
  const waiting = () => start(["--tenant", "acme", "--tape", tape, "--until", join(folder, "go")]);

  it.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)(
    "finishes its step after %s, cleans up, and can be resumed",
    async (signal) => {
      const running = waiting();
      await running.says("→ turn the first screw");
      running.child.kill(signal);
      await running.says("once more ends at once");
      writeFileSync(join(folder, "go"), "");
      const { code, stderr } = await running.ended();
      expect(done()).toEqual(["looked", "first", "closed"]);
      expect(stderr).toContain("next:  the same command again resumes");
      expect(code).toBe(5);
    },
  );

  it("ends at once at the second signal", async () => {
    const running = waiting();
    await running.says("→ turn the first screw");
    running.child.kill("SIGINT");
    await running.says("once more ends at once");
    running.child.kill("SIGINT");
    expect((await running.ended()).code).toBe(5);
    expect(done()).toEqual(["looked"]);
  });
});

describe("a runbook on a terminal", () => {
  it("asks for a missing flag, again after a bad answer, and for a yes", async () => {
    const running = startOnTerminal(["--tape", tape, "--ask"]);
    await running.says("--tenant: whose");
    running.type("ACME\r");
    await running.says("takes lower-case letters");
    running.type("\x7f\x7f\x7f\x7facme\r");
    await running.says("Mend acme?");
    running.type("y");
    expect((await running.ended()).code).toBe(0);
    expect(done()).toContain("second");
  });

  it("asks for a word until it is typed, for what can't be undone", async () => {
    const running = startOnTerminal(["--tenant", "acme", "--tape", tape, "--typed"]);
    await running.says("Break acme? Type acme");
    running.type("y\r");
    await running.says("takes acme, or Ctrl-C");
    expect(done()).toEqual(["looked"]);
    running.type("\x7facme\r");
    expect((await running.ended()).code).toBe(0);
    expect(done()).toContain("second");
  });

  it("takes Enter alone for a no", async () => {
    const running = startOnTerminal(["--tenant", "acme", "--tape", tape, "--ask"]);
    await running.says("Mend acme?");
    running.type("\r");
    const { code, stdout } = await running.ended();
    expect(stdout).toContain("not confirmed");
    expect(code).toBe(1);
    expect(done()).toEqual(["looked", "closed"]);
  });

  it("ends with 130 after Ctrl-C at a question, as nothing was changed", async () => {
    const running = startOnTerminal(["--tenant", "acme", "--tape", tape, "--ask"]);
    await running.says("Mend acme?");
    running.type("\x03");
    const { code, stdout } = await running.ended();
    expect(stdout).toContain("ended before anything was changed");
    expect(code).toBe(130);
    expect(done()).toEqual(["looked", "closed"]);
  });

  it("shows the time that a long step has taken, and colours, unless NO_COLOR is set", async () => {
    for (const [NO_COLOR, coloured] of [
      ["", true],
      ["1", false],
    ] as const) {
      const running = startOnTerminal(["--tenant", "acme", "--until", join(folder, `go${NO_COLOR}`)], {
        NO_COLOR,
      });
      await running.says("turn the first screw 1.");
      writeFileSync(join(folder, `go${NO_COLOR}`), "");
      const { stdout } = await running.ended();
      expect(stdout.includes("\x1b[32m")).toBe(coloured);
    }
  });
});
