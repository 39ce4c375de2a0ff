// Reading a secret: from a terminal without showing it, else from standard input, to its end. It may have several lines.
import { Interrupted, RunbookError } from "./errors.ts";
import { registerSecret } from "./redact.ts";
import type { Io } from "./terminal.ts";

export interface HiddenQuestion {
  /** What is to be typed or pasted. */
  question: string;
  /** Whether that is all of it, line by line; on a terminal only. By default one line is all. */
  isComplete?: (text: string) => boolean;
}

const CTRL_C = "\u0003";
const CTRL_D = "\u0004";
const BACKSPACE = ["\u0008", "\u007f"];
/** Characters after which it can be no secret of ours. */
const LONGEST = 65_536;

/**
 * The answer, trimmed and registered as a secret.
 * @throws RunbookError (exit 2) when nothing comes; Interrupted for Ctrl-C.
 */
export async function readHidden(io: Pick<Io, "stdin" | "stderr">, how: HiddenQuestion): Promise<string> {
  const { question, isComplete = () => true } = how;
  const { stdin, stderr } = io;
  let given: string;
  if (stdin.isTTY === true) {
    stderr.write(`${question} (it isn't shown): `);
    given = await typed(stdin, isComplete).finally(() => stderr.write("\n"));
  } else {
    given = await piped(stdin);
  }
  const secret = given.trim();
  if (secret === "")
    throw new RunbookError(`${question}: nothing was given`, {
      exit: "usage",
      next: "type it, or pipe it in",
    });
  registerSecret(secret);
  return secret;
}

async function piped(stdin: Io["stdin"]): Promise<string> {
  let text = "";
  for await (const chunk of stdin) {
    text += String(chunk);
    if (text.length > LONGEST) throw new RunbookError("standard input is too long", { exit: "usage" });
  }
  return text;
}

function typed(stdin: Io["stdin"], isComplete: (text: string) => boolean): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let text = "";
  const take = (chunk: Buffer | string) => {
    for (const key of String(chunk)) {
      if (key === CTRL_C) return reject(new Interrupted("ended at a question"));
      if (key === CTRL_D) return resolve(text);
      if (BACKSPACE.includes(key)) text = text.slice(0, -1);
      else text += key === "\r" ? "\n" : key;
      if (text.length > LONGEST) return reject(new RunbookError("that is too long", { exit: "usage" }));
      if (text.endsWith("\n") && text.trim() !== "" && isComplete(text)) return resolve(text);
    }
  };
  const ended = () => resolve(text);
  stdin.setRawMode?.(true);
  stdin.on("data", take);
  stdin.once("end", ended);
  stdin.resume();
  return promise.finally(() => {
    stdin.off("data", take);
    stdin.off("end", ended);
    stdin.setRawMode?.(false);
    stdin.pause();
  });
}
