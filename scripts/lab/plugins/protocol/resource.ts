// What a resource of one of the lab's providers consists of, and what follows from it without asking a
// server: which inputs changed, and what can be said about the outputs before anything is done.
import { canonical, equal, hasUnknown, isObject, type Props } from "./values.ts";

/** What a call knows about its surroundings. */
export interface Context {
  urn: string;
  /** The resource's name in the program. */
  name: string;
  /** The provider's configuration, values that arrived as JSON parsed. */
  config: Props;
  /** Aborted when the engine cancels or goes away: whatever was started must end. */
  signal: AbortSignal;
  /** Shows a line beside the resource while it's being worked on. */
  status(line: string): void;
}

/** Everything the server needs in order to change a resource. */
export interface Change {
  id: string;
  /** The outputs as they are in the state. */
  state: Props;
  oldInputs: Props;
  inputs: Props;
  /** The inputs that differ. */
  changed: ReadonlySet<string>;
}

export interface Resource {
  /** Inputs that can't be changed in place; "*" for all. */
  replaceOn: readonly string[];
  /** Further inputs that replace, depending on the inputs. */
  replaceAlso?(inputs: Props): readonly string[];
  /** Outputs that aren't inputs: unknown until the resource exists. */
  computed?: readonly string[];
  /** Computed outputs that an update may change. */
  volatile?: readonly string[];
  /** Inputs that hold a JSON document: equal if they mean the same. */
  json?: readonly string[];
  /** Inputs that are sets: their order says nothing. */
  sets?: readonly string[];
  /** The old one goes before the new one comes (two can't exist at once). */
  deleteBeforeReplace?: boolean;
  /** Outputs that aren't inputs are secret as soon as one input is. */
  secretIfAnyInput?: boolean;
  /** An input that gets the resource's name with a random end when the program leaves it out, and keeps it. */
  generated?: string;
  /** Values for inputs that the program leaves out. */
  defaults?(inputs: Props, name: string): Props;
  /** What is wrong with the inputs, by input. Those that are unknown are to be left alone. */
  problems?(inputs: Props): Record<string, string>;
  /** Makes it; the outputs are `read`'s where there is one. */
  create(inputs: Props, context: Context): Promise<{ id: string; outputs?: Props }>;
  /** Waits until what was created can be used. If it fails, the state has it all the same. */
  ready?(id: string, inputs: Props, context: Context): Promise<void>;
  /**
   * What the server holds, as inputs and outputs; undefined if it's gone. A key with the value undefined
   * is gone from the state too; one that is left out stays as the state has it.
   */
  read?(id: string, state: Props, context: Context): Promise<Props | undefined>;
  /** Returns further outputs. Without it, every change is a replacement. */
  update?(change: Change, context: Context): Promise<Props | undefined>;
  delete?(id: string, state: Props, context: Context): Promise<void>;
}

export type Invoke = (args: Props, context: Context) => Promise<Props>;

export interface Provider {
  name: string;
  version: string;
  resources: Record<string, Resource>;
  invokes?: Record<string, Invoke>;
}

/** The inputs that differ, and whether each of them replaces the resource. */
export function changes(
  resource: Resource,
  oldInputs: Props,
  inputs: Props,
): Map<string, { replace: boolean }> {
  const found = new Map<string, { replace: boolean }>();
  const replaceOn = [...resource.replaceOn, ...(resource.replaceAlso?.(inputs) ?? [])];
  for (const key of new Set([...Object.keys(oldInputs), ...Object.keys(inputs)])) {
    if (key === "__defaults") continue;
    if (!hasUnknown(inputs[key]) && sameInput(resource, key, oldInputs[key], inputs[key])) continue;
    found.set(key, {
      replace: resource.update === undefined || replaceOn.includes("*") || replaceOn.includes(key),
    });
  }
  return found;
}

/** Whether two values of an input mean the same. */
export function sameInput(resource: Resource, key: string, a: unknown, b: unknown): boolean {
  if (equal(a, b)) return true;
  if (resource.json?.includes(key)) return equal(parsed(a), parsed(b));
  if (resource.sets?.includes(key) && Array.isArray(a) && Array.isArray(b)) {
    return equal(a.map(canonical).sort(), b.map(canonical).sort());
  }
  // An empty list or map and none at all are one thing to the servers.
  return isEmpty(a) && isEmpty(b);
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null) return true;
  if (Array.isArray(value)) return value.length === 0;
  return isObject(value) && Object.keys(value).length === 0;
}

function parsed(value: unknown): unknown {
  if (typeof value !== "string") return value;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}
