// Env files and `${VARIABLES}` as compose reads them. A `$` in an unquoted value is an interpolation, which is
// what a password with one in it falls for.
import { readFileSync } from "node:fs";
import { DockerError } from "./docker-error.ts";

/** The variables of an env file; `known` are those that its values may refer to. */
export function envFile(path: string, known: Record<string, string>): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [index, raw] of readFileSync(path, "utf8").split("\n").entries()) {
    const line = raw.trim().replace(/^export\s+/, "");
    if (line === "" || line.startsWith("#")) continue;
    const [, key, value] = /^([A-Za-z_][\w.]*)\s*=\s*(.*)$/.exec(line) ?? [];
    if (key === undefined || value === undefined) {
      throw new DockerError(
        `failed to read ${path}: line ${index + 1}: unexpected character in variable name ${JSON.stringify(line.split("=")[0])}`,
      );
    }
    env[key] = unquoted(value, { ...known, ...env }, path);
  }
  return env;
}

/** Where a text comes from, for messages. */
export interface Source {
  file: string;
  /** Whether to say on standard error that a variable isn't set. */
  warn: boolean;
}

/** Replaces `$VAR`, `${VAR}`, `${VAR:-default}`, `${VAR:?message}` and `$$`. */
export function interpolate(text: string, env: Record<string, string>, { file, warn }: Source): string {
  return text.replace(
    /\$(?:\$|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:?[-?+])([^}]*))?\}|)/g,
    (all, bare?: string, braced?: string, operator?: string, word = "") => {
      if (all === "$$") return "$";
      const name = bare ?? braced;
      if (name === undefined) {
        throw new DockerError(
          `invalid interpolation format in ${file}: "${text}". You may need to escape any $ with another $`,
          15,
        );
      }
      const value = env[name];
      const missing = operator?.startsWith(":") ? !value : value === undefined;
      if (operator?.endsWith("+")) return missing ? "" : word;
      if (!missing) return value ?? "";
      if (operator?.endsWith("?")) {
        throw new DockerError(`required variable ${name} is missing a value: ${word}`, 15);
      }
      if (operator === undefined && warn) {
        console.error(
          `level=warning msg="The \\"${name}\\" variable is not set. Defaulting to a blank string."`,
        );
      }
      return word;
    },
  );
}

function unquoted(value: string, known: Record<string, string>, file: string): string {
  const [, quote, inner] = /^(['"])(.*)\1(?:\s+#.*)?$/.exec(value) ?? [];
  if (quote === "'" && inner !== undefined) return inner;
  const text =
    inner === undefined
      ? value.replace(/\s+#.*$/, "")
      : inner.replace(/\\n/g, "\n").replace(/\\(["\\])/g, "$1");
  return interpolate(text, known, { file, warn: true });
}
