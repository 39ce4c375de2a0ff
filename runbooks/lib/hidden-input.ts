// Reading a secret: from a terminal without showing it, else from standard input, to its end. It may have several lines.
import { Interrupted, RunbookError } from "./errors.ts";
import { registerSecret } from "./redact.ts";
import type { Io } from "./terminal.ts";

export interface HiddenQuestion {
  /** What is to be typed or pasted. */
  question: string;
  /** Whether that is all of it, line by line; on a terminal only. By default one line is all. */
  isComplete?: (text: string) => boolean;
  /** On a terminal: what is said behind a line when that isn't all of it, such as what comes next. */
  more?: (text: string) => string;
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
  const { question } = how;
  const given = io.stdin.isTTY === true ? await typed(io, how) : await piped(io.stdin);
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

/** All of it in one go: a terminal that is let go between two lines shows what is typed just then. */
function typed({ stdin, stderr }: Pick<Io, "stdin" | "stderr">, how: HiddenQuestion): Promise<string> {
  const { question, isComplete = () => true, more } = how;
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let text = "";
  const take = (chunk: Buffer | string) => {
    for (const key of String(chunk)) {
      if (key === CTRL_C) return reject(new Interrupted("ended at a question"));
      if (key === CTRL_D) return resolve(text);
      if (BACKSPACE.includes(key)) text = text.slice(0, -1);
      else text += key === "\r" ? "\n" : key;
      if (text.length > LONGEST) return reject(new RunbookError("that is too long", { exit: "usage" }));
      const line = text.endsWith("\n") ? text.slice(text.lastIndexOf("\n", text.length - 2) + 1) : "";
      if (line.trim() === "") continue;
      if (isComplete(text)) return resolve(text);
      if (more !== undefined) stderr.write(more(text));
    }
  };
  const ended = () => resolve(text);
  stdin.setRawMode?.(true);
  stdin.on("data", take);
  stdin.once("end", ended);
  stdin.resume();
  stderr.write(`${question} (it isn't shown): `);
  return promise.finally(() => {
    stdin.off("data", take);
    stdin.off("end", ended);
    stdin.setRawMode?.(false);
    stdin.pause();
    stderr.write("\n");
  });
}
