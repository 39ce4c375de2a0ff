// `flask mailu config-export` and `config-import` in Mailu's admin container (core/admin/mailu/manage.py and
// schemas.py), as far as users go: the way to an account that needs neither the API's token nor a password.
import { parse, stringify } from "yaml";
import type { Mailu } from "./api-call.ts";
import { exported, SECTIONS } from "./config-export.ts";
import { applyUsers, ValidationError } from "./config-import.ts";
import type { Ended } from "./exec-call.ts";

/** Runs `flask ARGS`; an exception ends it as click does, with the words on standard error. */
export function flask(mailu: Mailu, args: string[], stdin: string): Ended {
  const [group, command = "", ...rest] = args;
  const flags = new Set(rest.filter((word) => word.startsWith("-") && word !== "-").flatMap(letters));
  const words = rest.filter((word) => !word.startsWith("-") || word === "-");
  if (group !== "mailu" || !["config-export", "config-import"].includes(command)) {
    return failed(`No such command '${group === "mailu" ? command : group}'.`, 2);
  }
  const unknown = [...flags].find((flag) => !FLAGS[command]?.includes(flag));
  if (unknown !== undefined) return failed(`No such option: ${unknown}`, 2);
  if (command === "config-export") return configExport(mailu, flags, words);
  if (words.some((word) => word !== "-")) return failed("the lab's Mailu imports from standard input only");
  return configImport(mailu, flags, stdin);
}

const FLAGS: Record<string, string[]> = {
  "config-export": ["-f", "--full", "-s", "--secrets", "-c", "--color", "-d", "--dns", "-j", "--json"],
  "config-import": "-v --verbose -s --secrets -q --quiet -c --color -u --update -n --dry-run".split(" "),
};

/** `-uq` is `-u -q`. */
const letters = (word: string): string[] =>
  word.startsWith("--") ? [word] : Array.from(word.slice(1), (letter) => `-${letter}`);

const either = (flags: Set<string>, short: string, long: string): boolean =>
  flags.has(short) || flags.has(long);

function configExport(mailu: Mailu, flags: Set<string>, filters: string[]): Ended {
  const strange = filters.find((filter) => !SECTIONS.includes(filter.split(".")[0] ?? ""));
  if (strange !== undefined) return failed(`[ERROR] Unknown section: ${strange}`);
  const config = exported(mailu.store.db, filters, {
    full: either(flags, "-f", "--full"),
    secrets: either(flags, "-s", "--secrets"),
  });
  if (typeof config === "string") return failed(`[ERROR] Invalid filter: ${config}`);
  const stdout = either(flags, "-j", "--json") ? `${JSON.stringify(config)}\n` : stringify(config);
  return { code: 0, stdout, stderr: "" };
}

function configImport({ store }: Mailu, flags: Set<string>, stdin: string): Ended {
  // Without it the real one empties Mailu first, which nobody who repairs something wants.
  if (!either(flags, "-u", "--update")) return failed("the lab's Mailu imports in update mode only");
  const dryRun = either(flags, "-n", "--dry-run");
  const change = { modified: 0 };
  try {
    // PyYAML knows YAML 1.1, where `no` is false; JSON is YAML.
    const given: unknown = parse(stdin, { version: "1.1" });
    const next = structuredClone(store.db);
    change.modified = applyUsers(next, given);
    if (!dryRun) store.update((db) => void Object.assign(db, next));
  } catch (error) {
    if (error instanceof ValidationError) return failed(error.message);
    return failed(`[${(error as Error).name}] ${(error as Error).message.split(/\s+/).join(" ")}`);
  }
  if (either(flags, "-q", "--quiet")) return { code: 0, stdout: "", stderr: "" };
  const what = change.modified === 0 ? "No changes." : `Modified: user(${change.modified})`;
  const head = dryRun ? "Dry run. Not commiting changes." : "Committing changes.";
  return { code: 0, stdout: `${head} ${what}\n`, stderr: "" };
}

const failed = (message: string, code = 1): Ended => ({ code, stdout: "", stderr: `Error: ${message}\n` });
