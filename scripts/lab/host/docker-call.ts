// One command line of `docker compose`, taken apart.
import { existsSync } from "node:fs";
import { DockerError } from "./docker-error.ts";

export interface Call {
  verb: string;
  /** The compose file. */
  file: string;
  flags: Set<string>;
  options: Record<string, string>;
  /** What follows the verb's flags: services, or for exec a service and its command. */
  rest: string[];
}

const WITH_VALUE = new Set(
  [
    "-f --file -p --project-name --project-directory --env-file --profile --format --wait-timeout -t --timeout --pull",
    "--ansi --progress -e --env -u --user -w --workdir -n --tail --since --scale -s --signal --status --filter",
  ].flatMap((line) => line.split(" ")),
);

/** Takes the arguments after `docker compose` apart; a flag after exec's service belongs to its command. */
export function parseCall(args: string[]): Call {
  const call: Call = { verb: "", file: "", flags: new Set(), options: {}, rest: [] };
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? "";
    if (call.verb === "exec" && call.rest.length > 0) {
      call.rest.push(...args.slice(index));
      break;
    }
    const [name = "", inline] = arg.startsWith("--") ? arg.split(/=(.*)/s) : [arg];
    if (!arg.startsWith("-")) {
      if (call.verb === "") call.verb = arg;
      else call.rest.push(arg);
    } else if (inline !== undefined) call.options[name] = inline;
    else if (takesValue(name, call.verb)) call.options[name] = args[++index] ?? "";
    else call.flags.add(name);
  }
  call.file = call.options["-f"] ?? call.options["--file"] ?? (call.verb === "version" ? "" : defaultFile());
  return call;
}

/** `logs -f` follows; everywhere else -f names the compose file. */
const takesValue = (name: string, verb: string): boolean =>
  WITH_VALUE.has(name) && !(verb === "logs" && ["-f", "-t"].includes(name));

function defaultFile(): string {
  const file = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"].find((name) =>
    existsSync(name),
  );
  if (file === undefined) throw new DockerError("no configuration file provided: not found", 14);
  return file;
}
