// What local and remote commands have in common.
import { flag, text } from "../protocol/props.ts";
import type { Change, Context } from "../protocol/resource.ts";
import type { Props } from "../protocol/values.ts";
import type { Outcome, Run } from "./run.ts";

/** Runs `script` with a resource's inputs; `previous` holds the outputs of the run before. */
export type Execute = (script: string, inputs: Props, previous: Props, context: Context) => Promise<Outcome>;

/** Create, update and delete of a resource whose whole being is the output of a script. */
export function scripted(execute: Execute) {
  const outputs = async (script: string | undefined, inputs: Props, previous: Props, context: Context) => {
    if (script === undefined) return { stdout: previous.stdout ?? "", stderr: previous.stderr ?? "" };
    const { stdout, stderr } = await execute(script, inputs, previous, context);
    return { stdout: stdout.replace(/\n$/, ""), stderr: stderr.replace(/\n$/, "") };
  };
  return {
    computed: ["stdout", "stderr"],
    volatile: ["stdout", "stderr"],
    replaceOn: ["triggers"],
    secretIfAnyInput: true,
    create: async (inputs: Props, context: Context) => ({
      id: `${context.name}${randomHex()}`,
      outputs: await outputs(text(inputs, "create"), inputs, {}, context),
    }),
    update: ({ inputs, state }: Change, context: Context) =>
      outputs(text(inputs, "update") ?? text(inputs, "create"), inputs, state, context),
    delete: async (_id: string, state: Props, context: Context) => {
      const script = text(state, "delete");
      if (script !== undefined) await execute(script, state, state, context);
    },
  };
}

/** Which of a command's streams are shown. */
export function shown(inputs: Props): Run["show"] {
  const logging = text(inputs, "logging") ?? "stdoutAndStderr";
  return {
    stdout: logging === "stdout" || logging === "stdoutAndStderr",
    stderr: logging === "stderr" || logging === "stdoutAndStderr",
  };
}

/** What a rerun is told of the run before. */
export function previousOutput(inputs: Props, previous: Props): Record<string, string> {
  if (flag(inputs, "addPreviousOutputInEnv") === false) return {};
  const { stdout, stderr } = previous;
  return {
    ...(stdout ? { PULUMI_COMMAND_STDOUT: String(stdout) } : {}),
    ...(stderr ? { PULUMI_COMMAND_STDERR: String(stderr) } : {}),
  };
}

function randomHex(): string {
  return Math.floor(Math.random() * 2 ** 32)
    .toString(16)
    .padStart(8, "0");
}
