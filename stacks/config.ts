// Reads a stack's configuration (Pulumi.<stack>.yaml, or `pulumi config set`) and checks all of it before any
// resource is declared. An unknown key is refused too: a misspelt `sshFrom` must not mean "from everywhere".
import * as pulumi from "@pulumi/pulumi";
import { allConfig } from "@pulumi/pulumi/runtime/index.js";
import { z } from "zod";
import { domainProblem, tenantIdProblem } from "./names.ts";

/** The stack's configuration as `schema` describes it. Throws a `pulumi.RunError` that lists every problem. */
export function stackConfig<S extends z.ZodObject>(schema: S): z.output<S> {
  const { name } = new pulumi.Config();
  const own: Record<string, string> = {};
  for (const [key, value] of Object.entries(allConfig())) {
    if (key.startsWith(`${name}:`)) own[key.slice(name.length + 1)] = value;
  }
  // Taken as plain values they would be plain text in the state; and nothing that belongs here is secret.
  const secretKeys = z.array(z.string()).parse(JSON.parse(process.env.PULUMI_CONFIG_SECRET_KEYS ?? "[]"));
  const secret = Object.keys(own).filter((key) =>
    secretKeys.some((full) => full === `${name}:${key}` || full === `${name}:config:${key}`),
  );
  if (secret.length > 0) {
    throw refusal(
      secret.map((key) => `${key}: is set as a secret, and secrets belong in Vault, not in a stack`),
    );
  }
  const result = parseConfig(schema, own);
  if ("problems" in result) throw refusal(result.problems);
  return result.config;
}

/**
 * Checks `values`, which are texts as Pulumi hands them over (lists and objects are JSON), against `schema`.
 * Each problem names the key, what it got and what it takes.
 */
export function parseConfig<S extends z.ZodObject>(
  schema: S,
  values: Record<string, string>,
): { config: z.output<S> } | { problems: string[] } {
  const structured = Object.fromEntries(
    Object.entries(values).map(([key, text]) => [key, isText(schema, key) ? text : jsonOrText(text)]),
  );
  const result = schema.strict().safeParse(structured);
  if (result.success) return { config: result.data as z.output<S> };
  return { problems: result.error.issues.flatMap((issue) => describe(schema, structured, issue)) };
}

/** A network in CIDR notation that isn't the whole internet. */
export const network = z.string().superRefine((text, context) => {
  const address = text.split("/")[0] ?? "";
  const known = z.union([z.cidrv4(), z.cidrv6()]).safeParse(text).success;
  if (!known) context.addIssue({ code: "custom", message: "takes a network such as 192.0.2.0/24" });
  else if (text.endsWith("/0") || address === "0.0.0.0") {
    context.addIssue({
      code: "custom",
      message: "is the whole internet: anyone could try; name your own networks",
    });
  }
});
/** A mail domain. */
export const domain = checked(domainProblem);
/** A tenant's id. */
export const tenant = checked(tenantIdProblem);

function checked(problemOf: (text: string) => string | undefined) {
  return z.string().superRefine((text, context) => {
    const problem = problemOf(text);
    if (problem !== undefined) context.addIssue({ code: "custom", message: problem });
  });
}

const refusal = (problems: string[]): Error =>
  new pulumi.RunError(
    `The configuration of the stack '${pulumi.getStack()}' can't be used:\n` +
      problems.map((problem) => `  - ${problem}`).join("\n"),
  );

/** Keys that hold plain text stay as they are: `12` may be the name of something. */
function isText(schema: z.ZodObject, key: string): boolean {
  const field: unknown = schema.shape[key];
  return field instanceof z.ZodType && field.safeParse("{").error?.issues[0]?.code !== "invalid_type";
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function describe(schema: z.ZodObject, values: Record<string, unknown>, issue: z.core.$ZodIssue): string[] {
  if (issue.code === "unrecognized_keys") {
    const where = issue.path.length === 0 ? "" : `${issue.path.join(".")}.`;
    const known =
      issue.path.length === 0 ? `; the keys are ${Object.keys(schema.shape).sort().join(", ")}` : "";
    return issue.keys.map((key) => `${where}${key}: there is no such key${known}`);
  }
  const key = issue.path.join(".");
  const top = String(issue.path[0] ?? "");
  const doc = schema.shape[top]?.description;
  const got = issue.path.reduce<unknown>(
    (value, part) => (value as Record<PropertyKey, unknown> | undefined)?.[part],
    values,
  );
  const takes = doc === undefined ? "" : ` (${top}: ${doc})`;
  if (got === undefined)
    return [`${key}: is missing${takes}. Next: pulumi config set ${pathFlag(issue.path)}${key} …`];
  return [`${key}: got ${JSON.stringify(got)}: ${issue.message}${takes}`];
}

const pathFlag = (path: PropertyKey[]): string => (path.length > 1 ? "--path " : "");
