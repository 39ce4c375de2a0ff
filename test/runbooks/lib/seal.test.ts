import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { FRAME_BYTES, open, seal } from "../../../runbooks/lib/seal.ts";
import {
  aesKeyFile,
  recoveryPrivateKey,
  recoveryPublicKey,
  type SealKey,
} from "../../../runbooks/lib/seal-keys.ts";
import { readSealedHeader, type SealError, type SealProblem } from "../../../runbooks/lib/sealed-message.ts";

const folder = mkdtempSync(join(tmpdir(), "seal-"));
afterAll(() => rmSync(folder, { recursive: true }));

const aesFile = (name: string, content: string | Buffer = randomBytes(32)): SealKey => {
  const file = join(folder, name);
  writeFileSync(file, content, { mode: 0o600 });
  return aesKeyFile(file);
};
const pair = () =>
  generateKeyPairSync("rsa", {
    modulusLength: 4096,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
const offline = pair();
const aes = aesFile("aes.key");
const recovery = recoveryPrivateKey(offline.privateKey);
const CONTEXT = { date: "2026-02-28", nonce: "n1" };

/** Two frames of a megabyte and a short one. */
const plain = randomBytes(2 * FRAME_BYTES + 777);
const sealedBytes = (bytes: Buffer, keys = [aes, recoveryPublicKey(offline.publicKey)]) =>
  seal(Readable.from(inChunks(bytes, 65_536)), keys, CONTEXT).then((stream) => buffer(stream));
const sealed = await sealedBytes(plain);
const header = readSealedHeader(sealed);
if (header === undefined) throw new Error("the sealed file has no header");
const FRAME = 4 + 12 + FRAME_BYTES + 16;
/** Where each frame begins, and the file's end. */
const edges = [0, 1, 2].map((frame) => header.length + frame * FRAME);
const [first, second, last] = edges as [number, number, number];
/** A small file with the same keys, for what is tried many times. */
const small = await sealedBytes(Buffer.from("a small snapshot"));

function* inChunks(bytes: Buffer, size: number) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function opened(bytes: Buffer, key = aes, context: Record<string, string> = CONTEXT, chunk = 65_536) {
  return buffer(await open(Readable.from(inChunks(bytes, chunk)), key, context));
}

/** How the file fails to open; undefined when it opens. */
async function problem(
  bytes: Buffer,
  key = aes,
  context = CONTEXT,
  chunk = 65_536,
): Promise<SealProblem | undefined> {
  return opened(bytes, key, context, chunk).then(
    () => undefined,
    (error: SealError) => {
      expect(error.name, String(error)).toBe("SealError");
      return error.problem;
    },
  );
}

const flipped = (bytes: Buffer, at: number, bits = 1): Buffer => {
  const changed = Buffer.from(bytes);
  changed[at] = (changed[at] ?? 0) ^ bits;
  return changed;
};

describe("a sealed file", () => {
  test("is opened by each of its keys, and by either one alone", async () => {
    expect((await opened(sealed)).equals(plain)).toBe(true);
    expect((await opened(sealed, recovery)).equals(plain)).toBe(true);
    const [provider, name] = [
      header.sealedTo.map((key) => key.provider),
      header.sealedTo.map((key) => key.key),
    ];
    expect(provider).toEqual(["penguinmails-backup-key", "penguinmails-recovery-key"]);
    expect(name).toEqual([aes.id, recovery.id]);
  });

  test("holds nothing readable", () => {
    expect(sealed.includes(plain.subarray(0, 32))).toBe(false);
    expect(small.includes("small snapshot")).toBe(false);
  });

  test.each([0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES])(
    "of %i bytes comes out as it went in",
    async (length) => {
      const bytes = randomBytes(length);
      expect((await opened(await sealedBytes(bytes))).equals(bytes)).toBe(true);
    },
  );

  test("comes out as it went in, however it is cut into chunks on both ways", async () => {
    const bytes = randomBytes(20_000);
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 900 }),
        fc.integer({ min: 17, max: 900 }),
        async (into, out) => {
          const file = await buffer(await seal(Readable.from(inChunks(bytes, into)), [aes], CONTEXT));
          expect((await opened(file, aes, CONTEXT, out)).equals(bytes)).toBe(true);
        },
      ),
      { numRuns: 20 },
    );
  });

  test("is another one each time", async () => {
    expect((await sealedBytes(Buffer.from("a small snapshot"))).equals(small)).toBe(false);
  });
});

describe("what was done to it is an error that says which", () => {
  // Some eight hundred files are opened.
  test("any byte of its header", async () => {
    const length = readSealedHeader(small)?.length ?? 0;
    expect(length).toBeGreaterThan(600);
    for (let at = 0; at < length; at++)
      expect(await problem(flipped(small, at), aes), `byte ${at}`).toBeDefined();
  }, 180_000);

  test("any byte of its header, for the recovery key, which is slower", async () => {
    const length = readSealedHeader(small)?.length ?? 0;
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: length - 1 }),
        fc.integer({ min: 1, max: 255 }),
        async (at, bits) => {
          expect(await problem(flipped(small, at, bits), recovery)).toBeDefined();
        },
      ),
      { numRuns: 60 },
    );
  });

  test("a byte in each frame: its number, its nonce, its content, its tag", async () => {
    for (const [frame, start] of edges.entries()) {
      const end = edges[frame + 1] ?? sealed.length;
      for (const at of [
        start,
        start + 3,
        start + 4,
        start + 15,
        start + 16,
        start + 30,
        start + 700,
        end - 16,
        end - 1,
      ])
        expect(await problem(flipped(sealed, at)), `frame ${frame + 1}, byte ${at - start}`).toMatch(
          /damaged|truncated/,
        );
    }
  });

  test("frames dropped, swapped, repeated", async () => {
    const [head, one, two, three] = [
      sealed.subarray(0, first),
      sealed.subarray(first, second),
      sealed.subarray(second, last),
      sealed.subarray(last),
    ] as const;
    const of = (...parts: Buffer[]) => problem(Buffer.concat(parts));
    expect(await of(head, one, two, three)).toBeUndefined();
    expect(await of(head, two, three)).toBe("damaged");
    expect(await of(head, one, three)).toBe("damaged");
    expect(await of(head, three)).toBe("damaged");
    expect(await of(head, two, one, three)).toBe("damaged");
    expect(await of(head, one, one, two, three)).toBe("damaged");
    expect(await of(head, one, two, two, three)).toBe("damaged");
    expect(await of(head, one, two, three, three)).toBe("damaged");
    expect(await of(head, three, one, two)).toBe("damaged");
  });

  test("anything appended: a byte, a frame, zeros, another whole file", async () => {
    for (const more of [Buffer.from("x"), sealed.subarray(first, second), Buffer.alloc(100_000), small])
      expect(await problem(Buffer.concat([sealed, more]))).toBe("damaged");
  });

  test("a frame of another file sealed to the same keys", async () => {
    const other = await sealedBytes(randomBytes(2 * FRAME_BYTES + 777));
    const mixed = Buffer.concat([
      sealed.subarray(0, second),
      other.subarray(second, last),
      sealed.subarray(last),
    ]);
    expect(await problem(mixed)).toBe("damaged");
  });

  test("cut at frame edges and elsewhere", async () => {
    for (const at of [
      ...edges,
      first + 1,
      first + 4,
      second - 1,
      second + 17,
      last + 24,
      sealed.length - 16,
      sealed.length - 1,
    ])
      expect(await problem(sealed.subarray(0, at)), `cut at ${at}`).toBe("truncated");
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: small.length - 1 }), async (at) => {
        expect(await problem(small.subarray(0, at))).toBe("truncated");
      }),
      { numRuns: 200 },
    );
  });

  test("many changes at once", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 1, maxLength: 2000, size: "max" }),
        fc.nat(small.length),
        async (bytes, at) => {
          const changed = Buffer.concat([small.subarray(0, at), bytes, small.subarray(at + bytes.length)]);
          fc.pre(!changed.equals(small));
          expect(await problem(changed)).toBeDefined();
        },
      ),
      { numRuns: 200 },
    );
  });

  test("an empty file, another version, another algorithm", async () => {
    expect(await problem(Buffer.alloc(0))).toBe("empty");
    expect(await problem(flipped(sealed, 0, 3))).toBe("unknown-version");
    expect(await problem(flipped(sealed, 2, 0x10))).toBe("unknown-version");
    expect(await problem(Buffer.from("<?xml version='1.0'?><Error/>"))).toBe("unknown-version");
  });

  test("a key of the same kind that is another one, and a key of a kind that it isn't sealed to", async () => {
    expect(await problem(small, aesFile("other.key"))).toBe("wrong-key");
    expect(await problem(small, recoveryPrivateKey(pair().privateKey))).toBe("wrong-key");
    const onlyAes = await sealedBytes(plain.subarray(0, 10), [aes]);
    expect(await problem(onlyAes, recovery)).toBe("unknown-key");
    await expect(opened(onlyAes, recovery)).rejects.toThrow(aes.id);
    // A public half is no key to open with.
    expect(await problem(small, recoveryPublicKey(offline.publicKey))).toBe("wrong-key");
  });

  test("a file of another day than was asked for", async () => {
    await expect(opened(small, aes, { date: "2026-03-01" })).rejects.toMatchObject({
      problem: "wrong-context",
      message: expect.stringContaining("its date is 2026-02-28, and not 2026-03-01"),
    });
  });
});

describe("while it is being sealed or read", () => {
  test("a source that fails gives its own error and no file that opens", async () => {
    const { promise: aFrameIsOut, resolve } = Promise.withResolvers<void>();
    async function* broken() {
      yield plain.subarray(0, 1_500_000);
      await aFrameIsOut;
      throw new Error("the connection was cut");
    }
    const stream = await seal(Readable.from(broken()), [aes], CONTEXT);
    const got: Buffer[] = [];
    await expect(
      (async () => {
        for await (const chunk of stream) {
          got.push(chunk as Buffer);
          if (Buffer.concat(got).length > FRAME_BYTES) resolve();
        }
      })(),
    ).rejects.toThrow("the connection was cut");
    expect(await problem(Buffer.concat(got))).toBe("truncated");
    await expect(open(Readable.from(brokenFile()), aes, CONTEXT).then((out) => buffer(out))).rejects.toThrow(
      "cut here",
    );
    async function* brokenFile() {
      yield sealed.subarray(0, 1_500_000);
      throw new Error("cut here");
    }
  });

  test("a reader who stops stops the source", async () => {
    let ended = false;
    const source = Readable.from(
      (function* () {
        try {
          for (let round = 0; round < 1000; round++) yield randomBytes(65_536);
        } finally {
          ended = true;
        }
      })(),
    );
    const stream = await seal(source, [aes], CONTEXT);
    for await (const _chunk of stream) break;
    await expect.poll(() => ended).toBe(true);
  });
});

describe("a key", () => {
  test("is refused when it is none", () => {
    expect(() => aesFile("short.key", "0123")).toThrow("holds neither 32 bytes nor 64 hexadecimal digits");
    expect(() => aesKeyFile(join(folder, "absent"))).toThrow("can't be read");
    const file = join(folder, "open.key");
    writeFileSync(file, randomBytes(32), { mode: 0o644 });
    expect(() => aesKeyFile(file)).toThrow("can be read by others");
    expect(() => recoveryPublicKey("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----")).toThrow(
      "can't be read",
    );
    const weak = generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey.export({
      type: "spki",
      format: "pem",
    });
    expect(() => recoveryPublicKey(String(weak))).toThrow("RSA of 2048 bits");
    const curve = generateKeyPairSync("ed25519").publicKey.export({ type: "spki", format: "pem" });
    expect(() => recoveryPublicKey(String(curve))).toThrow("is ed25519");
  });

  test("in hexadecimal is the same key", async () => {
    const key = randomBytes(32);
    const file = await sealedBytes(plain.subarray(0, 100), [aesFile("raw.key", key)]);
    expect(await problem(file, aesFile("hex.key", `${key.toString("hex")}\n`))).toBeUndefined();
  });

  test("with a passphrase opens with it only", async () => {
    const { privateKey } = generateKeyPairSync("rsa", {
      modulusLength: 4096,
      publicKeyEncoding: { type: "spki", format: "pem" },
      privateKeyEncoding: {
        type: "pkcs8",
        format: "pem",
        cipher: "aes-256-cbc",
        passphrase: "correct horse",
      },
    });
    expect(() => recoveryPrivateKey(privateKey, "wrong")).toThrow("can't be read");
    const key = recoveryPrivateKey(privateKey, "correct horse");
    expect(await problem(await sealedBytes(plain.subarray(0, 9), [key]), key)).toBeUndefined();
  });
});
