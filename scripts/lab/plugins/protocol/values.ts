// Values as the engine sends them: plain JSON, in which secrets, outputs and unknowns are marked by fixed
// signatures. What a resource works with is the plain value; what goes back must be marked again, or the
// state would hold a secret in the clear.

/** Properties of a resource: plain JSON values, no marks, nothing undefined. */
export type Props = Record<string, unknown>;
/** The same as it travels: with marks. */
export type WireProps = Record<string, unknown>;

const SIGNATURE = "4dabf18193072939515e22adb298388d";
const SECRET = "1b47061264138c4ac30d75fd1eb44270";
const OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4";

/** Stands for any value that isn't known before the change is made. */
export const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
const UNKNOWNS: ReadonlySet<unknown> = new Set([
  UNKNOWN,
  "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7", // boolean
  "3eeb2bf0-c639-47a8-9e75-3b44932eb421", // number
  "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2", // array
  "030794c1-ac77-496b-92df-f27374a8bd58", // asset
  "e48ece36-62e2-4504-bad9-02848725956a", // archive
  "dd056dcd-154b-4c76-9bd3-c8f88648b5ff", // object
]);

/** Marks a value as secret. */
export const asSecret = (value: unknown): unknown => ({ [SIGNATURE]: SECRET, value });

/** The value without its marks; an output that isn't known becomes UNKNOWN. */
export function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (!isObject(value)) return value;
  if (value[SIGNATURE] === SECRET) return plain(value.value);
  if (value[SIGNATURE] === OUTPUT) return "value" in value ? plain(value.value) : UNKNOWN;
  return plainProps(value);
}

/** As `plain`, for a whole set of properties; those that are null are left out. */
export function plainProps(props: WireProps): Props {
  return Object.fromEntries(
    Object.entries(props)
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([key, value]) => [key, plain(value)]),
  );
}

export const hasSecret = (value: unknown): boolean =>
  some(
    value,
    (part) =>
      isObject(part) && (part[SIGNATURE] === SECRET || (part[SIGNATURE] === OUTPUT && part.secret === true)),
  );

export const hasUnknown = (value: unknown): boolean =>
  some(
    value,
    (part) => UNKNOWNS.has(part) || (isObject(part) && part[SIGNATURE] === OUTPUT && !("value" in part)),
  );

/** Whether two plain values are the same, whatever the order of their keys. */
export const equal = (a: unknown, b: unknown): boolean => canonical(a) === canonical(b);

/** One text for all values that are equal. */
export function canonical(value: unknown): string {
  return (
    JSON.stringify(value, (_key, part: unknown) =>
      isObject(part)
        ? Object.fromEntries(
            Object.entries(part)
              .filter(([, inner]) => inner !== null && inner !== undefined)
              .sort(([left], [right]) => (left < right ? -1 : 1)),
          )
        : part,
    ) ?? ""
  );
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function some(value: unknown, matches: (part: unknown) => boolean): boolean {
  if (matches(value)) return true;
  if (Array.isArray(value)) return value.some((part) => some(part, matches));
  return isObject(value) && Object.values(value).some((part) => some(part, matches));
}
