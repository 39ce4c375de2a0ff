// Nested settings: AWS names their parts in PascalCase and adds defaults, Pulumi uses camelCase. So what the
// server holds is compared with what would be written; only a difference makes it to the state.
import { isObject, type Props } from "../protocol/values.ts";

/**
 * The state's own value if `found` is what writing it gives, else `found` in Pulumi's spelling.
 * `written` is `value` as it would be sent.
 */
export function unlessDrifted(value: unknown, written: unknown, found: unknown): unknown {
  return covers(found, written) ? value : camel(found);
}

/** Whether `found` has everything that `written` has; lists must be as long. */
export function covers(found: unknown, written: unknown): boolean {
  if (written === undefined || written === null || written === false || written === "") return !found;
  if (Array.isArray(written)) {
    const items: unknown[] = Array.isArray(found) ? found : [];
    return (
      items.length === written.length && written.every((item) => items.some((other) => covers(other, item)))
    );
  }
  if (isObject(written)) {
    return isObject(found) && Object.entries(written).every(([key, part]) => covers(found[key], part));
  }
  return String(found) === String(written);
}

/** `props` without what is undefined, its keys in PascalCase unless `names` has another word for them. */
export function pascal(value: unknown, names: Readonly<Record<string, string>> = {}): unknown {
  if (Array.isArray(value)) return value.map((item) => pascal(item, names));
  if (!isObject(value)) return value;
  return mapKeys(
    value,
    (key) => names[key] ?? capital(key),
    (part) => pascal(part, names),
  );
}

function camel(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camel);
  if (!isObject(value)) return value;
  return mapKeys(value, (key) => key.charAt(0).toLowerCase() + key.slice(1), camel);
}

const capital = (key: string): string => key.charAt(0).toUpperCase() + key.slice(1);

const mapKeys = (value: Props, name: (key: string) => string, map: (part: unknown) => unknown): Props =>
  Object.fromEntries(
    Object.entries(value)
      .filter(([, part]) => part !== undefined)
      .map(([key, part]) => [name(key), map(part)]),
  );
