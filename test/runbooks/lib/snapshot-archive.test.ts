import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { gunzipSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ArchiveCheck } from "../../../runbooks/lib/snapshot-archive.ts";
import { raftArchive, raftTar } from "../../../scripts/bench/raft-archive.ts";

const whole = await buffer(raftArchive({ stateBytes: 5000, index: 1234 }));
const tar = gunzipSync(whole);

async function check(
  bytes: Buffer,
  chunkSize = 700,
): Promise<{ passed: Buffer; meta: ArchiveCheck["meta"] }> {
  const archive = new ArchiveCheck();
  const passed: Buffer[] = [];
  await pipeline(Readable.from(chunks(bytes, chunkSize)), archive, async (out: AsyncIterable<Buffer>) => {
    for await (const chunk of out) passed.push(chunk);
  });
  return { passed: Buffer.concat(passed), meta: archive.meta };
}

function* chunks(bytes: Buffer, size: number) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

describe("a whole snapshot", () => {
  test("passes byte for byte and says what it is, however it is cut into chunks", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 3000 }), async (size) => {
        const { passed, meta } = await check(whole, size);
        expect(passed.equals(whole)).toBe(true);
        expect(meta).toEqual({ index: 1234, term: 3, stateBytes: 5000 });
      }),
      { numRuns: 25 },
    );
  });

  test.each([1, 511, 512, 513, 1_048_576, 3_000_001])("of %i bytes passes", async (stateBytes) => {
    const { meta } = await check(await buffer(raftArchive({ stateBytes })), 65_536);
    expect(meta.stateBytes).toBe(stateBytes);
  });
});

describe("what is no whole snapshot fails", () => {
  test("when it is empty", async () => {
    await expect(check(Buffer.alloc(0))).rejects.toThrow("it is empty");
  });

  test("when it is no gzip", async () => {
    await expect(check(Buffer.from('{"errors":["permission denied"]}'))).rejects.toThrow(
      "its gzip is damaged",
    );
  });

  test("wherever it is cut, the gzip trailer included", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: whole.length - 1 }), async (length) => {
        await expect(check(whole.subarray(0, length))).rejects.toThrow("too early");
      }),
      { numRuns: 60, examples: Array.from({ length: 9 }, (_, cut) => [whole.length - 1 - cut]) },
    );
  });

  test("wherever the tar within is cut, though its gzip is whole", async () => {
    // The last block of zeros may go: two of them end a tar.
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: tar.length - 513 }), async (length) => {
        await expect(check(gzipSync(tar.subarray(0, length)))).rejects.toThrow();
      }),
      { numRuns: 60 },
    );
  });

  test("whatever byte of the tar within is another one, where bytes mean anything", async () => {
    const sealedSums = tar.lastIndexOf("SHA256SUMS.sealed");
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: sealedSums - 1 }),
        fc.integer({ min: 1, max: 255 }),
        async (at, bits) => {
          const changed = Buffer.from(tar);
          changed[at] = (changed[at] ?? 0) ^ bits;
          await expect(check(gzipSync(changed))).rejects.toThrow();
        },
      ),
      { numRuns: 150 },
    );
  });

  test("when a member is missing, is there twice, or is a stranger", async () => {
    const blocks = [...raftTar({ stateBytes: 600 })];
    const [metaHeader, meta, metaPad, ...rest] = blocks as [Buffer, Buffer, Buffer, ...Buffer[]];
    const pack = (parts: Buffer[]) => gzipSync(Buffer.concat(parts));
    await expect(check(pack(rest))).rejects.toThrow("it has no meta.json");
    await expect(check(pack([metaHeader, meta, metaPad, ...blocks]))).rejects.toThrow(
      "what no snapshot has there",
    );
    await expect(check(pack([...blocks, metaHeader, meta, metaPad]))).rejects.toThrow(
      "something follows the end",
    );
    await expect(check(pack(blocks.slice(0, -1)))).rejects.toThrow("its tar has no end");
  });

  test("when its state isn't what its sums say", async () => {
    const changed = Buffer.from(tar);
    const state = tar.indexOf("state.bin") + 512;
    changed[state + 100] = (changed[state + 100] ?? 0) ^ 1;
    await expect(check(gzipSync(changed))).rejects.toThrow("its state.bin isn't what its SHA256SUMS says");
  });

  test("when its state is empty", async () => {
    await expect(check(await buffer(raftArchive({ stateBytes: 0 })))).rejects.toThrow(
      "its state.bin is empty",
    );
  });
});
