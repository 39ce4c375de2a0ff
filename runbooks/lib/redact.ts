// Secrets are registered once, where they come into being; whatever is printed or stored passes here.
// Registering a form too many costs a few characters of a log, one too few costs a credential.
const MARK = "[redacted]";
const SHORTEST = 6;
const SHORTEST_BASE64_CORE = 8;

const registered = new Set<string>();
/** All known forms by how they begin, so that the secrets of hundreds of tenants cost no more time than those of one. */
const forms = new Map<string, string[]>();

/**
 * From now on `value` is shown as [redacted], and so are its base64 (also as a part of something longer, as
 * in a Basic header), base64url, URI, JSON and shell forms, and each long line of a secret of several lines.
 * Values under 6 characters are ignored: they would blot out ordinary text.
 */
export function registerSecret(value: string): void {
  if (registered.has(value)) return;
  registered.add(value);
  for (const form of [value, value.trim(), ...longLines(value)].flatMap(encodings)) {
    if (form.length < SHORTEST) continue;
    const alike = forms.get(form.slice(0, SHORTEST)) ?? [];
    if (!alike.includes(form)) alike.push(form);
    forms.set(form.slice(0, SHORTEST), alike);
  }
}

/** `text` without any registered secret. */
export function redact(text: string): string {
  let clean = "";
  let shown = 0;
  for (const { from, to } of secretsIn(text)) {
    clean += text.slice(shown, from) + MARK;
    shown = to;
  }
  return clean + text.slice(shown);
}

/** Where secrets stand. Forms that overlap are one: what a short one leaves of a long one must not stay readable. */
function secretsIn(text: string): { from: number; to: number }[] {
  const found: { from: number; to: number }[] = [];
  for (let from = 0; from <= text.length - SHORTEST; from++) {
    for (const form of forms.get(text.slice(from, from + SHORTEST)) ?? []) {
      if (!text.startsWith(form, from)) continue;
      const last = found.at(-1);
      const to = from + form.length;
      if (last === undefined || from >= last.to) found.push({ from, to });
      else last.to = Math.max(last.to, to);
    }
  }
  return found;
}

/** The same for every string (keys too) of a JSON-able value. */
export function redactDeep<T>(value: T): T {
  if (typeof value === "string") return redact(value) as T;
  if (Array.isArray(value)) return value.map(redactDeep) as T;
  if (typeof value !== "object" || value === null || "toJSON" in value) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [redact(key), redactDeep(inner)]),
  ) as T;
}

function longLines(value: string): string[] {
  const lines = value.split(/\r?\n/);
  if (lines.length === 1) return [];
  return lines.filter((line) => line.length >= 16 && !line.startsWith("-----"));
}

function encodings(value: string): string[] {
  if (value.length < SHORTEST) return [];
  const json = JSON.stringify(value).slice(1, -1);
  return [
    value,
    ...base64Forms(value),
    encodeURIComponent(value.toWellFormed()),
    new URLSearchParams([["", value]]).toString().slice(1),
    json,
    JSON.stringify(json).slice(1, -1),
    value.replaceAll("'", "'\\''"),
    value.replaceAll("'", "'\"'\"'"),
    value.replace(/[\\'"$`]/g, "\\$&"),
    value.replace(/[\\']/g, "\\$&").replaceAll("\n", "\\n").replaceAll("\r", "\\r").replaceAll("\t", "\\t"),
  ];
}

/** Whole, and as it looks inside a longer text's base64, where it can begin at any of three alignments. */
function base64Forms(value: string): string[] {
  const bytes = Buffer.from(value);
  const whole = bytes.toString("base64");
  const found = [whole, whole.replace(/=+$/, "")];
  for (const before of [0, 1, 2]) {
    const shifted = Buffer.concat([Buffer.alloc(before), bytes])
      .toString("base64")
      .replace(/=+$/, "");
    const firstWhole = before === 0 ? 0 : before + 1;
    const partial = (before + bytes.length) % 3 === 0 ? 0 : 1;
    const core = shifted.slice(firstWhole, shifted.length - partial);
    if (core.length >= SHORTEST_BASE64_CORE) found.push(core);
  }
  return found.flatMap((form) => [form, form.replaceAll("+", "-").replaceAll("/", "_")]);
}
