// A file of lines, read a piece at a time: a log may hold years, and who adds a line to it shouldn't have to hold them too.
import * as fs from "node:fs";

const PIECE = 65_536;
const NEWLINE = 10;

/**
 * Yields whole lines, newlines included, as many as fit into a piece; what was yielded is overwritten by the next one.
 * Returns the bytes behind the last newline. A file that isn't there has no lines.
 * @param from where to begin, in bytes: the beginning of a line.
 */
export function* wholeLines(file: string, from = 0): Generator<Buffer, Buffer> {
  const fd = openIfThere(file);
  if (fd === undefined) return Buffer.alloc(0);
  let buffer = Buffer.allocUnsafe(PIECE);
  let [kept, at] = [0, from];
  try {
    for (;;) {
      // A line that is longer than a piece.
      if (kept === buffer.length) buffer = Buffer.concat([buffer], 2 * buffer.length);
      const read = fs.readSync(fd, buffer, kept, buffer.length - kept, at + kept);
      if (read === 0) return Buffer.from(buffer.subarray(0, kept));
      const filled = kept + read;
      const end = buffer.lastIndexOf(NEWLINE, filled - 1) + 1;
      if (end > 0) yield buffer.subarray(0, end);
      buffer.copyWithin(0, end, filled);
      kept = filled - end;
      at += end;
    }
  } finally {
    fs.closeSync(fd);
  }
}

/** How many lines these are. */
export function countLines(lines: Buffer): number {
  let count = 0;
  for (let at = lines.indexOf(NEWLINE); at !== -1; at = lines.indexOf(NEWLINE, at + 1)) count += 1;
  return count;
}

/** The last of these lines, without its newline; a copy. */
export function lastLine(lines: Buffer): Buffer {
  const end = lines.length - 1;
  const begin = end === 0 ? 0 : lines.lastIndexOf(NEWLINE, end - 1) + 1;
  return Buffer.from(lines.subarray(begin, end));
}

function openIfThere(file: string): number | undefined {
  try {
    return fs.openSync(file, "r");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}
