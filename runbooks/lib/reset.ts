// The emergency reset of one tenant, the same for a person, for a response to a compromise and for whoever resumes a
// dead run: look at everything, take the rotation record with a new password in it, finish the rotation. A rotation
// that somebody else left is finished first, under its own incident.
import type { TenantId } from "../../stacks/names.ts";
import { type Account, openAccount } from "./account.ts";
import type { AuditLog } from "./audit.ts";
import { RunbookError } from "./errors.ts";
import { type Finished, finishRotation } from "./finish-rotation.ts";
import type { IncidentId } from "./flag-types.ts";
import type { Outbox } from "./outbox.ts";
import { isPending, type Rotation } from "./records.ts";
import { Rotating } from "./rotation.ts";
import { goesOn, hadIncident, Overtaken, type RotationRequest } from "./rotation-begin.ts";
import type { Run } from "./runbook.ts";
import type { Settings } from "./settings.ts";
import type { TakeOver } from "./take-over.ts";
import { rotateKeyBeyond } from "./transit.ts";
import type { Vault } from "./vault.ts";

/** What a reset works with; the same for all tenants of a run. */
export interface ResetTools extends Pick<Run<unknown>, "check" | "change" | "note" | "onExit" | "runId"> {
  readonly settings: Settings;
  readonly vault: Vault;
  readonly audit: AuditLog;
  readonly outbox: Outbox;
}

export interface ResetRequest {
  readonly tenant: TenantId;
  /** `reconcile`: after a restore of Vault, where the server has another password than Vault. */
  readonly kind: "reset" | "response" | "reconcile";
  readonly incident: IncidentId;
  readonly reason: string;
  readonly details: Record<string, unknown>;
  /** Rotate although this incident had its rotation. */
  readonly again: boolean;
  readonly takeOver: TakeOver;
  /** Asked once everything was looked at, before anything changes. */
  readonly confirm?: (account: Account, plan: Plan) => Promise<void>;
}

/** `finish`: the incident's rotation is pending. `done`: it is finished, and only what is outstanding is done. */
export type Plan = "rotate" | "finish" | "done";

export interface ResetDone extends Finished {
  readonly account: Account;
  /** Undefined in a dry run. */
  readonly rotating: Rotating | undefined;
  readonly plan: Plan;
}

/** Audit events that a rotation of this kind owes. */
const EVENTS: Record<ResetRequest["kind"], readonly string[]> = {
  reset: ["smtp_credentials_emergency_reset"],
  response: ["smtp_credentials_emergency_reset", "credential_compromise_response"],
  reconcile: ["smtp_credentials_emergency_reset"],
};

/** Resets a tenant. Throws Held (4) while somebody else is at it, incomplete (5) when the same command must go on. */
export async function resetTenant(tools: ResetTools, request: ResetRequest): Promise<ResetDone> {
  const account = await openAccount(tools.vault, request.tenant, tools);
  tools.onExit(() => account.mailu.close());
  const asked = rotationRequest(tools, account, request);
  const plan = planOf(account.rotation, asked);
  await request.confirm?.(account, plan);

  const there = account.rotation;
  const before =
    there !== undefined && plan === "rotate" && isPending(there.state)
      ? await finishForeign(tools, account, there, asked)
      : undefined;
  if (before?.pending === true) {
    throw new RunbookError(
      `${whose(there)} must be over before another one begins, and isn't: ${before.outstanding.join("; ")}`,
      { exit: "incomplete", next: "mend that, then run the same command again" },
    );
  }
  const rotating = await take(tools, TITLES[plan], asked, request);
  const owes = plan !== "done" || owesResponse(there, request);
  const { version, outstanding } = await finishRotation(tools, account, rotating, owes);
  const left = before?.outstanding.map((what) => `of ${whose(there)}: ${what}`) ?? [];
  return { version, outstanding: [...left, ...outstanding], account, rotating, plan };
}

/** A tenant that was reset by hand is safe already, but nobody has told him. */
const owesResponse = (there: Rotation | undefined, { kind, incident }: ResetRequest): boolean =>
  there?.incident_id === incident && there.kind === "reset" && kind === "response";

const TITLES: Record<Plan, string> = {
  rotate: "rotate the tenant's key, encrypt a new password, write it into the rotation record",
  finish: "take over the pending rotation of this incident",
  done: "take the finished rotation of this incident",
};

/** Finishes the rotation that a dead run left, for nobody's request but its own. */
export async function finishPending(
  tools: ResetTools,
  tenant: TenantId,
  takeOver: TakeOver,
): Promise<Finished> {
  const account = await openAccount(tools.vault, tenant, tools);
  tools.onExit(() => account.mailu.close());
  const there = account.rotation;
  if (there === undefined) throw new Overtaken(tenant, "its rotation record is gone");
  return finishForeign(tools, account, there, { ...nothingNew(tools, there), takeOver });
}

async function finishForeign(
  tools: ResetTools,
  account: Account,
  there: Rotation,
  asked: RotationRequest,
): Promise<Finished & { pending: boolean }> {
  const title = `take over ${whose(there)}, left pending (${there.state})`;
  const rotating = await tools.change(title, () => Rotating.take(tools.vault, account.tenant, asked));
  try {
    const finished = await finishRotation(tools, account, rotating, isPending(there.state));
    return { ...finished, pending: rotating !== undefined && isPending(rotating.record.state) };
  } finally {
    await rotating?.release();
  }
}

const whose = (rotation: Rotation | undefined): string =>
  `the rotation of ${rotation?.incident_id ? `incident ${rotation.incident_id}` : `a ${rotation?.kind}`}`;

async function take(
  tools: ResetTools,
  title: string,
  asked: RotationRequest,
  request: ResetRequest,
): Promise<Rotating | undefined> {
  const rotating = await tools.change(title, () => Rotating.take(tools.vault, request.tenant, asked));
  if (rotating === undefined) return undefined;
  tools.onExit(() => rotating.release());
  const { record } = rotating;
  if (owesResponse(record, request)) {
    const { kind, reason, details } = request;
    const events_due = [...record.events_due, "credential_compromise_response"];
    await rotating.owe({ kind, reason, details: { ...record.details, ...details }, events_due });
  }
  return rotating;
}

function rotationRequest(tools: ResetTools, account: Account, request: ResetRequest): RotationRequest {
  const { tenant, kind, incident, reason, details, again, takeOver } = request;
  return {
    kind,
    run: tools.runId,
    incident,
    again,
    reason,
    details,
    takeOver,
    eventsDue: EVENTS[kind],
    prepare: async (admin) => {
      await rotateKeyBeyond(tools.vault, tenant, admin.data.password);
      return { password: await account.sealNewPassword(), rotates: true };
    },
  };
}

/** Takes what is pending and nothing else: if it is finished meanwhile, there is nothing to begin. */
function nothingNew(tools: ResetTools, there: Rotation): Omit<RotationRequest, "takeOver"> {
  return {
    kind: there.kind,
    run: tools.runId,
    reason: there.reason,
    details: there.details,
    ...(there.incident_id === null ? {} : { incident: there.incident_id }),
    prepare: async (admin) => {
      if (!there.rotates) return { password: admin.data.password, rotates: false };
      throw new RunbookError("somebody else finished this rotation", { exit: "refused" });
    },
  };
}

function planOf(there: Rotation | undefined, asked: RotationRequest): Plan {
  if (there === undefined || !goesOn(there, asked)) return "rotate";
  if (!isPending(there.state)) return "done";
  return asked.incident !== undefined && hadIncident({ ...there, history: [] }, asked.incident)
    ? "finish"
    : "rotate";
}
