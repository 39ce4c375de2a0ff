// The outer form of a sealed file: version, keys and the row of frames, looked at before anything is decrypted. The
// Encryption SDK authenticates what is inside, but of unsigned messages it ignores what follows the last frame, and
// what is out of its row can end the whole process. Format: AWS Encryption SDK, message format version 2.
import { Transform, type TransformCallback } from "node:stream";

/** `unavailable`: the key's keeper (KMS) refused or couldn't be asked. */
export type SealProblem =
  | "empty"
  | "unknown-version"
  | "truncated"
  | "damaged"
  | "unknown-key"
  | "wrong-key"
  | "wrong-context"
  | "unavailable";

/** Why a sealed file doesn't open, in a sentence without a full stop. */
export class SealError extends Error {
  readonly problem: SealProblem;

  constructor(problem: SealProblem, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "SealError";
    this.problem = problem;
  }
}

/** A key that a file is sealed to, by its provider's name for it. */
export interface SealedTo {
  provider: string;
  key: string;
}

export interface SealedHeader {
  sealedTo: SealedTo[];
  /** Bytes of plaintext in each frame but the last. */
  frameLength: number;
  /** Bytes of the header itself. */
  length: number;
}

const VERSION = 2;
/** AES-256-GCM, HKDF-SHA-512, key commitment, unsigned. */
export const SUITE = 0x0478;
const FRAMED = 2;
const IV = 12;
const TAG = 16;
const COMMITMENT = 32;
const MESSAGE_ID = 32;
const FINAL = 0xffff_ffff;
/** Ours has less than 2 KiB; KMS itself takes no context over 8 KiB. */
const LONGEST_HEADER = 65_536;

/**
 * The header at the beginning of `bytes`; undefined while there is too little of it.
 * @throws SealError for what is no sealed file of ours.
 */
export function readSealedHeader(bytes: Buffer): SealedHeader | undefined {
  if (bytes.length === 0) return undefined;
  if (bytes[0] !== VERSION)
    throw new SealError("unknown-version", `it begins with ${bytes[0]}, which is no version known here`);
  const at = cursor(bytes);
  at.skip(1);
  const suite = at.uint16();
  if (suite !== undefined && suite !== SUITE)
    throw new SealError(
      "unknown-version",
      `its algorithm ${hex(suite)} isn't ${hex(SUITE)}, the only one used here`,
    );
  at.skip(MESSAGE_ID);
  at.skip(at.uint16());
  const sealedTo: SealedTo[] = [];
  for (let left = at.uint16() ?? 0; left > 0 && !at.short(); left--) {
    const provider = at.text();
    const key = at.text();
    at.skip(at.uint16());
    // A key of AES has nonce and lengths behind its name.
    sealedTo.push({ provider, key: key.replace(/[^\x20-\x7e][\s\S]*$/, "") });
  }
  const contentType = at.uint8();
  const frameLength = at.uint32() ?? 0;
  at.skip(COMMITMENT + TAG);
  if (!at.short() && (contentType !== FRAMED || frameLength === 0))
    throw damaged("its header isn't one of frames");
  if (!at.short()) return { sealedTo, frameLength, length: at.position() };
  if (bytes.length > LONGEST_HEADER) throw damaged("its header has no end");
  return undefined;
}

/**
 * Lets a sealed file pass and follows its frames. What isn't one whole file fails before the bytes in question are
 * passed on: frames out of order, too long, missing at the end, and anything behind the last one.
 */
export class SealedMessage extends Transform {
  header: SealedHeader | undefined;
  readonly #onHeader: (header: SealedHeader) => void;
  #head = Buffer.alloc(0);
  /** Bytes left of the frame that is passing, its tag included. */
  #left = 0;
  #isLast = false;
  #frame = 0;
  #ended = false;

  /** @param onHeader is called before a byte has passed; what it throws is the stream's error. */
  constructor(onHeader: (header: SealedHeader) => void = () => {}) {
    super();
    this.#onHeader = onHeader;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    try {
      this.#follow(chunk);
    } catch (error) {
      done(error as Error);
      return;
    }
    done(null, chunk);
  }

  override _flush(done: TransformCallback): void {
    if (this.#ended) done();
    else if (this.header === undefined && this.#head.length === 0)
      done(new SealError("empty", "it is empty"));
    else if (this.header === undefined) done(new SealError("truncated", "it ends within its header"));
    else done(new SealError("truncated", `it ends too early, in frame ${this.#frame || 1}`));
  }

  #follow(chunk: Buffer): void {
    let rest = chunk;
    if (this.header === undefined) {
      this.#head = Buffer.concat([this.#head, chunk]);
      this.header = readSealedHeader(this.#head);
      if (this.header === undefined) return;
      this.#onHeader(this.header);
      rest = this.#head.subarray(this.header.length);
      this.#head = Buffer.alloc(0);
    }
    while (rest.length > 0) {
      if (this.#ended) throw damaged(`${rest.length} or more bytes follow its last frame`);
      if (this.#left === 0) rest = this.#beginFrame(rest, this.header.frameLength);
      const taken = Math.min(this.#left, rest.length);
      this.#left -= taken;
      rest = rest.subarray(taken);
      if (this.#left === 0 && this.#isLast) this.#ended = true;
    }
  }

  /** Returns what follows the frame's own header; nothing of `bytes`, while that isn't complete. */
  #beginFrame(bytes: Buffer, frameLength: number): Buffer {
    const head = Buffer.concat([this.#head, bytes.subarray(0, LAST_HEAD)]);
    const isLast = head.length >= 4 && head.readUInt32BE(0) === FINAL;
    const length = isLast ? LAST_HEAD : HEAD;
    if (head.length < length) {
      this.#head = head;
      return bytes.subarray(bytes.length);
    }
    const number = head.readUInt32BE(isLast ? 4 : 0);
    if (number !== this.#frame + 1)
      throw damaged(`frame ${number} stands where frame ${this.#frame + 1} belongs`);
    const content = isLast ? head.readUInt32BE(LAST_HEAD - 4) : frameLength;
    if (content > frameLength) throw damaged(`frame ${number} is longer than a frame`);
    const rest = bytes.subarray(length - this.#head.length);
    this.#head = Buffer.alloc(0);
    this.#frame = number;
    this.#isLast = isLast;
    this.#left = content + TAG;
    return rest;
  }
}

/** Sequence number and IV; the last frame has a mark before and its length behind them. */
const HEAD = 4 + IV;
const LAST_HEAD = 4 + 4 + IV + 4;

export const damaged = (how: string, cause?: unknown): SealError =>
  new SealError("damaged", `it is damaged: ${how}`, { cause });

const hex = (number: number): string => `0x${number.toString(16).padStart(4, "0")}`;

/** Reads on as long as there is something; `short` once there was too little. */
function cursor(bytes: Buffer) {
  let position = 0;
  const take = (length: number): Buffer | undefined => {
    const start = position;
    position += length;
    return position <= bytes.length ? bytes.subarray(start, position) : undefined;
  };
  const uint16 = () => take(2)?.readUInt16BE();
  return {
    position: () => position,
    short: () => position > bytes.length,
    skip: (length: number | undefined) => void take(length ?? 0),
    uint8: () => take(1)?.readUInt8(),
    uint16,
    uint32: () => take(4)?.readUInt32BE(),
    text: () => take(uint16() ?? 0)?.toString("latin1") ?? "",
  };
}
