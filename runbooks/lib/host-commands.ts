// Several commands on a mail host in one round trip, side by side: a container's program takes a second to start, and
// in an incident nobody waits for them one by one.
import type { Settings } from "./settings.ts";
import { type HostAddress, onHost } from "./ssh.ts";

/** How one command ended. */
export interface Said {
  readonly code: number;
  /** Standard output, or standard error where there is no other. */
  readonly text: string;
}

/**
 * Runs shell commands at the same time and resolves to what each said, under the same names (plain words). They find
 * `subject` in $u, and nothing on standard input.
 * @throws RunbookError refused (4) for another host key, failed (1) when the host can't be reached; never for a
 *   command that fails.
 */
export async function onHostTogether<Name extends string>(
  settings: Settings,
  host: HostAddress,
  commands: Record<Name, string>,
  options: { subject: string; timeoutSeconds: number; nothingSecret?: boolean },
): Promise<Record<Name, Said>> {
  const names = Object.keys(commands) as Name[];
  // With a full disk there is still room in memory.
  const script = `u=${quoted(options.subject)}
t=$(mktemp -d 2>/dev/null || mktemp -d /dev/shm/XXXXXXXX) || exit 1
trap 'rm -rf "$t"' EXIT
${names.map((name) => inBackground(name, commands[name])).join("\n")}
wait
for name in ${names.join(" ")}; do
  [ -s "$t/$name" ] || mv "$t/$name.err" "$t/$name"
  echo "$name $(cat "$t/$name.code") $(base64 <"$t/$name" | tr -d '\\n')"
done`;
  const { subject: _, ...how } = options;
  const stdout = await onHost(settings, host, script, how);
  const said = new Map(stdout.split("\n").map((line) => [line.split(" ")[0], parse(line)]));
  return Object.fromEntries(
    names.map((name) => [name, said.get(name) ?? { code: 1, text: "no answer" }]),
  ) as Record<Name, Said>;
}

const inBackground = (name: string, command: string): string =>
  `( ( ${command}\n) >"$t/${name}" 2>"$t/${name}.err" </dev/null; echo $? >"$t/${name}.code" ) &`;

/** One line of the script's: name, exit code, what it said in base64 (a text may hold anything). */
function parse(line: string): Said {
  const [, code = "1", base64 = ""] = line.split(" ");
  return { code: Number(code), text: Buffer.from(base64, "base64").toString("utf8") };
}

/** As one word that no shell interprets. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
