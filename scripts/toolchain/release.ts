// Fetches a program as its makers' release archive, checked against the SHA-256 sum that they publish beside it.
import { createHash } from "node:crypto";
import {
  accessSync,
  constants,
  createWriteStream,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
} from "node:fs";
import { basename, join } from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { runQuietly } from "./run.ts";

export interface Limits {
  /** How long a server may take to answer, in milliseconds. Short: where there is no internet, we want to know. */
  answer: number;
  /** How long a download may stand still, in milliseconds. */
  stall: number;
}

const LIMITS: Limits = { answer: 5_000, stall: 20_000 };

/**
 * Leaves every executable of the archive (.zip or .tar.gz) in the existing directory `into`, side by side.
 * Throws an Error that names the URL: unreachable, too slow, not 200, cut short, no sum published, wrong sum.
 */
export async function downloadRelease(
  release: { archive: string; checksums: string },
  into: string,
  say: (detail: string) => void,
  limits: Limits = LIMITS,
): Promise<void> {
  const name = basename(new URL(release.archive).pathname);
  const expected = publishedSum(await fetchText(release.checksums, limits), name, release.checksums);
  const scratch = join(into, ".download");
  mkdirSync(scratch);
  try {
    const file = join(scratch, name);
    const actual = await download(release.archive, file, say, limits);
    if (actual !== expected) {
      throw new Error(`${release.archive} has the SHA-256 sum ${actual}, published is ${expected}`);
    }
    say("unpacking");
    const unpacked = join(scratch, "unpacked");
    mkdirSync(unpacked);
    await unpack(file, unpacked);
    for (const executable of executables(unpacked)) renameSync(executable, join(into, basename(executable)));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function publishedSum(sums: string, name: string, url: string): string {
  for (const line of sums.split("\n")) {
    const [sum, file] = line.trim().split(/\s+\*?/);
    if (file === name && sum !== undefined && /^[0-9a-f]{64}$/.test(sum)) return sum;
  }
  throw new Error(`${url} has no SHA-256 sum for ${name}`);
}

async function fetchText(url: string, limits: Limits): Promise<string> {
  return await withTimer(url, limits.answer, async (signal) => (await get(url, signal)).text());
}

/** Returns the SHA-256 sum of what was written to `file`. */
async function download(
  url: string,
  file: string,
  say: (detail: string) => void,
  limits: Limits,
): Promise<string> {
  const hash = createHash("sha256");
  return await withTimer(url, limits.answer, async (signal, stillGoing) => {
    const response = await get(url, signal);
    stillGoing(limits.stall);
    const total = Number(response.headers.get("content-length") ?? 0);
    let received = 0;
    const meter = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        stillGoing(limits.stall);
        hash.update(chunk);
        received += chunk.length;
        say(`downloading, ${megabytes(received)}${total > 0 ? ` of ${megabytes(total)}` : ""}`);
        done(null, chunk);
      },
    });
    if (response.body === null) throw new Error("no content");
    await pipeline(Readable.fromWeb(response.body), meter, createWriteStream(file), { signal });
    return hash.digest("hex");
  });
}

async function get(url: string, signal: AbortSignal): Promise<Response> {
  const response = await fetch(url, { signal });
  if (response.ok) return response;
  await response.body?.cancel();
  throw new Error(`the server answered ${response.status}`);
}

/** Runs `work` until `milliseconds` have passed since the start or since it last said that it's still going. */
async function withTimer<T>(
  url: string,
  milliseconds: number,
  work: (signal: AbortSignal, stillGoing: (milliseconds: number) => void) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const abort = () => controller.abort(new Error("no answer in time"));
  let timer = setTimeout(abort, milliseconds);
  try {
    return await work(controller.signal, (next) => {
      clearTimeout(timer);
      timer = setTimeout(abort, next);
    });
  } catch (cause) {
    // `fetch` hides the reason (connection refused, unknown host) in the cause.
    const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
    throw new Error(`${url}: ${inner instanceof Error ? inner.message : inner}`, { cause });
  } finally {
    clearTimeout(timer);
  }
}

async function unpack(archive: string, into: string): Promise<void> {
  if (!archive.endsWith(".zip")) {
    await runQuietly("tar", ["-xzf", archive, "-C", into]);
    return;
  }
  // Python is needed for moto anyway, unlike `unzip`; its zipfile drops the mode bits.
  await runQuietly("python3", ["-m", "zipfile", "-e", archive, into]);
  await runQuietly("chmod", ["-R", "a+rx", into]);
}

function executables(root: string): string[] {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith(".txt"))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter(isExecutable);
}

export function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}
