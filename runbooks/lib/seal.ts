// Sealing a stream and opening it again, by the AWS Encryption SDK: any other implementation of it opens the same file.
// Frames of 1 MiB, each authenticated with its place in the row; no signature, since its check would come only after
// everything was handed on, and whoever holds the public recovery key could sign as well.
import { type Duplex, type Readable, Transform, type TransformCallback } from "node:stream";
import { messageOf } from "./errors.ts";
import { collectSeldom, piped } from "./piped.ts";
import type { Sdk, SealKey } from "./seal-keys.ts";
import { damaged, SealError, SealedMessage, type SealedTo } from "./sealed-message.ts";

export const FRAME_BYTES = 1_048_576;
/** More keys than anybody has: a file that lists thousands would have each of them tried. */
const MOST_KEYS = 16;

/** What a file is about; not secret, but it can't be changed without breaking the seal. */
export type SealContext = Readonly<Record<string, string>>;

/**
 * Seals `source` to all `keys`; the first one makes the data key. The result fails with a SealError when a key can't
 * be used, and with the source's own error when that fails: then its last frame is missing, and it never opens.
 */
export async function seal(
  source: Readable,
  keys: readonly SealKey[],
  context: SealContext,
): Promise<Readable> {
  collectSeldom();
  const sdk = await import("@aws-crypto/client-node");
  const [generator, ...children] = await Promise.all(keys.map((key) => key.keyring(sdk, "seal")));
  if (generator === undefined) throw new Error("a backup is sealed to one key at least");
  const keyring = new sdk.MultiKeyringNode({ generator, children });
  const { encryptStream } = sdk.buildEncrypt({ ...policy(sdk), maxEncryptedDataKeys: MOST_KEYS });
  const sealing = encryptStream(keyring, {
    suiteId: sdk.AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY,
    frameLength: FRAME_BYTES,
    encryptionContext: { ...context },
  });
  return piped(source, [new Fed(sealing)], (error) => {
    const names = keys.map(({ name }) => name).join(" and ");
    return new SealError("unavailable", `nothing can be sealed to ${names}: ${kmsWords(error)}`, {
      cause: error,
    });
  });
}

/**
 * Opens a sealed stream with one key. The result fails with a SealError that says which of its problems it is, at the
 * latest at its end: what was read of it before is authentic, but only its end says that nothing is missing.
 * @param context what the file must be about.
 */
export async function open(source: Readable, key: SealKey, context: SealContext = {}): Promise<Readable> {
  collectSeldom();
  const sdk = await import("@aws-crypto/client-node");
  const keyring = await key.keyring(sdk, "open");
  const message = new SealedMessage((header) => mustOpen(key, header.sealedTo));
  const { decryptUnsignedMessageStream } = sdk.buildDecrypt({
    ...policy(sdk),
    maxEncryptedDataKeys: MOST_KEYS,
  });
  const opening = decryptUnsignedMessageStream(keyring);
  // Once it's destroyed it still says so, when nobody listens any more.
  opening.on("error", () => {});
  let headerIsTrue = false;
  opening.once("MessageHeader", ({ encryptionContext }: { encryptionContext: SealContext }) => {
    headerIsTrue = true;
    const other = Object.entries(context).find(([name, value]) => encryptionContext[name] !== value);
    if (other === undefined) return;
    const [name, value] = other;
    const found = encryptionContext[name] ?? "unknown";
    opening.destroy(
      new SealError("wrong-context", `its ${name} is ${found}, and not ${value}: it isn't what it should be`),
    );
  });
  return piped(source, [message, opening], (error) => {
    if (error instanceof SealError) return error;
    return headerIsTrue ? damaged("a frame isn't authentic", error) : headerError(key, error);
  });
}

/**
 * Feeds the SDK's sealing stream by hand. It must never be destroyed before its end: within it lies a pipeline whose
 * failure nobody hears, so that Node would end the whole process. After a failure it's left to itself.
 */
class Fed extends Transform {
  readonly #inner: Duplex;
  readonly #ended = Promise.withResolvers<void>();

  constructor(inner: Duplex) {
    super();
    this.#inner = inner;
    inner.on("data", (chunk: Buffer) => {
      if (!this.destroyed && !this.push(chunk)) inner.pause();
    });
    inner.once("end", this.#ended.resolve);
    inner.on("error", (error) => this.destroy(error));
  }

  override _read(size: number): void {
    this.#inner.resume();
    super._read(size);
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#inner.write(chunk, () => done());
  }

  override _flush(done: TransformCallback): void {
    this.#inner.end();
    void this.#ended.promise.then(() => done());
  }
}

const policy = (sdk: Sdk) => ({ commitmentPolicy: sdk.CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT });

/** Before any key is asked: a backup of another key isn't a damaged one. */
function mustOpen(key: SealKey, sealedTo: readonly SealedTo[]): void {
  const ofItsKind = sealedTo.filter(({ provider }) => provider === key.provider);
  if (ofItsKind.some(({ key: id }) => key.opens(id))) return;
  const all = sealedTo.map(({ provider, key: id }) => `${provider} ${id}`).join(", ");
  if (ofItsKind.length > 0)
    throw new SealError("wrong-key", `${key.name} is another one than it is sealed to: ${all}`);
  throw new SealError(
    "unknown-key",
    `it isn't sealed to ${key.name}, nor to any key of that kind, but to: ${all}`,
  );
}

/** The header names our key, and yet doesn't open: the key's keeper said no, or the header isn't what was written. */
function headerError(key: SealKey, error: unknown): SealError {
  const words = kmsWords(error);
  if (/CiphertextException/.test(words)) return damaged("KMS doesn't know its data key", error);
  if (/KMS CMKs had an error|Exception|ECONN|ETIMEDOUT|ENOTFOUND|Timeout/.test(words))
    return new SealError("unavailable", `${key.name} can't be used: ${words}`, { cause: error });
  return damaged("its header isn't authentic", error);
}

/** The SDK puts the errors that KMS gave, stacks and all, into one text. */
function kmsWords(error: unknown): string {
  const text = messageOf(error);
  const said = /^\s*(?:\w*(?:Exception|Error)): [^\n]*/m.exec(text.replace(/^[^\n]*\n?.*Error #1 *$/m, ""));
  return (said?.[0] ?? text).trim().split("\n")[0] ?? "";
}
