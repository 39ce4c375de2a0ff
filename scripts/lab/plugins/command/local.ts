// command:local:Command: a script on this machine. Without `dir` it runs where the engine started the plugin.
import { text, textMap, texts } from "../protocol/props.ts";
import type { Resource } from "../protocol/resource.ts";
import { ended, run } from "./run.ts";
import { type Execute, previousOutput, scripted, shown } from "./shared.ts";

const execute: Execute = async (script, inputs, previous, context) => {
  const interpreter = texts(inputs, "interpreter") ?? [];
  const [program = "/bin/sh", ...args] = interpreter.length > 0 ? interpreter : ["/bin/sh", "-c"];
  const outcome = await run(
    {
      program,
      args: [...args, script],
      cwd: text(inputs, "dir") ?? process.cwd(),
      env: { ...process.env, ...textMap(inputs, "environment"), ...previousOutput(inputs, previous) },
      stdin: text(inputs, "stdin") ?? "",
      show: shown(inputs),
    },
    context,
  );
  if (outcome.code !== 0)
    throw new Error(`${ended(outcome)}: running ${JSON.stringify(script)}:\n${outcome.both}`);
  return outcome;
};

export const localCommand: Resource = {
  ...scripted(execute),
  problems: (inputs) =>
    Object.fromEntries(
      ["archivePaths", "assetPaths"]
        .filter((key) => inputs[key] !== undefined)
        .map((key) => [key, "the lab's command provider collects no files"]),
    ),
};
