// command:remote:Command: a script on another host. It has no read: what happens inside a host is no drift.
import { object, text } from "../protocol/props.ts";
import type { Resource } from "../protocol/resource.ts";
import type { Props } from "../protocol/values.ts";
import { ended } from "./run.ts";
import { type Execute, scripted, shown } from "./shared.ts";
import { overSsh, UNSUPPORTED } from "./ssh.ts";

const execute: Execute = async (script, inputs, _previous, context) => {
  const input = { stdin: text(inputs, "stdin") ?? "", show: shown(inputs) };
  const outcome = await overSsh(object(inputs, "connection") ?? {}, script, input, context);
  if (outcome.code === 0) return outcome;
  throw new Error(
    `Process ${ended(outcome).replace("exit", "exited with")}: running ${JSON.stringify(script)}:\n${outcome.both}`,
  );
};

/** What a connection asks for and doesn't get: said at preview, before anything runs. */
function problems(inputs: Props): Record<string, string> {
  const connection = inputs.connection;
  const asked = UNSUPPORTED.filter((key) => (connection as Props | undefined)?.[key] !== undefined);
  return {
    ...Object.fromEntries(
      asked.map((key) => [
        `connection.${key}`,
        "the lab's command provider doesn't know it: use the ssh agent",
      ]),
    ),
    ...(inputs.environment === undefined
      ? {}
      : { environment: "sshd accepts no variables by default: put them into the script" }),
  };
}

export const remoteCommand: Resource = { ...scripted(execute), problems };
