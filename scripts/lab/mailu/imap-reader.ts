// Reads IMAP commands off a socket: quoted strings and literals, synchronising or not (RFC 3501, 4.3; RFC 7888).
import type { Socket } from "node:net";

/** Bytes of one literal; a login needs far fewer. */
const LITERAL_LIMIT = 64 * 1024;

export class ImapReader {
  readonly #chunks: AsyncIterator<Buffer>;
  readonly #say: (line: string) => void;
  #buffer = Buffer.alloc(0);

  /** `say` writes one line; needed to ask for a literal's bytes. */
  constructor(socket: Socket, say: (line: string) => void) {
    this.#chunks = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    this.#say = say;
  }

  /** The words of the next command, tag first; undefined at the end of the connection. */
  async command(): Promise<string[] | undefined> {
    const words: string[] = [];
    for (;;) {
      const line = await this.line();
      if (line === undefined) return undefined;
      const [, size, plus] = /\{(\d+)(\+?)\}$/.exec(line) ?? [];
      words.push(...split(size === undefined ? line : line.slice(0, line.lastIndexOf("{"))));
      if (size === undefined) return words;
      if (Number(size) > LITERAL_LIMIT) return undefined;
      if (plus !== "+") this.#say("+ OK");
      const literal = await this.#take(Number(size));
      if (literal === undefined) return undefined;
      words.push(literal.toString("utf8"));
    }
  }

  /** The next line without its end; undefined at the end of the connection. */
  async line(): Promise<string | undefined> {
    for (;;) {
      const end = this.#buffer.indexOf("\n");
      if (end >= 0) return (await this.#take(end + 1))?.toString("utf8").replace(/\r?\n$/, "");
      if (!(await this.#more())) return undefined;
    }
  }

  async #take(size: number): Promise<Buffer | undefined> {
    while (this.#buffer.length < size) if (!(await this.#more())) return undefined;
    const taken = this.#buffer.subarray(0, size);
    this.#buffer = this.#buffer.subarray(size);
    return taken;
  }

  async #more(): Promise<boolean> {
    const { done, value } = await this.#chunks.next();
    if (done) return false;
    this.#buffer = Buffer.concat([this.#buffer, value]);
    return true;
  }
}

/** Atoms and quoted strings; what stands in parentheses is passed on as it is. */
const split = (text: string): string[] =>
  Array.from(text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g), ([, quoted, atom]) =>
    quoted === undefined ? (atom ?? "") : quoted.replace(/\\(.)/g, "$1"),
  );
