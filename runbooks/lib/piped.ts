// Streams in a row, with one end to read from. A failure anywhere ends them all, and comes out at that end in words of
// whoever put them in a row.
import { createHash } from "node:crypto";
import { type Duplex, Readable, Transform, type TransformCallback, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setFlagsFromString } from "node:v8";

/** Bytes that may wait at the end: more would cost memory, fewer would have the reader wait. */
const WAITING = 1_048_576;

/**
 * @param explain turns whatever a stage failed with into what the reader gets. An error of `source` itself isn't asked
 *   for: it comes out as it is.
 */
export function piped(source: Readable, stages: Duplex[], explain: (error: unknown) => Error): Readable {
  const stop = new AbortController();
  let goOn: (() => void) | undefined;
  const out = new Readable({
    highWaterMark: WAITING,
    read: () => {
      const next = goOn;
      goOn = undefined;
      next?.();
    },
    destroy: (error, done) => {
      stop.abort();
      source.destroy();
      done(error);
    },
  });
  const end = new Writable({
    write(chunk, _encoding, done) {
      if (out.push(chunk)) done();
      else goOn = done;
    },
  });
  pipeline([Readable.from(marked(source), { objectMode: false }), ...stages, end], {
    signal: stop.signal,
  }).then(
    () => void out.push(null),
    (error) => void out.destroy(error instanceof SourceFailed ? error.cause : explain(error)),
  );
  // A failure that comes before anybody reads is met by whoever reads then.
  return out.on("error", () => {});
}

/**
 * To be called before megabytes pass. They lie outside V8's heap and yet have it look through all that lives within, every
 * 25 MiB: that took a sixth of a backup's time, on all cores. Half as often leaves hardly more of them lying about.
 */
export const collectSeldom = (): void => setFlagsFromString("--heap-growing-percent=150");

/** A row that fails destroys its source with the same error: so the source's own is marked. */
class SourceFailed extends Error {
  override readonly cause: Error;

  constructor(cause: Error) {
    super(cause.message);
    this.cause = cause;
  }
}

async function* marked(source: Readable): AsyncGenerator<Buffer> {
  try {
    yield* source;
  } catch (error) {
    throw new SourceFailed(error as Error);
  }
}

/** Lets bytes pass, and counts and hashes them. */
export class Meter extends Transform {
  bytes = 0;
  readonly #hash = createHash("sha256");
  #digest: string | undefined;
  readonly #onBytes: (bytes: number) => void;

  /** @param onBytes is told how many have passed so far. */
  constructor(onBytes: (bytes: number) => void = () => {}) {
    super();
    this.#onBytes = onBytes;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.bytes += chunk.length;
    this.#hash.update(chunk);
    this.#onBytes(this.bytes);
    done(null, chunk);
  }

  /** Of everything that has passed, in hex; only at its end. */
  sha256(): string {
    this.#digest ??= this.#hash.digest("hex");
    return this.#digest;
  }
}
