// A restored Vault against the mail servers: what was rotated since the backup exists in Mailu alone, and the password
// that Vault has again may be the very one that strangers know. Each tenant's is tried; what happened to it since is
// marked; and where the server refuses it, a new one is set.
import { adminAddress, mailHost, type TenantId } from "../../stacks/names.ts";
import type { AuditEvent } from "./audit-chain.ts";
import { markCompromised, readMetadata } from "./compromised.ts";
import { messageOf, RunbookError } from "./errors.ts";
import type { IncidentId } from "./flag-types.ts";
import type { Verdict } from "./mail-login.ts";
import { proveAccepted } from "./prove.ts";
import { Admin, isPending, Rotation, Server, Tls } from "./records.ts";
import { finishPending, type ResetTools, resetTenant } from "./reset.ts";
import { hostOf, type Past } from "./restore-history.ts";
import { followApiToken, followHost, isBack, removeAgain, takeInAgain } from "./restore-hosts.ts";
import { readRotation } from "./rotation-begin.ts";
import { loginAt } from "./server-record.ts";
import { tlsTrust } from "./tls-trust.ts";
import { open } from "./transit.ts";
import { fingerprint, type Vault } from "./vault.ts";

/** What became of a tenant. */
export interface Reconciled {
  readonly tenant: TenantId;
  /**
   * `same`: the restored password logs in. `rotated`: it was refused, and a new one is in use. `rotated-since`: it is
   * refused, and nothing was done about that yet. `removed`: the tenant had been offboarded, and was back. `gone`: nothing
   * of it was. `unknown`: see `problems`.
   */
  readonly state: "same" | "rotated" | "rotated-since" | "removed" | "gone" | "unknown";
  /** Taken in again from its host, since the backup is older than its onboarding. */
  readonly onboarded: boolean;
  /** Found at another host than the backup knows. */
  readonly moved: boolean;
  /** Restored versions that strangers may know: they bear the mark. */
  readonly marked: readonly number[];
  /** The incident in which it was rotated since, if the log knows one. */
  readonly incident: string | null;
  /** What is still to be done, in sentences. */
  readonly problems: readonly string[];
}

export interface ReconcileOptions {
  /** Set new passwords where the server refuses the restored one. */
  readonly rotate: boolean;
  /** What stands for an incident that the log doesn't know. */
  readonly incident: IncidentId;
  /** The run that began the restore: its events are known by it. */
  readonly run: string;
}

/** Never throws for what one tenant lacks: that is a problem of its own, and the others go on. */
export async function reconcileTenant(
  tools: ResetTools,
  past: Past,
  options: ReconcileOptions,
): Promise<Reconciled> {
  const found = {
    state: "unknown",
    onboarded: false,
    moved: false,
    marked: [],
    incident: null,
    problems: [],
  };
  const result: Mutable<Reconciled> = { tenant: past.tenant, ...found, state: "unknown" };
  try {
    await settle(tools, past, options, result);
  } catch (error) {
    if (!(error instanceof RunbookError)) throw error;
    const next = error.next === undefined ? "" : ` (next: ${error.next})`;
    result.problems = [...result.problems, `${error.message}${next}`];
  }
  return result;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

async function settle(
  tools: ResetTools,
  past: Past,
  options: ReconcileOptions,
  result: Mutable<Reconciled>,
): Promise<void> {
  const { vault, settings, change } = tools;
  const { tenant, tombstone } = past;
  if (tombstone !== undefined) {
    result.state = "gone";
    if (!(await isBack(vault, past))) return;
    await change(`remove ${tenant}, offboarded at ${tombstone.offboarded_at}`, async () => {
      await tools.audit.append({
        event: "tenant_removed_after_restore",
        tenantId: tenant,
        details: { offboarded_at: tombstone.offboarded_at, key: tombstone.key },
        originalRun: options.run,
      });
      await removeAgain(vault, past);
      result.state = "removed";
    });
    return;
  }
  if (!past.records.includes("admin")) return takeIn(tools, past, options, result);
  if (past.events.some(({ event }) => REBUILT.has(event))) {
    await change(`look where the host of ${tenant} is since its rebuild`, async () => {
      result.moved = await followHost(vault, settings, tenant);
    });
  }
  const incidents = await marksOf(vault, past);
  result.incident = incidents.at(-1)?.incident ?? null;
  result.marked = [...new Set(incidents.flatMap(({ versions }) => versions))];
  await change(`mark the versions of ${tenant} that became known since`, async () => {
    for (const mark of incidents) await markCompromised(vault, tenant, { ...mark, at: new Date() });
  });
  await compare(tools, past, options, result);
}

/** Events after which a tenant's host is another one. */
const REBUILT = new Set(["smtp_credentials_recovered", "smtp_credentials_installed"]);
/** Events that say that an older version is known to strangers. */
const ROTATED = "smtp_credentials_emergency_reset";
const MARKED = "smtp_credentials_marked_compromised";

async function takeIn(
  tools: ResetTools,
  { tenant, hasStack, events }: Past,
  options: ReconcileOptions,
  result: Mutable<Reconciled>,
): Promise<void> {
  const at = hasStack ? await hostOf(tools.settings, tenant) : undefined;
  if (at === undefined) {
    // Only a rotation record, or a word in the log, is left of some tenant or other: nothing was lost with it.
    const began = events.find(({ event }) => event === "tenant_onboarded");
    if (began === undefined && !hasStack) {
      result.state = "gone";
      return;
    }
    const domain = String(began?.details.domain ?? "…");
    result.problems = [
      `${tenant} was onboarded since and has no host yet: npx runbook onboard-tenant --tenant ${tenant} --domain ${domain}`,
    ];
    return;
  }
  await tools.change(`take ${tenant} in again from its host ${at.address}`, async () => {
    // First, since afterwards it would look like any other tenant to whoever comes after a dead run.
    await tools.audit.append({
      event: "tenant_taken_in_after_restore",
      tenantId: tenant,
      details: { address: at.address, domain: at.domain },
      originalRun: options.run,
    });
    await takeInAgain(tools.vault, tools.settings, tenant, at);
  });
  result.onboarded = true;
  await compare(tools, { tenant, events }, options, result);
}

/** Tries the password, finishes a rotation that the backup caught in the middle, and rotates what the server refuses. */
async function compare(
  tools: ResetTools,
  { tenant, events }: Pick<Past, "tenant" | "events">,
  options: ReconcileOptions,
  result: Mutable<Reconciled>,
): Promise<void> {
  const { vault, settings, change } = tools;
  let verdict = await tryCurrent(vault, tenant);
  // A host that doesn't answer where Vault has it may have moved without the log's knowing.
  if (
    verdict.result === "inconclusive" &&
    !result.moved &&
    (await followHost(vault, settings, tenant).catch(() => false))
  ) {
    result.moved = true;
    verdict = await tryCurrent(vault, tenant);
  }
  const pending = await pendingRotation(vault, tenant);
  if (pending !== undefined && verdict.result !== "inconclusive") {
    await change(`settle the rotation of ${tenant} that the backup caught in state ${pending.state}`, () =>
      settleRotation(tools, tenant, pending, verdict),
    );
    verdict = await tryCurrent(vault, tenant);
  }
  if (verdict.result === "accepted") {
    result.state = "same";
    return;
  }
  if (verdict.result !== "refused") {
    result.problems = [`the password of ${tenant} can't be tried: ${verdict.said}`];
    return;
  }
  result.state = "rotated-since";
  const incident = (result.incident ?? options.incident) as IncidentId;
  if (!options.rotate) {
    await change(`mark the restored password of ${tenant}: the server has another one`, async () => {
      const version = (await readMetadata(vault, tenant)).current_version;
      await markCompromised(vault, tenant, { incident, by: vault.user, at: new Date(), versions: [version] });
      result.marked = [...new Set([...result.marked, version])];
    });
    return;
  }
  await followApiToken(vault, settings, tenant);
  const restored = (await readMetadata(vault, tenant)).current_version;
  const done = await resetTenant(tools, {
    tenant,
    incident,
    kind: "reconcile",
    reason: "Vault was restored from a backup, and the mail server has another password",
    details: { last_rotation: lastRotation(events) },
    // Whatever this incident had before was with the lost Vault.
    again: true,
    takeOver: "now",
  });
  result.state = "rotated";
  result.marked = [...new Set([...result.marked, restored])];
  result.problems = [...done.outstanding];
}

async function tryCurrent(vault: Vault, tenant: TenantId): Promise<Verdict> {
  const admin = await vault.record(tenant, "admin", Admin);
  return tryPassword(vault, tenant, admin?.data.password);
}

async function tryPassword(vault: Vault, tenant: TenantId, ciphertext: string | undefined): Promise<Verdict> {
  const server = (await vault.record(tenant, "server", Server))?.data;
  const tls = (await vault.record(tenant, "tls", Tls))?.data;
  if (server === undefined) return { result: "inconclusive", said: "it has no host" };
  if (ciphertext === undefined) return { result: "inconclusive", said: "it has no credential" };
  try {
    const password = await open(vault, tenant, ciphertext, `a password of ${adminAddress(server.domain)}`);
    const trust = tlsTrust(mailHost(server.domain), tls?.certificate);
    return await proveAccepted({ ...loginAt(server), trust, password });
  } catch (error) {
    return { result: "inconclusive", said: messageOf(error) };
  }
}

async function pendingRotation(vault: Vault, tenant: TenantId): Promise<Rotation | undefined> {
  const { stored } = await readRotation(vault, tenant);
  return stored !== undefined && isPending(stored.data.state) ? stored.data : undefined;
}

/**
 * One of whose two passwords logs in is finished. Where neither does, it was finished long ago and followed by another
 * one: to finish it now would set a password that may have leaked, so it's closed.
 */
async function settleRotation(
  tools: ResetTools,
  tenant: TenantId,
  pending: Rotation,
  current: Verdict,
): Promise<void> {
  const { vault, settings } = tools;
  const prepared = await tryPassword(vault, tenant, pending.password);
  if (current.result === "accepted" || prepared.result === "accepted") {
    await followApiToken(vault, settings, tenant);
    await finishPending(tools, tenant, "now");
    return;
  }
  if (current.result !== "refused" || prepared.result !== "refused") return;
  await vault.updateRecord(tenant, "rotation", Rotation, (stored) =>
    stored === undefined ? undefined : { ...stored.data, state: "RETIRED", events_due: [], holder: null },
  );
}

/**
 * Which of the versions that are back strangers know by now, by the incident that says so. A version is known by the
 * SHA-256 of its ciphertext: its number may have been another one's before an earlier restore.
 */
async function marksOf(
  vault: Vault,
  { tenant, events }: Past,
): Promise<{ incident: string; by: string; versions: number[] }[]> {
  const telling = events.filter(({ event }) => event === ROTATED || event === MARKED);
  if (telling.length === 0) return [];
  const { versions: kept } = await readMetadata(vault, tenant);
  const numbers = Object.keys(kept)
    .filter((version) => kept[version]?.destroyed === false)
    .map(Number);
  const known = new Map<string, number>();
  for (const number of numbers) {
    const admin = await vault.record(tenant, "admin", Admin, number);
    if (admin !== undefined) known.set(fingerprint(admin.data.password), number);
  }
  return telling.flatMap((event) => {
    const versions = toldVersions(event, known);
    const incident = String(event.details.incident_id ?? "unknown");
    return versions.length === 0 ? [] : [{ incident, by: event.user_id, versions }];
  });
}

function toldVersions({ event, details }: AuditEvent, known: ReadonlyMap<string, number>): number[] {
  const sha256 = event === MARKED ? details.ciphertext_sha256 : details.old_ciphertext_sha256;
  if (typeof sha256 === "string") return [known.get(sha256) ?? []].flat();
  // Events of earlier releases name the numbers alone.
  const numbers = [...known.values()];
  const told = event === MARKED ? [details.version] : (details.old_versions ?? []);
  return Array.isArray(told) ? told.filter((one): one is number => numbers.includes(one as number)) : [];
}

const lastRotation = (events: readonly AuditEvent[]): string | null =>
  events.findLast(({ event }) => event === ROTATED)?.timestamp ?? null;
