// From a zod object to a command line: what flags there are, reading them, and the help text.
import { parseArgs } from "node:util";
import { z } from "zod";
import { EXIT_MEANINGS, RunbookError } from "./errors.ts";

/** One flag as the operator sees it. */
export interface Flag {
  /** The key in the schema, camelCase. */
  key: string;
  /** How it is typed: `--kebab-case`, or `<name>` for the positional word. */
  shown: string;
  kind: "switch" | "text" | "number";
  required: boolean;
  description: string;
  choices: string[] | undefined;
  /** What holds when it isn't given, as text. */
  fallback: string | undefined;
  schema: z.ZodType;
}

/** What was typed: true for a switch. */
export type Typed = Record<string, string | true>;

/** Flags that every runbook has. */
export const COMMON_FLAGS = z.object({
  dryRun: z.boolean().describe("check everything, print what would be changed, change nothing"),
  json: z.boolean().describe("print the result as one JSON document on stdout"),
  yes: z.boolean().describe("don't ask for confirmation"),
  help: z.boolean().describe("show this help"),
});

const kebab = (key: string): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** The flags of a schema, in its order. The key named by `positional` is typed as a word without dashes. */
export function flagsOf(schema: z.ZodObject, positional?: string): Flag[] {
  return Object.entries(schema.shape as Record<string, z.ZodType>).map(([key, field]) => {
    const base = innermost(field);
    const kind = base instanceof z.ZodBoolean ? "switch" : base instanceof z.ZodNumber ? "number" : "text";
    return {
      key,
      shown: key === positional ? `<${kebab(key)}>` : `--${kebab(key)}`,
      kind,
      required: kind !== "switch" && !field.safeParse(undefined).success,
      description: descriptionOf(field),
      choices: base instanceof z.ZodEnum ? base.options.map(String) : undefined,
      fallback: fallbackOf(field),
      schema: field,
    };
  });
}

/**
 * Reads a command line. Throws a RunbookError (exit 2) for an unknown flag, one given twice, one without its
 * value, and a word too many. Nothing is checked against the schema yet.
 */
export function readArguments(argv: string[], flags: Flag[], positional?: string): Typed {
  const byName = new Map(flags.filter((flag) => flag.key !== positional).map((f) => [f.shown.slice(2), f]));
  const { tokens } = parseArgs({
    args: argv,
    strict: false,
    tokens: true,
    options: {
      ...Object.fromEntries([...byName].map(([name, f]) => [name, { type: typeOf(f) } as const])),
      help: { type: "boolean", short: "h" },
    },
  });
  const typed: Typed = {};
  const put = (key: string, shown: string, value: string | true) => {
    if (key in typed) throw usage(`${shown} is given twice`);
    typed[key] = value;
  };
  for (const token of tokens) {
    if (token.kind === "positional") {
      if (positional === undefined || positional in typed)
        throw usage(`'${token.value}' is not expected here`);
      put(positional, positional, token.value);
    } else if (token.kind === "option") {
      const flag = byName.get(token.name);
      if (flag === undefined) throw unknownFlag(token.rawName, [...byName.keys()]);
      put(flag.key, flag.shown, typedValue(flag, token.value, token.inlineValue === true));
    }
  }
  return typed;
}

/**
 * Checks what was typed against the schema.
 * @throws RunbookError (exit 2) that lists everything that is wrong.
 */
export function checkFlags<Schema extends z.ZodObject>(
  schema: Schema,
  flags: Flag[],
  typed: Typed,
): z.output<Schema> {
  const values = Object.fromEntries(flags.map((flag) => [flag.key, valueToCheck(flag, typed[flag.key])]));
  const checked = schema.safeParse(values);
  if (checked.success) return checked.data;
  const problems = checked.error.issues.map((issue) => {
    const flag = flags.find(({ key }) => key === issue.path[0]);
    if (flag === undefined) return issue.message;
    return typed[flag.key] === undefined ? `${flag.shown} is missing` : `${flag.shown}: ${issue.message}`;
  });
  throw usage([...new Set(problems)].join("; "));
}

/** What is wrong with `text` as the value of one flag, or undefined. */
export function flagProblem(flag: Flag, text: string): string | undefined {
  const checked = flag.schema.safeParse(valueToCheck(flag, text));
  return checked.success ? undefined : checked.error.issues.map(({ message }) => message).join("; ");
}

export function helpText(runbook: { name: string; summary: string; example: string }, flags: Flag[]): string {
  const common = flagsOf(COMMON_FLAGS);
  const words = flags.filter((flag) => flag.shown.startsWith("<"));
  const rows = [...flags, ...common].map((flag): [string, string] => [
    flag.kind === "switch" || flag.shown.startsWith("<") ? flag.shown : `${flag.shown} ${placeholder(flag)}`,
    [
      flag.description,
      flag.choices ? `(${flag.choices.join(" | ")})` : "",
      flag.required ? "(required)" : "",
      flag.fallback === undefined ? "" : `(default ${flag.fallback})`,
    ]
      .filter((part) => part !== "")
      .join(" "),
  ]);
  return [
    `runbook ${runbook.name}: ${runbook.summary}`,
    "",
    `Usage: npx runbook ${[runbook.name, ...words.map((flag) => flag.shown)].join(" ")} [flags]`,
    "",
    ...table(rows),
    "",
    `Example: ${runbook.example}`,
    "",
    "Exit codes:",
    ...table(EXIT_MEANINGS.map(([code, meaning]): [string, string] => [String(code), meaning])),
  ].join("\n");
}

/** Two columns, indented. */
export function table(rows: [string, string][]): string[] {
  const width = Math.max(0, ...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`.trimEnd());
}

/** Rows of cells, each column as wide as its widest. */
export function columns(rows: string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}

/** The candidate that `word` was most likely meant to be; undefined when none is near. */
export function nearest(word: string, candidates: string[]): string | undefined {
  const ranked = candidates
    .map((name) => ({ name, far: distance(word, name) }))
    .sort((a, b) => a.far - b.far);
  const best = ranked[0];
  return best !== undefined && best.far <= Math.max(2, word.length / 3) ? best.name : undefined;
}

export const usage = (message: string, next?: string): RunbookError =>
  new RunbookError(message, { exit: "usage", next });

const typeOf = (flag: Flag): "boolean" | "string" => (flag.kind === "switch" ? "boolean" : "string");
const placeholder = (flag: Flag): string =>
  flag.kind === "number" ? "NUMBER" : kebab(flag.key).toUpperCase();

function unknownFlag(rawName: string, names: string[]): RunbookError {
  const meant = nearest(rawName.replace(/^-+/, ""), names);
  return usage(
    `${rawName} is not a flag of this runbook${meant === undefined ? "" : `: did you mean --${meant}?`}`,
  );
}

function typedValue(flag: Flag, value: string | undefined, inline: boolean): string | true {
  if (flag.kind === "switch") {
    if (value !== undefined) throw usage(`${flag.shown} takes no value`);
    return true;
  }
  // A forgotten value would otherwise swallow the next flag, and with it a --dry-run.
  if (value === undefined || (!inline && value.startsWith("-"))) {
    throw usage(
      `${flag.shown} needs a value${value === undefined ? "" : ` (write ${flag.shown}=VALUE for one that starts with a dash)`}`,
    );
  }
  return value;
}

function valueToCheck(flag: Flag, value: string | true | undefined): unknown {
  if (flag.kind === "switch")
    return value === true ? true : flag.schema.safeParse(undefined).success ? undefined : false;
  if (flag.kind === "number" && typeof value === "string" && /^-?\d+(\.\d+)?$/.test(value))
    return Number(value);
  return value;
}

/** Below optional, default and transform: the type of what is typed. */
function innermost(schema: unknown): unknown {
  const inner = inside(schema);
  return inner === undefined ? schema : innermost(inner);
}

function inside(schema: unknown): unknown {
  if (schema instanceof z.ZodPipe) return schema.in;
  const wrapped =
    schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodNullable;
  return wrapped ? schema.unwrap() : undefined;
}

function descriptionOf(schema: unknown): string {
  if (schema instanceof z.ZodType && schema.description !== undefined) return schema.description;
  const inner = inside(schema);
  return inner === undefined ? "" : descriptionOf(inner);
}

function fallbackOf(schema: z.ZodType): string | undefined {
  const checked = schema.safeParse(undefined);
  return checked.success && checked.data !== undefined && checked.data !== false
    ? String(checked.data)
    : undefined;
}

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (const [line, left] of [...a].entries()) {
    const next = [line + 1];
    for (const [column, right] of [...b].entries()) {
      const substitute = (row[column] ?? 0) + (left === right ? 0 : 1);
      next.push(Math.min(substitute, (row[column + 1] ?? 0) + 1, (next[column] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
