// The rotation's state machine from PREPARED to RETIRED. Each step may die before it, in it and after it: whoever
// comes next reads the state and goes on. What a step can't do, and what the tenant's safety doesn't hang on, holds
// up nothing else: it is told at the end.
import type { Account } from "./account.ts";
import { markCompromised } from "./compromised.ts";
import { RunbookError } from "./errors.ts";
import { installPassword } from "./install-password.ts";
import { smtpLogin } from "./mail-login.ts";
import { proveOldDead } from "./old-password.ts";
import { proveAccepted } from "./prove.ts";
import { isBefore, isPending, type OldProof } from "./records.ts";
import type { ResetTools } from "./reset.ts";
import { keepEvents, keepNotices, resetBy } from "./reset-events.ts";
import { retireOldKeyVersions } from "./retire.ts";
import type { Rotating } from "./rotation.ts";
import { Overtaken } from "./rotation-begin.ts";
import { sweepOpenDoors } from "./sweep.ts";

export interface Finished {
  /** The credential's version in Vault. */
  readonly version: number;
  /** What is still to be done or to be looked at, in sentences; empty: everything is done. */
  readonly outstanding: readonly string[];
}

/** How many passwords are made before the server is believed to take none. */
const PASSWORDS = 3;

/**
 * Finishes a rotation that this run holds; `rotating` is undefined in a dry run. `pending` false: its password is in
 * use already, and only what was left outstanding is done.
 * Throws Overtaken (4) when another run took over, incomplete (5) when it can't go on.
 */
export async function finishRotation(
  tools: ResetTools,
  account: Account,
  rotating: Rotating | undefined,
  pending: boolean,
): Promise<Finished> {
  const rotation = new Finishing(tools, account, rotating);
  const step = (title: string, act: () => Promise<void>) =>
    tools.change(title, () => act().catch((error: unknown) => rotation.stop(error)));
  const kind = rotating?.record.kind ?? (pending ? undefined : account.rotation?.kind);

  if (pending) {
    await step(`set the password of ${account.username} in Mailu`, () => rotation.set());
    await step("prove the new password: log in over SMTP and IMAP", () => rotation.prove());
    await step("store it in Vault as the current credential", () => rotation.commit());
  }
  if (kind !== "recovery") {
    await step("prove the old password dead: SMTP answers 535", () => rotation.refuse());
    await step("delete app tokens that nobody sanctioned, end open connections, look for other ways in", () =>
      rotation.sweep(),
    );
    await step("mark the old version compromised", () => rotation.mark());
  }
  if (pending) {
    await step("store the audit events and the notices", () => rotation.notify());
    await step("clear the rotation record", () => rotation.clear());
  }
  if (kind !== "recovery") {
    await step("retire the old versions of the tenant's key", () => rotation.retire());
  }
  return rotation.finished();
}

class Finishing {
  readonly #tools: ResetTools;
  readonly #account: Account;
  readonly #rotating: Rotating | undefined;
  readonly #outstanding: string[] = [];
  #password = "";
  #version = 0;

  constructor(tools: ResetTools, account: Account, rotating: Rotating | undefined) {
    this.#tools = tools;
    this.#account = account;
    this.#rotating = rotating;
  }

  finished(): Finished {
    const last = this.#rotating?.record.history.at(-1)?.version ?? this.#account.admin.version;
    return { version: this.#version || last, outstanding: this.#outstanding };
  }

  /** Once the record is held, whatever goes wrong leaves something to resume. */
  stop(error: unknown): never {
    if (error instanceof Overtaken || !(error instanceof RunbookError)) throw error;
    throw new RunbookError(
      `${error.message}; the rotation of ${this.#account.tenant} waits in state ${this.#held.record.state}`,
      {
        exit: "incomplete",
        next: error.next ?? "run the same command again: it goes on from there",
        cause: error,
        ...(error.result === undefined ? {} : { result: error.result }),
      },
    );
  }

  /** SET. A password that is Vault's current one already is set again only if it doesn't log in. */
  async set(): Promise<void> {
    if (!isBefore(this.#held.record.state, "COMMITTED")) {
      const current = await this.#account.decrypt(this.#held.record.password);
      if (await this.#logsIn(current)) return this.#use(current);
    }
    await this.#install();
  }

  /** ACCEPTED. A password that the server takes and then refuses is made anew; what it said is kept as evidence. */
  async prove(): Promise<void> {
    for (let made = 1; ; made++) {
      const verdict = await proveAccepted({ ...this.#account.login, password: this.#password });
      if (verdict.result === "accepted") return this.#held.advance("ACCEPTED", { new_proof: "login" });
      if (verdict.result === "limited" && (await this.#hashChanged())) {
        return this.#held.advance("ACCEPTED", { new_proof: "hash" });
      }
      if (verdict.result !== "refused" || made === PASSWORDS) throw this.#unproven(verdict.said, made);
      await this.#held.prepareAnew(await this.#account.sealNewPassword(), verdict.said);
      await this.#install();
    }
  }

  /** COMMITTED. */
  async commit(): Promise<void> {
    this.#version = await this.#held.commit(new Date(), async () => {
      await this.#install();
      await this.prove();
    });
    await this.#held.advance("COMMITTED");
    if (this.#held.record.new_proof === "hash") {
      this.#outstanding.push(
        `the new password could not be tried: the server lets nobody log in for now (451), but its hash has changed; put this network into exemptNetworks of the stack tenant-${this.#account.tenant}`,
      );
    }
  }

  /** REFUSED, first half. Proven before is proven. */
  async refuse(): Promise<void> {
    const { record } = this.#held;
    if (record.old_proof !== null && record.old_proof !== "inconclusive")
      return this.#tellOfProof(record.old_proof, "");
    const { proof, said } = await proveOldDead(this.#tools.vault, this.#account, record);
    await this.#held.advance(record.state, { old_proof: proof });
    if (proof === "refused" && !isPending(record.state)) await this.#tellOfLateProof();
    this.#tellOfProof(proof, said);
  }

  /** REFUSED, second half. */
  async sweep(): Promise<void> {
    const { record } = this.#held;
    const done = !isBefore(record.state, "REFUSED") && record.findings?.unknown.length === 0;
    if (done) return;
    const findings = await sweepOpenDoors(this.#tools.settings, this.#account, record.findings, (found) =>
      this.#held.advance(record.state, { findings: found }),
    );
    await this.#held.advance("REFUSED", { findings });
    this.#outstanding.push(...findings.unknown.map((what) => `not looked at: ${what}`));
  }

  /** MARKED. */
  async mark(): Promise<void> {
    const { record } = this.#held;
    const incident = record.incident_id ?? record.kind;
    const versions = record.old_versions.length > 0 ? record.old_versions : [record.base_version];
    try {
      await markCompromised(this.#tools.vault, this.#account.tenant, {
        incident,
        by: resetBy(record),
        at: new Date(),
        versions,
      });
    } catch (error) {
      return this.#leave("the old version is not marked", error);
    }
    await this.#held.advance("MARKED");
  }

  /** NOTIFIED: stored, not sent; sending is tried when nothing waits for it any more. */
  async notify(): Promise<void> {
    const { audit, outbox } = this.#tools;
    const told = { account: this.#account, record: this.#held.record, version: this.#version };
    try {
      await Promise.all([keepEvents(audit, told), keepNotices(outbox, told)]);
    } catch (error) {
      return this.#leave("the notices are not stored", error);
    }
    await this.#held.advance("NOTIFIED");
  }

  /** CLEARED, but not before the audit store has the events: else nobody would come back for one that was lost. */
  async clear(): Promise<void> {
    if (isBefore(this.#held.record.state, "NOTIFIED")) return;
    if (await this.#tools.audit.acknowledged()) await this.#held.clear(this.#version);
    else this.#outstanding.push("the rotation record stays open until the audit log has its events");
  }

  /** RETIRED. Not while the old password isn't proven dead: the proof needs it once more. */
  async retire(): Promise<void> {
    const { record, tenant } = this.#held;
    if (!isBefore(record.state, "RETIRED")) return;
    if (record.old_proof === "inconclusive") {
      this.#outstanding.push("the key's old versions stay until the old password is proven dead");
      return;
    }
    try {
      await retireOldKeyVersions(this.#tools.vault, tenant);
    } catch (error) {
      return this.#leave("the key's old versions are not retired", error);
    }
    if (!isPending(record.state)) await this.#held.advance("RETIRED");
  }

  get #held(): Rotating {
    if (this.#rotating === undefined) throw new Error("a dry run holds no rotation");
    return this.#rotating;
  }

  async #install(): Promise<void> {
    const { mailu, server, decrypt } = this.#account;
    this.#use(
      await installPassword(this.#held, {
        decrypt: (ciphertext) => decrypt(ciphertext),
        set: (plaintext) => mailu.setAdminPassword(server.domain, plaintext),
        logsIn: (plaintext) => this.#logsIn(plaintext),
      }),
    );
    await this.#held.advance("SET");
  }

  #use(password: string): void {
    this.#password = password;
  }

  async #logsIn(password: string): Promise<boolean> {
    return (await smtpLogin({ ...this.#account.login, password })).result === "accepted";
  }

  async #hashChanged(): Promise<boolean> {
    const { mailu, username, hash } = this.#account;
    const now = await mailu.passwordHash(username);
    return now !== undefined && now !== hash;
  }

  #unproven(said: string, made: number): RunbookError {
    const { tenant, server, username } = this.#account;
    const what =
      made === PASSWORDS
        ? `Mailu took ${PASSWORDS} new passwords for ${username}, and the server refused each at the login`
        : `The new password of ${username} can't be proven`;
    return new RunbookError(`${what}: ${said}`, {
      exit: "failed",
      next: `ssh root@${server.vps_ip} docker compose -f /opt/mailu/docker-compose.yml logs --tail 50   # then the same command again; is the password in strangers' hands meanwhile: npx runbook contain --tenant ${tenant}`,
    });
  }

  #tellOfProof(proof: OldProof, said: string): void {
    const { tenant } = this.#account;
    if (proof === "accepted") {
      this.#outstanding.push(
        `THE OLD PASSWORD STILL LOGS IN: npx runbook contain --tenant ${tenant}, then find out why`,
      );
    } else if (proof === "inconclusive") {
      this.#outstanding.push(`the old password is not proven dead: ${said}`);
    } else if (proof === "unavailable" && said !== "") {
      this.#outstanding.push(`the old password can't be tried: ${said}`);
    }
  }

  async #tellOfLateProof(): Promise<void> {
    const { record, tenant } = this.#held;
    await this.#tools.audit.append({
      event: "old_credential_proven_dead",
      tenantId: tenant,
      originalRun: record.run,
      details: { incident_id: record.incident_id, versions: record.old_versions },
    });
  }

  #leave(what: string, error: unknown): void {
    if (error instanceof Overtaken || !(error instanceof RunbookError)) throw error;
    this.#outstanding.push(
      `${what}: ${error.message}${error.next === undefined ? "" : ` (next: ${error.next})`}`,
    );
  }
}
