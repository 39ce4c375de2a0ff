// The key shares of a Vault, typed by the people who keep them, one after another, or read from standard input, one a
// line. They go nowhere but to a Vault: with a snapshot they are everything. A Vault that opens itself has recovery keys
// in their place: of the same form, good for all that key shares are, as long as its KMS answers (seen with 1.21).
import { usage } from "./flags.ts";
import { registerSecret } from "./redact.ts";
import type { Run } from "./runbook.ts";

/** What a manifest, or a Vault's own status, says of its seal. */
export interface SealShares {
  threshold: number;
  shares: number;
  /** Anything but `shamir` opens itself, by a KMS: then the numbers are those of its recovery keys. */
  seal_type?: string | undefined;
}

export const opensItself = ({ seal_type = "shamir" }: Pick<SealShares, "seal_type">): boolean =>
  seal_type !== "shamir";

/** What Vault's own documentation calls one of them. */
const nameOf = (seal: SealShares): string => (opensItself(seal) ? "recovery key" : "key share");
export const namesOf = (seal: SealShares): string => `${nameOf(seal)}s`;

/**
 * As many shares as open the Vault, as they were typed (base64 or hexadecimal). On standard input there may be more
 * lines than that: those behind are checked like the others, and left out.
 * @throws RunbookError (exit 2) that names the share which can't be one. At a terminal it is asked for again instead.
 */
export async function readKeyShares(
  run: Pick<Run<unknown>, "hidden" | "interactive">,
  seal: SealShares,
): Promise<string[]> {
  const shares = run.interactive ? await typed(run, seal) : await piped(run, seal);
  return shares.slice(0, seal.threshold);
}

/** A whole set of them is too much to type again for one slip. */
async function typed(run: Pick<Run<unknown>, "hidden">, seal: SealShares): Promise<string[]> {
  const ask = (number: number) => `${nameOf(seal)} ${number} of ${seal.threshold}`;
  const text = await run.hidden({
    question: ask(1),
    isComplete: (soFar) => usable(soFar, seal).shares.length >= seal.threshold,
    more: (soFar) => {
      const { shares, problem } = usable(soFar, seal);
      return `\n${problem === undefined ? "" : `${problem}\n`}${ask(shares.length + 1)}: `;
    },
  });
  return usable(text, seal).shares;
}

/** The lines that can be shares, and what is wrong with the last one. */
function usable(text: string, seal: SealShares): { shares: string[]; problem: string | undefined } {
  const shares: string[] = [];
  let problem: string | undefined;
  for (const line of linesOf(text)) {
    registerShare(line);
    problem = problemOf(line, shares, seal);
    if (problem === undefined) shares.push(line);
  }
  return { shares, problem };
}

async function piped(run: Pick<Run<unknown>, "hidden">, seal: SealShares): Promise<string[]> {
  const question = `${seal.threshold} ${namesOf(seal)}, one a line`;
  const isComplete = (text: string) => linesOf(text).length >= seal.threshold;
  const lines = linesOf(await run.hidden({ question, isComplete }));
  for (const line of lines) registerShare(line);
  for (const [index, line] of lines.entries()) {
    const problem = problemOf(line, lines.slice(0, index), seal);
    if (problem !== undefined)
      throw usage(problem, `the same command again, with the right ${namesOf(seal)}`);
  }
  if (lines.length >= seal.threshold) return lines;
  throw usage(
    `${lines.length} of the ${seal.threshold} ${namesOf(seal)} that it takes were given`,
    "the same command again, with one a line",
  );
}

const linesOf = (text: string): string[] =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");

/** What is wrong with the next share after `before`, in a sentence that doesn't show it. */
function problemOf(share: string, before: readonly string[], seal: SealShares): string | undefined {
  const one = nameOf(seal);
  const name = `${one} ${before.length + 1}`;
  const bytes = bytesOf(share);
  if (bytes === undefined) return `${name} is neither base64 nor hexadecimal`;
  // Vault's root key has 32 bytes; a part of it has its coordinate behind them.
  const length = seal.shares === 1 ? 32 : 33;
  if (bytes.length !== length) {
    const hint = bytes.length > length ? " (one that is encrypted by PGP is decrypted first)" : "";
    return `${name} has ${bytes.length} bytes, and one of this Vault has ${length}${hint}`;
  }
  // Two different ones at one coordinate can't be of one set.
  const twin = before.findIndex((other) => bytesOf(other)?.at(-1) === bytes.at(-1));
  if (seal.shares === 1 || twin === -1) return undefined;
  return bytesOf(before[twin] ?? "")?.equals(bytes)
    ? `${name} is ${one} ${twin + 1} once more`
    : `${name} and ${one} ${twin + 1} are not of one set`;
}

function bytesOf(share: string): Buffer | undefined {
  if (/^(?:[0-9a-f]{2})+$/i.test(share)) return Buffer.from(share, "hex");
  const isBase64 = /^(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(share);
  return isBase64 ? Buffer.from(share, "base64") : undefined;
}

/** In both forms that Vault takes. */
function registerShare(share: string): void {
  registerSecret(share);
  const bytes = bytesOf(share);
  if (bytes === undefined) return;
  for (const form of ["hex", "base64"] as const) registerSecret(bytes.toString(form));
}
