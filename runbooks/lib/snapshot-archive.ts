// A raft snapshot as Vault streams it: a gzip'd tar of meta.json, state.bin, SHA256SUMS and SHA256SUMS.sealed. Vault
// can end such a stream early and call it a success (vault issue 12168), and restores one without its gzip trailer:
// so the whole of it is checked while it passes, and what isn't whole fails before its end is passed on.
import { createHash, type Hash } from "node:crypto";
import { Transform, type TransformCallback } from "node:stream";
import { createGunzip } from "node:zlib";
import { z } from "zod";
import { messageOf } from "./errors.ts";

/** Why a stream is no whole snapshot, in a sentence without a full stop. */
export class ArchiveError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "ArchiveError";
  }
}

const Meta = z.object({ Index: z.number().int().positive(), Term: z.number().int().positive() });

/** What a whole snapshot says of itself. */
export interface SnapshotMeta {
  /** The raft log's index up to which everything is in it. */
  index: number;
  term: number;
  /** Size of state.bin. */
  stateBytes: number;
}

/** Of what is unpacked at a time: by Node's 16 KiB the check takes longer than sealing does. */
const UNPACKED_BYTES = 262_144;

/** Lets a snapshot pass, byte for byte. `meta` is there once it has ended well. Constant memory. */
export class ArchiveCheck extends Transform {
  #meta: SnapshotMeta | undefined;
  #problem: Error | undefined;
  readonly #atLeast: number;
  #bytes = 0;
  /** For the chunk that is being unpacked. */
  #waiting: TransformCallback | undefined;
  readonly #tar = new TarCheck();
  readonly #gunzip = createGunzip({ chunkSize: UNPACKED_BYTES });
  readonly #unpacked = Promise.withResolvers<void>();

  /** @param atLeast the raft index of its canary: an older snapshot, whole as it may be, isn't the one asked for. */
  constructor(atLeast = 0) {
    super();
    this.#atLeast = atLeast;
    this.#gunzip.on("data", (chunk: Buffer) => this.#attempt(() => this.#tar.take(chunk)));
    this.#gunzip.once("end", this.#unpacked.resolve);
    this.#gunzip.once("error", (cause) => {
      const truncated = "code" in cause && cause.code === "Z_BUF_ERROR";
      const why = truncated
        ? `it ends too early, after ${this.#bytes} bytes`
        : `its gzip is damaged: ${cause.message}`;
      this.#problem ??= new ArchiveError(why, { cause });
      this.#unpacked.reject(this.#problem);
      // After a failure a write is never called back.
      this.#answer();
    });
    // It is waited for at the end only; a failure is met before.
    this.#unpacked.promise.catch(() => {});
  }

  /** @throws Error before the end. */
  get meta(): SnapshotMeta {
    if (this.#meta === undefined) throw new Error("the snapshot has not been read to its end");
    return this.#meta;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#bytes += chunk.length;
    this.#waiting = done;
    this.#gunzip.write(chunk, () => this.#answer(chunk));
  }

  override _flush(done: TransformCallback): void {
    if (this.#bytes === 0) {
      done(new ArchiveError("it is empty"));
      return;
    }
    this.#gunzip.end();
    this.#unpacked.promise
      .then(() => {
        const meta = this.#tar.finish();
        if (meta.index < this.#atLeast)
          throw new ArchiveError(
            `it is older than its canary: raft index ${meta.index}, and not ${this.#atLeast}`,
          );
        this.#meta = meta;
        done();
      })
      .catch((error) => done(this.#problem ?? error));
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#gunzip.destroy();
    done(error);
  }

  #answer(chunk?: Buffer): void {
    const done = this.#waiting;
    this.#waiting = undefined;
    done?.(this.#problem ?? null, chunk);
  }

  #attempt(act: () => void): void {
    if (this.#problem !== undefined) return;
    try {
      act();
    } catch (error) {
      this.#problem = error as Error;
      this.#gunzip.destroy(this.#problem);
    }
  }
}

const BLOCK = 512;
const STATE = "state.bin";
const SUMS = "SHA256SUMS";
const MEMBERS = ["meta.json", STATE, SUMS, `${SUMS}.sealed`] as const;
type Member = (typeof MEMBERS)[number];
/** Everything but state.bin is kept until the end; Vault's own are far below. */
const LARGEST_KEPT = 1_048_576;

interface Passing {
  name: Member;
  size: number;
  left: number;
  hash: Hash;
  kept: Buffer[];
}

/** The tar within, as it comes out of the gzip. */
class TarCheck {
  readonly #done = new Map<Member, { size: number; sha256: string; content: Buffer }>();
  #pending: Buffer = Buffer.alloc(0);
  #member: Passing | undefined;
  /** Bytes of padding left behind the last member. */
  #padding = 0;
  #zeroBlocks = 0;

  take(chunk: Buffer): void {
    let rest = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    this.#pending = Buffer.alloc(0);
    while (rest.length > 0) {
      if (this.#member !== undefined) rest = this.#content(this.#member, rest);
      else if (this.#padding > 0) rest = this.#pad(rest);
      else if (rest.length < BLOCK) {
        this.#pending = rest;
        return;
      } else {
        this.#header(rest.subarray(0, BLOCK));
        rest = rest.subarray(BLOCK);
      }
    }
  }

  finish(): SnapshotMeta {
    const open = this.#member;
    if (open !== undefined)
      throw new ArchiveError(`it ends within ${open.name}, ${open.left} bytes too early`);
    const missing = MEMBERS.filter((name) => !this.#done.has(name));
    if (missing.length > 0) throw new ArchiveError(`it has no ${missing.join(", ")}`);
    if (this.#zeroBlocks < 2 || this.#pending.length > 0) throw new ArchiveError("its tar has no end");
    this.#compareSums();
    const text = this.#done.get("meta.json")?.content.toString() ?? "";
    const meta = Meta.safeParse(parseJson(text));
    if (!meta.success) throw new ArchiveError("its meta.json has no index and term");
    const stateBytes = this.#done.get(STATE)?.size ?? 0;
    if (stateBytes === 0) throw new ArchiveError(`its ${STATE} is empty`);
    return { index: meta.data.Index, term: meta.data.Term, stateBytes };
  }

  #header(block: Buffer): void {
    if (block.every((byte) => byte === 0)) {
      this.#zeroBlocks += 1;
      return;
    }
    if (this.#zeroBlocks > 0) throw new ArchiveError("something follows the end of its tar");
    if (octal(block, 148, 8) !== checksum(block))
      throw new ArchiveError("the header of one of its members is damaged");
    const name = block.toString("latin1", 0, block.indexOf(0) === -1 ? 100 : Math.min(block.indexOf(0), 100));
    const type = String.fromCharCode(block[156] ?? 0);
    if (!isMember(name) || (type !== "0" && type !== "\0") || this.#done.has(name))
      throw new ArchiveError(`it holds what no snapshot has there: ${JSON.stringify(name)}`);
    const size = octal(block, 124, 12);
    if (size === undefined || (name !== STATE && size > LARGEST_KEPT))
      throw new ArchiveError(`the size of its ${name} can't be true`);
    this.#member = { name, size, left: size, hash: createHash("sha256"), kept: [] };
    if (size === 0) this.#close(this.#member);
  }

  #content(member: Passing, bytes: Buffer): Buffer {
    const part = bytes.subarray(0, member.left);
    member.hash.update(part);
    if (member.name !== STATE) member.kept.push(Buffer.from(part));
    member.left -= part.length;
    if (member.left === 0) this.#close(member);
    return bytes.subarray(part.length);
  }

  #close({ name, size, hash, kept }: Passing): void {
    this.#done.set(name, { size, sha256: hash.digest("hex"), content: Buffer.concat(kept) });
    this.#member = undefined;
    this.#padding = (BLOCK - (size % BLOCK)) % BLOCK;
  }

  #pad(bytes: Buffer): Buffer {
    const part = bytes.subarray(0, this.#padding);
    if (part.some((byte) => byte !== 0)) throw new ArchiveError("its tar is damaged between two members");
    this.#padding -= part.length;
    return bytes.subarray(part.length);
  }

  /** `SHA256SUMS` is what Vault compares too; `SHA256SUMS.sealed` only a Vault with its keys can read. */
  #compareSums(): void {
    const text = this.#done.get(SUMS)?.content.toString() ?? "";
    const listed = new Map(
      text.split("\n").flatMap((line) => {
        const [, sum, name] = /^([0-9a-f]{64}) [ *](\S+)$/.exec(line) ?? [];
        return sum === undefined || name === undefined ? [] : [[name, sum] as const];
      }),
    );
    for (const name of ["meta.json", STATE] as const) {
      if (listed.get(name) !== this.#done.get(name)?.sha256)
        throw new ArchiveError(`its ${name} isn't what its ${SUMS} says`);
    }
  }
}

const isMember = (name: string): name is Member => (MEMBERS as readonly string[]).includes(name);

/** An octal number of a tar header; undefined for anything else, sizes over 8 GiB too. */
function octal(block: Buffer, at: number, length: number): number | undefined {
  const text = block
    .toString("latin1", at, at + length)
    .replace(/[\0 ]+$/, "")
    .trimStart();
  return /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : undefined;
}

/** The sum of a header's bytes, its own field counted as blanks. */
function checksum(block: Buffer): number {
  let sum = 8 * 0x20;
  for (const [at, byte] of block.entries()) if (at < 148 || at >= 156) sum += byte;
  return sum;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ArchiveError(`its meta.json is no JSON: ${messageOf(error)}`);
  }
}
