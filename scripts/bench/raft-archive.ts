// A raft snapshot as Vault makes one, of any size, from nothing: for benchmarks and for tests of the archive's check.
// state.bin is noise, as Vault's is (everything in it is encrypted).
import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { createGzip } from "node:zlib";

export interface RaftArchiveOptions {
  /** Size of state.bin. */
  stateBytes: number;
  /** Raft index in meta.json. */
  index?: number;
}

/** The archive, gzip'd; made while it's read, so that it needs no disk and little memory. */
export function raftArchive(options: RaftArchiveOptions): Readable {
  // Noise doesn't get smaller; level 0 only wraps it, so that making the archive isn't what is measured.
  return Readable.from(raftTar(options), { objectMode: false }).pipe(
    createGzip({ level: 0, chunkSize: 262_144 }),
  );
}

/** The tar without its gzip. */
export function* raftTar({ stateBytes, index = 42 }: RaftArchiveOptions): Generator<Buffer> {
  const meta = Buffer.from(
    JSON.stringify({ Version: 1, ID: "bolt-snapshot", Index: index, Term: 3, Size: stateBytes }),
  );
  yield* member("meta.json", meta);
  const state = createHash("sha256");
  yield header("state.bin", stateBytes);
  for (const chunk of noise(stateBytes)) {
    state.update(chunk);
    yield chunk;
  }
  yield padding(stateBytes);
  const sums = `${createHash("sha256").update(meta).digest("hex")}  meta.json\n${state.digest("hex")}  state.bin\n`;
  yield* member("SHA256SUMS", Buffer.from(sums));
  yield* member("SHA256SUMS.sealed", randomBytes(180));
  yield Buffer.alloc(1024);
}

/** A megabyte of noise again and again, each time with another beginning: nothing in it repeats within gzip's window. */
function* noise(bytes: number): Generator<Buffer> {
  const block = randomBytes(Math.min(bytes, 1_048_576));
  for (let made = 0; made < bytes; made += block.length) {
    const chunk = Buffer.from(block.subarray(0, Math.min(block.length, bytes - made)));
    if (chunk.length >= 8) chunk.writeDoubleBE(made, 0);
    yield chunk;
  }
}

function* member(name: string, content: Buffer): Generator<Buffer> {
  yield header(name, content.length);
  yield content;
  yield padding(content.length);
}

const padding = (size: number): Buffer => Buffer.alloc((512 - (size % 512)) % 512);

/** As Go's archive/tar writes it. */
function header(name: string, size: number): Buffer {
  const block = Buffer.alloc(512);
  const put = (text: string, at: number) => void block.write(text, at, "latin1");
  put(name, 0);
  put("0000600\0", 100);
  put("0000000\0", 108);
  put("0000000\0", 116);
  put(`${size.toString(8).padStart(11, "0")}\0`, 124);
  put("14722250000\0", 136);
  put("        ", 148);
  put("0", 156);
  put("ustar\x0000", 257);
  let sum = 0;
  for (const byte of block) sum += byte;
  put(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}
