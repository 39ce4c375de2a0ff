// What drift checks found, and what they could not look at. The two are kept apart: a check that did not run has
// found nothing out, and must never pass for one that found all well.
import { messageOf, RunbookError } from "./errors.ts";

export const CHECKS = ["infra", "vault", "credentials", "host", "dns", "backups"] as const;
export type CheckName = (typeof CHECKS)[number];

/** Something that isn't as declared. Texts hold no secret: a secret's value is shown as `[secret]`. */
export interface Finding {
  check: CheckName;
  /** What sort of drift, in lower-case words with hyphens; docs/drift.md has a row for each: `record-differs`. */
  kind: string;
  /** The stack, tenant or bucket that it is about. */
  about: string;
  /** Which one of several, such as a DNS name or a file's path; empty where there can be only one. */
  which: string;
  /** A sentence. */
  what: string;
  declared?: string;
  found?: string;
  /** The command that mends it, ready to paste. */
  mend: string;
}

/** A check, or a part of one, that could not run. */
export interface Unchecked {
  check: CheckName;
  about: string;
  why: string;
  /** The command that helps. */
  next: string;
}

/** The same for the same drift tomorrow: what was declared and found, which may change, isn't part of it. */
export function findingId({ check, kind, about, which }: Finding): string {
  return [check, kind, about, ...(which === "" ? [] : [which])].join("/");
}

/** Collects what all checks say. */
export class DriftReport {
  readonly findings: Finding[] = [];
  readonly unchecked: Unchecked[] = [];

  add(...findings: Finding[]): void {
    this.findings.push(...findings);
  }

  couldNot(...unchecked: Unchecked[]): void {
    this.unchecked.push(...unchecked);
  }

  /** Takes a look; what goes wrong with it is said as not checked, and the other looks go on. */
  async look(check: CheckName, about: string, act: () => Promise<Finding[]>): Promise<void> {
    try {
      this.add(...(await act()));
    } catch (error) {
      const next = error instanceof RunbookError ? error.next : undefined;
      this.couldNot({ check, about, why: messageOf(error), next: next ?? "npx runbook check-drift" });
    }
  }
}
