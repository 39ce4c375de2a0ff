import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { RunbookError } from "../../../runbooks/lib/errors.ts";
import { checkFlags, flagsOf, helpText, nearest, readArguments } from "../../../runbooks/lib/flags.ts";

const schema = z.object({
  action: z.enum(["list", "path"]).describe("what to do"),
  tenantId: z
    .string()
    .regex(/^[a-z]+$/, "takes lower-case letters")
    .transform((text) => ({ id: text }))
    .describe("the tenant"),
  waitSeconds: z.number().int().min(0).default(30).describe("how long to wait"),
  force: z.boolean().describe("go on all the same"),
  note: z.string().describe("a remark").optional(),
});
const flags = flagsOf(schema, "action");

const parse = (...argv: string[]) => checkFlags(schema, flags, readArguments(argv, flags, "action"));

function refusal(...argv: string[]): RunbookError {
  try {
    parse(...argv);
  } catch (error) {
    if (error instanceof RunbookError) return error;
    throw error;
  }
  throw new Error(`accepted: ${argv.join(" ")}`);
}

describe("flags", () => {
  it("turn camelCase keys into kebab-case flags and strings into the schema's types", () => {
    expect(parse("list", "--tenant-id", "acme", "--wait-seconds", "5", "--force")).toEqual({
      action: "list",
      tenantId: { id: "acme" },
      waitSeconds: 5,
      force: true,
    });
  });

  it("take a value after a space or an equals sign, and the word anywhere among them", () => {
    const after = parse("--tenant-id=acme", "--note=--odd", "path");
    expect(after).toEqual({
      action: "path",
      tenantId: { id: "acme" },
      waitSeconds: 30,
      force: false,
      note: "--odd",
    });
  });

  it.each<[string, string[], string]>([
    [
      "an unknown flag, naming the near one",
      ["list", "--tenant", "acme"],
      "--tenant is not a flag of this runbook",
    ],
    ["a misspelt flag", ["list", "--tenant-ids", "acme"], "did you mean --tenant-id?"],
    ["a repeated flag", ["list", "--tenant-id", "a", "--tenant-id", "b"], "--tenant-id is given twice"],
    ["a repeated switch", ["list", "--tenant-id", "a", "--force", "--force"], "--force is given twice"],
    ["a second word", ["list", "path", "--tenant-id", "a"], "'path' is not expected here"],
    ["words after --", ["list", "--tenant-id", "a", "--", "x"], "'x' is not expected here"],
    ["a switch with a value", ["list", "--tenant-id", "a", "--force=yes"], "--force takes no value"],
    ["a flag that would swallow the next", ["list", "--tenant-id", "--force"], "--tenant-id needs a value"],
    ["a flag at the end without its value", ["list", "--tenant-id"], "--tenant-id needs a value"],
    ["an unknown choice", ["lst", "--tenant-id", "a"], "<action>: "],
    [
      "a bad value, with the schema's own words",
      ["list", "--tenant-id", "../x"],
      "--tenant-id: takes lower-case letters",
    ],
    ["a number that isn't one", ["list", "--tenant-id", "a", "--wait-seconds", "soon"], "--wait-seconds: "],
    ["an empty number", ["list", "--tenant-id", "a", "--wait-seconds="], "--wait-seconds: "],
    ["a short flag", ["list", "--tenant-id", "a", "-x"], "-x is not a flag"],
    ["all missing ones at once", [], "<action> is missing; --tenant-id is missing"],
  ])("refuse %s", (_, argv, message) => {
    const error = refusal(...argv);
    expect(error.message).toContain(message);
    expect(error.exitCode).toBe(2);
  });

  it("give back any value of a text flag unchanged", () => {
    const free = z.object({ value: z.string() });
    const own = flagsOf(free);
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (value) => {
        expect(checkFlags(free, own, readArguments([`--value=${value}`], own))).toEqual({ value });
      }),
    );
  });

  it("never turn arbitrary arguments into anything but a checked value or a usage error", () => {
    const word = fc.oneof(
      fc.string(),
      fc.constantFrom("--force", "--tenant-id", "--", "-", "--no-force", "--__proto__=1"),
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 6 }), (argv) => {
        try {
          expect(parse(...argv).tenantId.id).toMatch(/^[a-z]+$/);
        } catch (error) {
          expect(error).toBeInstanceOf(RunbookError);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("explain themselves: description, choices, default, what is required, exit codes and the example", () => {
    const help = helpText(
      { name: "mend", summary: "mends it", example: "npx runbook mend list --tenant-id acme" },
      flags,
    );
    for (const part of [
      "runbook mend: mends it",
      "Usage: npx runbook mend <action> [flags]",
      "<action>",
      "what to do (list | path) (required)",
      "--tenant-id TENANT-ID",
      "--wait-seconds NUMBER",
      "how long to wait (default 30)",
      "--force ",
      "a remark",
      "--dry-run",
      "--json",
      "--yes",
      "Example: npx runbook mend list --tenant-id acme",
      "refused",
    ]) {
      expect(help).toContain(part);
    }
    expect(help).toMatch(/^ {2}5 {4}incomplete/m);
  });

  it("know the nearest name, and when none is near", () => {
    expect(nearest("replcae-vps", ["replace-vps", "audit"])).toBe("replace-vps");
    expect(nearest("xyzzy", ["replace-vps", "audit"])).toBeUndefined();
  });
});
