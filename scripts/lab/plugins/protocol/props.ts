// Reads single properties with the type they must have: what a program passes is checked here, once.
import { isObject, type Props } from "./values.ts";

export const text = (props: Props, key: string): string | undefined => typed(props, key, "string");
export const number = (props: Props, key: string): number | undefined => typed(props, key, "number");
export const flag = (props: Props, key: string): boolean | undefined => typed(props, key, "boolean");

/** As `text`, for a property that must be there. */
export function needed(props: Props, key: string): string {
  const value = text(props, key);
  if (value === undefined) throw new Error(`'${key}' is missing`);
  return value;
}

/** A list of texts. */
export function texts(props: Props, key: string): string[] | undefined {
  const value = props[key];
  if (value === undefined) return undefined;
  if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
  throw new Error(`'${key}' must be a list of texts`);
}

/** A map of texts; numbers and booleans in it become texts. */
export function textMap(props: Props, key: string): Record<string, string> | undefined {
  const value = object(props, key);
  return value && Object.fromEntries(Object.entries(value).map(([name, item]) => [name, String(item)]));
}

export function object(props: Props, key: string): Props | undefined {
  const value = props[key];
  if (value === undefined || isObject(value)) return value;
  throw new Error(`'${key}' must be an object`);
}

/** A list of objects. */
export function objects(props: Props, key: string): Props[] {
  const value = props[key] ?? [];
  if (Array.isArray(value) && value.every(isObject)) return value;
  throw new Error(`'${key}' must be a list of objects`);
}

/** The properties that are there and named. */
export function pick(props: Props, keys: readonly string[]): Props {
  return Object.fromEntries(keys.filter((key) => props[key] !== undefined).map((key) => [key, props[key]]));
}

interface Types {
  string: string;
  number: number;
  boolean: boolean;
}

function typed<T extends keyof Types>(props: Props, key: string, type: T): Types[T] | undefined {
  const value = props[key];
  if (value === undefined) return undefined;
  if (typeof value !== type) throw new Error(`'${key}' must be a ${type}, not ${JSON.stringify(value)}`);
  return value as Types[T];
}
