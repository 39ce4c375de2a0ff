// What a run finds when it takes a tenant's rotation: one to go on with, or the start of a new one. Only a rotation
// that is finished makes room for another, and an incident that had one before doesn't get a second by itself.
import { z } from "zod";
import type { TenantId } from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import { Admin, isPending, Rotation } from "./records.ts";
import type { TakeOver } from "./take-over.ts";
import { fingerprint, type Stored, type Vault } from "./vault.ts";

/** What a new rotation is for; `prepare` is asked for a password only when no rotation is to go on. */
export interface RotationRequest {
  readonly kind: Rotation["kind"];
  readonly run: string;
  readonly reason: string;
  readonly details: Record<string, unknown>;
  /** Decides on the password to install, given the current one: its ciphertext, and whether it is new. */
  readonly prepare: (admin: Stored<Admin>) => Promise<{ password: string; rotates: boolean }>;
  readonly takeOver: TakeOver;
  /** A rotation of this incident is gone on with also when it is finished, unless `again`. */
  readonly incident?: string;
  readonly again?: boolean;
  /** Audit events that the rotation owes. */
  readonly eventsDue?: readonly string[];
}

/**
 * The tenant's rotation record, and the version to write over. A record that is unusable or was deleted counts as
 * none: Vault keeps it as an older version, and what it may have been about is settled by the next password.
 */
export async function readRotation(
  vault: Vault,
  tenant: TenantId,
): Promise<{ stored: Stored<Rotation> | undefined; version: number }> {
  const found = await vault.record(tenant, "rotation", z.unknown());
  if (found === undefined) return { stored: undefined, version: await vault.goneVersion(tenant, "rotation") };
  const parsed = Rotation.safeParse(found.data);
  return {
    stored: parsed.success ? { ...found, data: parsed.data } : undefined,
    version: found.version,
  };
}

/** Whether the request goes on with what is there: a pending rotation, or the finished one of its own incident. */
export const goesOn = (there: Rotation, { incident, again }: RotationRequest): boolean =>
  isPending(there.state) || (incident !== undefined && again !== true && hadIncident(there, incident));

/** Whether a rotation for this incident was begun on the tenant before. */
export const hadIncident = ({ incident_id, history }: Rotation, incident: string): boolean =>
  incident_id === incident || history.some((one) => one.incident === incident);

/** The record of a new rotation. Throws Overtaken (4) for a tenant whose credential is not there, or is about to go. */
export async function begin(
  vault: Vault,
  tenant: TenantId,
  before: Rotation | undefined,
  request: RotationRequest,
): Promise<Rotation> {
  if (before?.offboarded !== undefined) throw new Overtaken(tenant, "it is being offboarded");
  const admin = await vault.record(tenant, "admin", Admin);
  if (admin === undefined) throw new Overtaken(tenant, "its credential is not in Vault");
  const prepared = await request.prepare(admin);
  return {
    state: "PREPARED",
    kind: request.kind,
    ...prepared,
    incident_id: request.incident ?? null,
    reason: request.reason,
    details: request.details,
    run: request.run,
    actor: vault.user,
    started: new Date().toISOString(),
    base_version: admin.version,
    base_sha256: fingerprint(admin.data.password),
    old_versions: prepared.rotates ? [admin.version] : [],
    rejected: [],
    new_proof: null,
    old_proof: null,
    findings: null,
    events_due: [...(request.eventsDue ?? [])],
    displayed: false,
    holder: null,
    history: before?.history ?? [],
  };
}

/**
 * A rotation as its next run goes on with it. One that is pending and brings no new password decides again: the
 * current one may have been marked compromised since.
 */
export async function resume(
  vault: Vault,
  tenant: TenantId,
  there: Rotation,
  request: RotationRequest,
): Promise<Rotation> {
  if (there.rotates || there.kind !== request.kind || !isPending(there.state)) return there;
  const admin = await vault.record(tenant, "admin", Admin);
  if (admin === undefined) return there;
  const base = { base_version: admin.version, base_sha256: fingerprint(admin.data.password) };
  const prepared = await request.prepare(admin);
  return { ...there, ...base, ...prepared, old_versions: prepared.rotates ? [admin.version] : [] };
}

/** This run no longer holds the rotation, or what it is about is gone: it stops and touches nothing more. */
export class Overtaken extends RunbookError {
  constructor(tenant: TenantId, why: string) {
    super(`Stopped before changing ${tenant} any further: ${why}`, {
      exit: "refused",
      next: "run this again: it starts from what Vault holds now",
    });
  }
}
