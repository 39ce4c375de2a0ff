// Searching for secrets wherever something could have left them: in files, archives, and what processes show of
// themselves. What is found is told by its name, never by its value.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

/** A secret and the name by which a finding tells of it. */
export interface Secret {
  what: string;
  value: string;
}

/** Names of those of `secrets` that occur in a text. */
export type Search = (text: string) => string[];

/** Looks for each secret plain, in base64 (at any place of a longer text), URL-encoded and JSON-escaped. */
export function searchFor(secrets: readonly Secret[]): Search {
  const needles = secrets.flatMap(({ what, value }) => forms(value).map((form) => ({ what, form })));
  return (text) => [...new Set(needles.filter(({ form }) => text.includes(form)).map(({ what }) => what))];
}

/**
 * Every form of a secret. Of a private key two lines stand for all: its first and, in an elliptic one, its last hold
 * the public half, which lies in certificates and in DNS.
 */
export function forms(value: string): string[] {
  const lines = value.split("\n").filter((line) => line.length > 20 && !line.startsWith("-----"));
  const chosen = new Set([lines[lines.length >> 1], lines.at(-2)].filter((line) => line !== undefined));
  return [...chosen].flatMap((line) => [
    line,
    ...[0, 1, 2].flatMap((before) => base64Core(line, before)),
    encodeURIComponent(line),
    JSON.stringify(line).slice(1, -1),
  ]);
}

/** Base64 and base64url of what begins `before` bytes into a group of three, without what its neighbours decide. */
function base64Core(text: string, before: number): string[] {
  const whole = Buffer.concat([Buffer.alloc(before), Buffer.from(text)]).toString("base64");
  const core = whole.replace(/=+$/, "").slice(before === 0 ? 0 : before + 1, -1);
  return [core, core.replaceAll("+", "-").replaceAll("/", "_")];
}

/** All plain files below a folder; what vanishes meanwhile, or may not be read, is left out. */
export function filesUnder(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return filesUnder(path);
      return entry.isFile() ? [path] : [];
    });
  } catch {
    return [];
  }
}

/** A file's bytes as Latin-1, unpacked if they are gzip; empty if it has vanished. */
export function contentOf(file: string): string {
  try {
    const bytes = readFileSync(file);
    return (bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes).toString("latin1");
  } catch {
    return "";
  }
}

/** The files among `files` that hold something, with what they hold. */
export function findings(search: Search, files: readonly string[]): { file: string; holds: string[] }[] {
  return files
    .map((file) => ({ file, holds: search(contentOf(file)) }))
    .filter(({ holds }) => holds.length > 0);
}

/** When a file was last written, in milliseconds; 0 if it has vanished. */
export function writtenAt(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** Runs `work` while looking again and again at the arguments and the environment of every process. */
export async function watchProcesses<T>(
  work: () => Promise<T>,
): Promise<{ result: T; args: string; environment: string }> {
  const seen = { cmdline: new Set<string>(), environ: new Set<string>() };
  let over = false;
  const watching = (async () => {
    while (!over) {
      for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)))
        for (const file of ["cmdline", "environ"] as const) seen[file].add(contentOf(`/proc/${pid}/${file}`));
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  })();
  try {
    const result = await work();
    over = true;
    await watching;
    const text = (set: Set<string>) => [...set].join("\n").replaceAll("\0", " ");
    return { result, args: text(seen.cmdline), environment: text(seen.environ) };
  } finally {
    over = true;
  }
}
