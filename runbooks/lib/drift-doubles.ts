// One drift is told once. Where two checks see the same thing from two sides, the one that can mend it tells.
import type { Finding } from "./findings.ts";

/** Pure. */
export function withoutDoubles(findings: readonly Finding[]): Finding[] {
  const infra = findings.filter(({ check }) => check === "infra");
  return findings.filter((one) => !infra.some((other) => sees(other, one)));
}

/** Whether the engine's finding `other` is the cause of `one`. */
function sees(other: Finding, one: Finding): boolean {
  // What a resolver answers follows from the zone: where the engine sees that record changed in Route 53, `pulumi up`
  // mends both. Where only the answers differ (a delegation, a cache), nothing but `dns` sees it.
  if (one.check === "dns") return sameRecord(other.which, one.which);
  // A key of KMS that is declared, and that the engine sees disabled or on its way out.
  if (one.check === "backups" && one.kind === "kms-key-unusable")
    return / backup-wrapping$/.test(other.which);
  return false;
}

/** Both begin with `NAME TYPE`. */
function sameRecord(a: string, b: string): boolean {
  const words = (text: string) => text.toLowerCase().split(" ").slice(0, 2).join(" ");
  return a.includes(" ") && words(a) === words(b);
}
