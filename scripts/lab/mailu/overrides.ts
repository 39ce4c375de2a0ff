// Files of overrides/nginx, which Mailu's front includes when it starts: the one form that this project writes,
// a fixed answer at one path.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const FIXED = /location\s*=\s*(\S+)\s*\{[^}]*?return\s+200\s+"((?:[^"\\]|\\.)*)"\s*;[^}]*\}/g;
const ESCAPES: Record<string, string> = { n: "\n", r: "\r", t: "\t" };

/** Path and text of every fixed answer; empty when there is no folder. */
export function fixedAnswers(dir: string): Map<string, string> {
  const answers = new Map<string, string>();
  for (const name of confFiles(dir)) {
    for (const [, path = "", text = ""] of readFileSync(join(dir, name), "utf8").matchAll(FIXED)) {
      answers.set(
        path,
        text.replace(/\\(.)/g, (_, char: string) => ESCAPES[char] ?? char),
      );
    }
  }
  return answers;
}

function confFiles(dir: string): string[] {
  try {
    return readdirSync(dir).filter((name) => name.endsWith(".conf"));
  } catch {
    return [];
  }
}
