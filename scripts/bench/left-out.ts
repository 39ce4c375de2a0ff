// Which exchanges of the real reset the bare script does without, and why. An exchange that it leaves out and that
// isn't listed here fails the benchmark: the floor must not sink unseen.
import { counted } from "./exchanges.ts";

/** Every reason that there is; the first that fits counts. */
const REASONS: readonly [exchange: RegExp, why: string][] = [
  [
    /^Vault read smtp\/data\/[^/]+\/(?:rotation|admin)$/,
    "read again when it is taken, committed, retired: others may have written",
  ],
  [/^Vault read smtp\/data\/[^/]+\/(?:mailu|tls)$/, "read again before it is rewrapped"],
  [/^Vault read smtp-transit\/keys\//, "read again before the minimums rise"],
  [
    /^Vault update smtp\/data\/[^/]+\/rotation$/,
    "the old password's proof by itself; letting go of the record",
  ],
  [/^Vault read smtp\/metadata\//, "the mark is read back: others may patch at the same moment"],
  [/^S3 GET/, "the outbox is looked through, so that notices that other runs left go too"],
];

export interface Comparison {
  readonly exchange: string;
  readonly real: number;
  readonly bare: number;
  /** Why the bare script sends fewer; undefined where it sends as many. */
  readonly why: string | undefined;
}

/** Both lists side by side. Throws where one sends what can't be explained. */
export function compare(real: readonly string[], bare: readonly string[]): Comparison[] {
  const [ofReal, ofBare] = [counted(real), counted(bare)];
  return [...new Set([...ofReal.keys(), ...ofBare.keys()])].map((exchange) => {
    const counts = { exchange, real: ofReal.get(exchange) ?? 0, bare: ofBare.get(exchange) ?? 0 };
    if (counts.bare === counts.real) return { ...counts, why: undefined };
    if (counts.bare > counts.real)
      throw new Error(
        `The bare script sends '${exchange}' ${counts.bare} times, the reset ${counts.real} times`,
      );
    const [, why] = REASONS.find(([pattern]) => pattern.test(exchange)) ?? [];
    if (why === undefined) throw new Error(`The bare script leaves out '${exchange}', and nothing says why`);
    return { ...counts, why };
  });
}
