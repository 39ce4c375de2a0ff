// REFUSED to RETIRED: what follows once Vault has the new password. None of it keeps the tenant from logging in, so a
// step that fails is told at the end and holds up no other.
import type { Account } from "./account.ts";
import { markCompromised } from "./compromised.ts";
import { RunbookError } from "./errors.ts";
import { contactAddresses } from "./notice.ts";
import { proveOldDead } from "./old-password.ts";
import { isBefore, isPending, type OldProof } from "./records.ts";
import type { ResetTools } from "./reset.ts";
import { containCommand, keepEvents, keepNotices, resetBy } from "./reset-events.ts";
import { retireOldKeyVersions } from "./retire.ts";
import type { Rotating } from "./rotation.ts";
import { Overtaken } from "./rotation-begin.ts";
import { sweepOpenDoors } from "./sweep.ts";

export class Aftermath {
  readonly #tools: ResetTools;
  readonly #account: Account;
  readonly #left: string[] = [];

  constructor(tools: ResetTools, account: Account) {
    this.#tools = tools;
    this.#account = account;
  }

  outstanding(rotating: Rotating | undefined): string[] {
    if (rotating?.record.new_proof !== "hash" || !isBefore(rotating.record.state, "RETIRED"))
      return this.#left;
    const limited = `the server lets nobody log in for now (451), so the new password is proven by its changed hash alone: put this network into exemptNetworks of tenant-${rotating.tenant}`;
    return [limited, ...this.#left];
  }

  /** REFUSED, first half. What is proven stays proven. */
  async refuse(rotating: Rotating): Promise<void> {
    const { record } = rotating;
    if (record.old_proof === "refused" || record.old_proof === "unavailable") return;
    const { proof, said } = await proveOldDead(this.#tools.vault, this.#account, record);
    await rotating.advance(record.state, { old_proof: proof });
    if (proof === "refused" && !isPending(record.state)) await this.#tellOfLateProof(rotating);
    const problem = proofProblem(rotating, proof, said);
    if (problem !== undefined) this.#left.push(problem);
  }

  /** REFUSED, second half. */
  async sweep(rotating: Rotating): Promise<void> {
    const { record } = rotating;
    if (!isBefore(record.state, "REFUSED") && record.findings?.unknown.length === 0) return;
    const { settings } = this.#tools;
    const findings = await sweepOpenDoors(settings, this.#account, record.findings, (found) =>
      rotating.advance(record.state, { findings: found }),
    );
    await rotating.advance("REFUSED", { findings });
    this.#left.push(...findings.unknown.map((what) => `not looked at: ${what}`));
  }

  /** MARKED. */
  async mark(rotating: Rotating): Promise<void> {
    const { incident_id, kind, old_versions, base_version } = rotating.record;
    const mark = {
      incident: incident_id ?? kind,
      by: resetBy(rotating.record),
      at: new Date(),
      versions: old_versions.length > 0 ? old_versions : [base_version],
    };
    const done = await this.#try("the old version is not marked", () =>
      markCompromised(this.#tools.vault, rotating.tenant, mark),
    );
    if (done) await rotating.advance("MARKED");
  }

  /** NOTIFIED: stored, not sent; sending is tried when nothing waits for it any more. */
  async notify(rotating: Rotating, version: number): Promise<void> {
    const { audit, outbox } = this.#tools;
    const told = { account: this.#account, record: rotating.record, version };
    const { warning } = contactAddresses(this.#account.server);
    if (warning !== undefined && rotating.record.kind === "response") await this.#tools.note(warning);
    const done = await this.#try("the notices are not stored", () =>
      Promise.all([keepEvents(audit, told), keepNotices(outbox, told)]),
    );
    if (done) await rotating.advance("NOTIFIED");
  }

  /** CLEARED, but not before the audit store has the events: else nobody would come back for one that was lost. */
  async clear(rotating: Rotating, version: number): Promise<void> {
    if (isBefore(rotating.record.state, "NOTIFIED")) return;
    if (await this.#tools.audit.acknowledged()) {
      await rotating.clear(version);
      // While the key is retired: nobody waits for a relay, and nothing that is told can still change.
      this.#tools.outbox.deliverMeanwhile(rotating.tenant);
    } else this.#left.push("the rotation record stays open until the audit log has its events");
  }

  /** RETIRED. Not while the old password isn't proven dead: the proof needs it once more. */
  async retire(rotating: Rotating): Promise<void> {
    const { state, old_proof } = rotating.record;
    if (!isBefore(state, "RETIRED")) return;
    if (old_proof === "inconclusive" || old_proof === "accepted") {
      this.#left.push("the key's old versions stay until the old password is proven dead");
      return;
    }
    const done = await this.#try("the key's old versions are not retired", () =>
      retireOldKeyVersions(this.#tools.vault, rotating.tenant),
    );
    if (done && !isPending(state)) await rotating.advance("RETIRED");
  }

  async #tellOfLateProof({ record, tenant }: Rotating): Promise<void> {
    await this.#tools.audit.append({
      event: "old_credential_proven_dead",
      tenantId: tenant,
      originalRun: record.run,
      details: { incident_id: record.incident_id, versions: record.old_versions },
    });
  }

  /** Whether it could be done; what it says of a failure is told at the end. */
  async #try(what: string, act: () => Promise<unknown>): Promise<boolean> {
    try {
      await act();
      return true;
    } catch (error) {
      if (error instanceof Overtaken || !(error instanceof RunbookError)) throw error;
      this.#left.push(`${what}: ${error.message}${error.next === undefined ? "" : ` (next: ${error.next})`}`);
      return false;
    }
  }
}

function proofProblem({ tenant, record }: Rotating, proof: OldProof, said: string): string | undefined {
  const problems: Record<OldProof, string | undefined> = {
    refused: undefined,
    accepted: `THE OLD PASSWORD STILL LOGS IN: ${containCommand(tenant, record)}   # then find out why`,
    inconclusive: `the old password is not proven dead: ${said}`,
    unavailable: `the old password can't be tried: ${said}`,
  };
  return problems[proof];
}
