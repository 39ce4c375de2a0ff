// What the audit log and people are told of a reset. Everything is derived from the rotation record, so that whoever
// resumes it elsewhere tells the same, under the same ids.

import { mailHost, type TenantId } from "../../stacks/names.ts";
import type { Account } from "./account.ts";
import type { AuditLog } from "./audit.ts";
import { eventId } from "./audit-chain.ts";
import { contactAddresses, type NewNotice } from "./notice.ts";
import type { Outbox } from "./outbox.ts";
import type { Waiting } from "./outbox-store.ts";
import type { Rotation } from "./records.ts";
import { fingerprint } from "./vault.ts";

export interface Told {
  readonly account: Account;
  readonly record: Rotation;
  /** The credential's new version. */
  readonly version: number;
}

/** Who is named as having reset a credential: a response acts by itself, whoever started it. */
export const resetBy = ({ kind, actor }: Rotation): string => (kind === "response" ? "system" : actor);

/** What shuts an account for as long as it isn't known whether strangers are out. */
export const containCommand = (tenant: TenantId, { incident_id }: Rotation): string =>
  `npx runbook contain --tenant ${tenant} --incident ${incident_id ?? "ID"} --reason "the reset is not proven"`;

/** Stores the events that the rotation owes, each under the id of the run that began it. */
export async function keepEvents(audit: AuditLog, told: Told): Promise<void> {
  const { record, account } = told;
  for (const event of record.events_due) {
    await audit.append({
      event,
      tenantId: account.tenant,
      severity: "critical",
      originalRun: record.run,
      details: event === "credential_compromise_response" ? responseDetails(told) : resetDetails(told),
    });
  }
}

/** What still waits of an incident's notices, in sentences; what waits of others' is their runs' to tell. */
export const waitingNotices = (
  sent: { waiting: readonly Waiting[] } | undefined,
  incident: string,
): string[] =>
  (sent?.waiting ?? [])
    .filter(({ event_id, incident_id }) => incident_id === incident || event_id === "")
    .map(({ name, why }) => `notice ${name} waits: ${why}`);

/** Stores the notices that go with those events. */
export async function keepNotices(outbox: Outbox, told: Told): Promise<void> {
  const notices = told.record.events_due.flatMap((event) =>
    event === "credential_compromise_response"
      ? [tenantNotice(told), responseAlert(told)]
      : event === "smtp_credentials_emergency_reset"
        ? [resetAlert(told)]
        : [],
  );
  await Promise.all(notices.map((notice) => outbox.keep(notice)));
}

function resetDetails({ record, version }: Told): Record<string, unknown> {
  return {
    incident_id: record.incident_id,
    reason: record.reason,
    reset_by: resetBy(record),
    version,
    ciphertext_sha256: fingerprint(record.password),
    old_versions: record.old_versions,
    // A Vault that is restored from before this finds by it which version strangers know.
    old_ciphertext_sha256: record.base_sha256,
    old_proof: record.old_proof,
    new_proof: record.new_proof,
    passwords_rejected: record.rejected.length,
    ...record.findings,
    ...breakGlass(record),
  };
}

function responseDetails({ record, version }: Told): Record<string, unknown> {
  return {
    incident_id: record.incident_id,
    compromise_details: record.details.compromise_details ?? record.reason,
    action_taken: "emergency_rotation",
    version,
    ciphertext_sha256: fingerprint(record.password),
    ...breakGlass(record),
  };
}

/** Whether a root token began it, which leaves no other trace of who did. */
const breakGlass = ({ details }: Rotation): { break_glass?: true } =>
  details.break_glass === true ? { break_glass: true } : {};

function resetAlert(told: Told): NewNotice {
  const { account, record } = told;
  const who = String(record.details.admin_email ?? resetBy(record));
  return {
    ...notice(told, "smtp_credentials_reset", "security"),
    subject: `SMTP credentials of ${account.tenant} were reset (${record.incident_id})`,
    text: `The administrator's password of ${account.username} was reset in an emergency.

Tenant:    ${account.tenant}
Incident:  ${record.incident_id}
Reset by:  ${who}
Reason:    ${record.reason}
${outcome(told)}`,
    fields: { admin_email: who, reason: record.reason, ...resetDetails(told) },
  };
}

function responseAlert(told: Told): NewNotice {
  const { account, record } = told;
  const details = String(record.details.compromise_details ?? record.reason);
  return {
    ...notice(told, "credential_compromise_response", "security"),
    subject: `Compromised credentials of ${account.tenant} were rotated (${record.incident_id})`,
    text: `The SMTP credentials of ${account.tenant} were rotated in response to a compromise.

Tenant:    ${account.tenant}
Incident:  ${record.incident_id}
Details:   ${details}
${outcome(told)}`,
    fields: responseDetails(told),
  };
}

function tenantNotice(told: Told): NewNotice {
  const { account, record } = told;
  const tokens = record.findings?.tokens_deleted ?? [];
  const action =
    tokens.length === 0
      ? "No action is required from you. Mail is sent and received as before."
      : `One thing needs your attention: these app passwords of ${account.username} were deleted, and devices that used them must get new ones (https://${mailHost(account.server.domain)}/admin):

${tokens.map(({ id, comment, created }) => `- ${comment ?? "without a comment"} (number ${id}, made ${created ?? "at an unknown time"})`).join("\n")}`;
  const { to, copy_to_security } = contactAddresses(account.server);
  return {
    ...notice(told, "smtp_credentials_rotated", "tenant"),
    to,
    copy_to_security,
    subject: "SMTP Credentials Rotated - Security Incident",
    text: `The SMTP administrator's credentials of ${account.server.domain} were rotated because of a security incident.

Incident: ${record.incident_id}
Account:  ${account.username}
Begun:    ${record.started}

${record.old_proof === "refused" ? "The old password no longer works. " : ""}${action}
`,
    fields: {},
  };
}

/** What all notices of a rotation have in common. */
function notice({ account, record }: Told, name: string, audience: "security" | "tenant") {
  return {
    event_id: eventId(record.run, account.tenant, `notice:${name}`),
    name,
    audience,
    to: [] as string[],
    // Whoever resumes and keeps it again keeps the very same.
    created: record.started,
    severity: "critical" as const,
    not_via: [account.server.vps_ip, account.server.smtp_host, mailHost(account.server.domain)],
    tenant_id: account.tenant,
    ...(record.incident_id === null ? {} : { incident_id: record.incident_id }),
  };
}

const PROOFS = {
  refused: "refused by the server (535)",
  accepted: "STILL ACCEPTED BY THE SERVER",
  inconclusive: "not proven dead yet",
  unavailable: "could not be tried",
};

function outcome({ record, version }: Told): string {
  const { tokens_deleted: tokens = [], reported = [], unknown = [] } = record.findings ?? {};
  const list = (title: string, lines: readonly string[]): string =>
    lines.length === 0 ? "" : `\n${title}\n${lines.map((line) => `- ${line}`).join("\n")}\n`;
  return `Version:   ${version} (before: ${record.old_versions.join(", ")})
Old one:   ${PROOFS[record.old_proof ?? "inconclusive"]}
${list(
  "App tokens deleted:",
  tokens.map(({ id, comment }) => `${id}: ${comment ?? "without a comment"}`),
)}${list("Look at this:", reported)}${list("Not looked at:", unknown)}`;
}
