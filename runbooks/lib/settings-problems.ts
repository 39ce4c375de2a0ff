// What is wrong with recovery.yaml, in words: the key, what it got and what it takes. A value may be something that
// doesn't belong in the file, so no more of it is repeated than is needed to find it.
import { z } from "zod";
import { nearest } from "./flags.ts";

/** A sentence for each thing that `schema` found wrong with `content`. */
export function settingsProblems(schema: z.ZodObject, error: z.ZodError, content: unknown): string[] {
  return error.issues.flatMap((issue) =>
    issue.code === "unrecognized_keys" ? unknownKeys(schema, issue) : [wrongValue(schema, issue, content)],
  );
}

function unknownKeys(schema: z.ZodObject, { path, keys }: z.core.$ZodIssueUnrecognizedKeys): string[] {
  const at = path.join(".");
  const takes = keysAt(schema, path);
  return keys.map((unknown) => {
    const meant = nearest(unknown, takes);
    const name = at === "" ? unknown : `${at}.${unknown}`;
    return `${name} is not a setting${meant === undefined ? "" : ` (did you mean ${meant}?)`}: ${at || "the file"} takes ${takes.join(", ")}`;
  });
}

function wrongValue(schema: z.ZodObject, issue: z.core.$ZodIssue, content: unknown): string {
  const key = issue.path.join(".");
  const got = issue.path.reduce<unknown>(
    (at, part) =>
      typeof at === "object" && at !== null ? (at as Record<PropertyKey, unknown>)[part] : undefined,
    content,
  );
  if (got === undefined || got === null) {
    const keys = keysAt(schema, issue.path);
    if (keys.length > 0) return `${key} is missing: it takes ${keys.join(", ")}`;
    return `${key} is missing${issue.code === "invalid_type" ? "" : `: it ${issue.message}`}`;
  }
  const takes =
    issue.code === "invalid_type" ? `takes ${WORDS[issue.expected] ?? issue.expected}` : issue.message;
  return `${key || "the file"} is ${shown(got)} but ${takes}`;
}

const WORDS: Record<string, string> = {
  string: "a text",
  number: "a number",
  object: "keys below it",
  array: "a list",
};

/** A password in a URL and the path of a webhook are what a wrong value may plausibly hold. */
function shown(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === "object" && value !== null) return `{${Object.keys(value).join(", ")}}`.slice(0, 80);
  return JSON.stringify(value)
    .replace(/\/\/[^/@"]*@/, "//…@")
    .replace(/(:\/\/[^/?#"]*[/?#])[^"]+/, "$1…")
    .slice(0, 80);
}

function keysAt(schema: z.ZodObject, path: PropertyKey[]): string[] {
  let at: unknown = unwrapped(schema);
  for (const part of path) {
    if (at instanceof z.ZodArray) at = unwrapped(at.element);
    else at = at instanceof z.ZodObject ? unwrapped(at.shape[String(part)]) : undefined;
  }
  return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
}

const unwrapped = (schema: unknown): unknown =>
  schema instanceof z.ZodDefault || schema instanceof z.ZodOptional ? unwrapped(schema.unwrap()) : schema;
