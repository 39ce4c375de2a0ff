// What an engine's plan says of drift. Pure. The plan is what `pulumi up` would do after a look at everything: so what
// it would change differs from what is declared. Which of the two moved is told by the state that the last `up` wrote.
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import type { CheckName, Finding } from "./findings.ts";

const Properties = z
  .record(z.string(), z.unknown())
  .nullish()
  .transform((given) => given ?? {});

/** A resource, as the engine writes it into its state and into its plans. */
export const Resource = z.object({
  urn: z.string(),
  type: z.string(),
  inputs: Properties,
  outputs: Properties,
  dependencies: z
    .array(z.string())
    .nullish()
    .transform((given) => given ?? []),
  parent: z.string().optional(),
});
export type Resource = z.infer<typeof Resource>;

export const Plan = z.object({
  steps: z
    .array(
      z.object({
        op: z.string(),
        urn: z.string(),
        oldState: Resource.nullish(),
        newState: Resource.nullish(),
        detailedDiff: z.record(z.string(), z.unknown()).nullish(),
        diffReasons: z.array(z.string()).nullish(),
      }),
    )
    .nullish()
    .transform((steps) => steps ?? []),
});
export type Plan = z.infer<typeof Plan>;
type Step = Plan["steps"][number];

/**
 * The findings in a stack's plan, each drift once: what has to change only because something before it changes is left
 * out. Resources of Vault are the check `vault`'s, all others `infra`'s.
 * @param recorded the state before, by URN.
 */
export function planFindings(stack: string, plan: Plan, recorded: ReadonlyMap<string, Resource>): Finding[] {
  const changes = plannedChanges(plan, recorded);
  const gone = new Set(changes.flatMap(({ kind, urn }) => (kind === "resource-gone" ? [urn] : [])));
  const causes = changes.filter((change) => !followsFrom(change, gone));
  // Whoever would mend one thing must not be told that nothing is wrong, whatever it follows from.
  const told = causes.length > 0 ? causes : changes;
  const drifted = told.filter(({ kind }) => kind !== "not-applied").map((one) => finding(stack, one));
  return [...drifted, ...notApplied(stack, told)];
}

interface Change {
  urn: string;
  kind: "resource-differs" | "resource-gone" | "not-applied";
  op: string;
  declared: Resource | undefined;
  found: Resource | undefined;
  /** Names of the inputs that change. */
  properties: string[];
}

function plannedChanges({ steps }: Plan, recorded: ReadonlyMap<string, Resource>): Change[] {
  // The look comes first in a plan, then the program's own steps, which begin with its stack: only these compare.
  const begin = steps.findLastIndex(
    ({ op, urn }) => op !== "refresh" && typeOf(urn) === "pulumi:pulumi:Stack",
  );
  // Of the parts of a replacement the last one counts.
  const own = steps.slice(begin + 1).filter(({ op }) => OPS.has(op));
  const last = new Map(own.map((step) => [step.urn, step]));
  return [...last.values()].flatMap((step): Change[] => {
    const before = recorded.get(step.urn);
    const { op, urn } = step;
    const declared = step.newState ?? undefined;
    const found = step.oldState ?? undefined;
    if (declared === undefined) return [{ urn, op, kind: "not-applied", declared, found, properties: [] }];
    const change = { urn, op, declared, found: op === "create" ? undefined : found };
    if (op === "create" || found === undefined) {
      return [{ ...change, kind: before === undefined ? "not-applied" : "resource-gone", properties: [] }];
    }
    const properties = changedProperties(step, declared, found);
    if (properties.length === 0) return [];
    const known = before !== undefined && properties.every((name) => sameOrUnknown(before, declared, name));
    return [{ ...change, kind: known ? "resource-differs" : "not-applied", properties }];
  });
}

/** The rest of the engine's words say that nothing changes, or belong to one of these. */
const OPS = new Set(["create", "update", "replace", "delete"]);

function changedProperties(step: Step, declared: Resource, found: Resource): string[] {
  const told = [...Object.keys(step.detailedDiff ?? {}), ...(step.diffReasons ?? [])];
  const names = told.map((path) => /^[^.[]+/.exec(path)?.[0] ?? path);
  const all = names.length > 0 ? names : [...Object.keys(declared.inputs), ...Object.keys(found.inputs)];
  return [...new Set(all)].filter(
    (name) =>
      name !== "__defaults" && !isDeepStrictEqual(plain(declared.inputs[name]), plain(foundAt(found, name))),
  );
}

/** What a resource has that was given to it; what the provider found out by itself where nothing was given. */
const foundAt = (found: Resource, name: string): unknown => found.inputs[name] ?? found.outputs[name];

const sameOrUnknown = (before: Resource, declared: Resource, name: string): boolean =>
  hasUnknown(declared.inputs[name]) ||
  isDeepStrictEqual(plain(before.inputs[name]), plain(declared.inputs[name]));

/** What the engine writes for a value that is known only once something before it was changed. */
const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
const hasUnknown = (value: unknown): boolean => JSON.stringify(value ?? null).includes(UNKNOWN);

function followsFrom(change: Change, gone: ReadonlySet<string>): boolean {
  const { declared, properties, kind } = change;
  if (declared === undefined) return false;
  const needs = [...declared.dependencies, ...(declared.parent === undefined ? [] : [declared.parent])];
  if (kind === "resource-gone") return needs.some((urn) => gone.has(urn));
  return properties.length > 0 && properties.every((name) => hasUnknown(declared.inputs[name]));
}

const SECRET = "[secret]";
/** The mark of a secret in a state and the two keys of one in a plan. */
const SECRET_KEY = "4dabf18193072939515e22adb298388d";

/** A value in which every secret, sealed or not, reads the same. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return jsonOr(value);
  if (SECRET_KEY in value) return SECRET;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, inner]) => (key === "__defaults" ? [] : [[key, plain(inner)]])),
  );
}

/** Documents of policies are texts; the order of their keys says nothing. */
function jsonOr(value: unknown): unknown {
  if (typeof value !== "string" || !/^[{[]/.test(value)) return value ?? undefined;
  try {
    return plain(JSON.parse(value));
  } catch {
    return value;
  }
}

function finding(stack: string, change: Change): Finding {
  const { urn, kind } = change;
  const which = nameOf(change);
  const about = { check: checkOf(urn), about: stack, which, mend: `pulumi up --stack ${stack}` };
  if (kind === "resource-gone") return { ...about, kind, what: `${which} is declared, and there is none` };
  return {
    ...about,
    kind,
    what: `${which} is not as declared: ${change.properties.join(", ")}`,
    ...differences(change),
  };
}

function differences({ declared, found, properties }: Change): { declared: string; found: string } {
  const pairs = properties.map((name) => {
    const [should, is] = apart(
      text(plain(declared?.inputs[name])),
      text(plain(found && foundAt(found, name))),
    );
    return { should: `${name}: ${should}`, is: `${name}: ${is}` };
  });
  return {
    declared: pairs.map(({ should }) => should).join("\n"),
    found: pairs.map(({ is }) => is).join("\n"),
  };
}

const text = (value: unknown): string =>
  value === undefined ? "(none)" : typeof value === "string" ? value : JSON.stringify(value);

/** Of texts of many lines only those that the other hasn't. */
function apart(a: string, b: string): [string, string] {
  if (!a.includes("\n") && !b.includes("\n")) return [a, b];
  const only = (of: string, other: string) => {
    const there = new Set(other.split("\n"));
    return (
      of
        .split("\n")
        .filter((line) => !there.has(line))
        .map((line) => line.trim())
        .join(" | ") || "(no other line)"
    );
  };
  return [only(a, b), only(b, a)];
}

/** One finding for all that an `up` would bring anew: it is one act that is missing, whatever the number of resources. */
function notApplied(stack: string, changes: readonly Change[]): Finding[] {
  const all = changes.filter(({ kind }) => kind === "not-applied");
  return (["infra", "vault"] as const).flatMap((check): Finding[] => {
    const own = all.filter(({ urn }) => checkOf(urn) === check);
    if (own.length === 0) return [];
    const names = own.map((one) => `${one.op} ${nameOf(one)}`);
    return [
      {
        check,
        kind: "not-applied",
        about: stack,
        which: "",
        what: `The stack's program or configuration was changed and not brought up: ${names.join(", ")}`,
        mend: `pulumi up --stack ${stack}`,
      },
    ];
  });
}

const typeOf = (urn: string): string => urn.split("::")[2]?.split("$").at(-1) ?? "";
const checkOf = (urn: string): CheckName =>
  /^(?:vault:|pulumi:providers:vault$)/.test(typeOf(urn)) ? "vault" : "infra";

/** `BucketPolicy audit`; a DNS record by type and name, as `dns` names it too. */
export function nameOf({ urn, declared, found }: Pick<Change, "urn" | "declared" | "found">): string {
  const type = typeOf(urn);
  const inputs = (declared ?? found)?.inputs;
  if (type === DNS_RECORD && typeof inputs?.name === "string" && typeof inputs.type === "string") {
    return `${inputs.name} ${inputs.type}`;
  }
  return `${type.split(":").at(-1)} ${urn.split("::").at(-1)}`;
}

const DNS_RECORD = "aws:route53/record:Record";
