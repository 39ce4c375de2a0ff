// What an audit event says, in a sentence. All that people wrote in it (a reason, an incident's details) is shown as it
// is, by templates that make it harmless.
import type { AuditEvent } from "../../lib/audit-chain.ts";
import { oneLine } from "../../lib/printable.ts";

type Details = Record<string, unknown>;

const WORDS: Record<string, (details: Details) => string> = {
  tenant_onboarded: ({ domain }) => `Onboarded for ${text(domain)}`,
  smtp_credentials_installed: ({ new_vps_ip }) =>
    `Credentials installed on its first host ${text(new_vps_ip)}`,
  smtp_credentials_recovered: ({ old_vps_ip, new_vps_ip }) =>
    `Credentials recovered: host ${text(old_vps_ip)} replaced by ${text(new_vps_ip)}`,
  smtp_credentials_emergency_reset: ({ version, old_proof }) =>
    `Password reset: version ${text(version)} is in use, ${proof(old_proof)}`,
  credential_compromise_response: ({ version }) => `Compromise answered: rotated to version ${text(version)}`,
  old_credential_proven_dead: ({ versions }) => `Old password proven dead (versions ${text(versions)})`,
  smtp_credentials_marked_compromised: ({ version }) => `Version ${text(version)} marked as compromised`,
  smtp_account_contained: ({ address }) => `Account shut on its host ${text(address)}`,
  transit_key_versions_shredded: ({ below_version }) => `Key versions below ${text(below_version)} destroyed`,
  transit_key_deleted: () => "Key deleted",
  tenant_offboarded: () => "Offboarded",
  tenant_taken_in_after_restore: () => "Taken in again after a restore of Vault",
  tenant_removed_after_restore: () => "Removed again after a restore of Vault",
  vault_restored_from_backup: ({ backup_date }) => `Vault restored from the backup of ${text(backup_date)}`,
  break_glass_used: () => "A root token was used",
};

export const inWords = ({ event, details }: Pick<AuditEvent, "event" | "details">): string =>
  (Object.hasOwn(WORDS, event) ? WORDS[event] : undefined)?.(details) ?? event.replaceAll("_", " ");

/** Why, as whoever did it wrote it. */
export function reasonOf({ details }: Pick<AuditEvent, "details">): string | undefined {
  const { reason, compromise_details } = details;
  const given = reason ?? compromise_details;
  return typeof given === "string" && given !== "" ? given : undefined;
}

export const incidentOf = ({ details }: Pick<AuditEvent, "details">): string | undefined =>
  typeof details.incident_id === "string" && details.incident_id !== "" ? details.incident_id : undefined;

/** Whose deed it was: a response acts by itself, whoever started it. */
export const actorOf = ({ details, user_id }: Pick<AuditEvent, "details" | "user_id">): string =>
  typeof details.reset_by === "string" ? details.reset_by : user_id;

function proof(said: unknown): string {
  if (said === "refused") return "the old one is refused";
  if (said === "accepted") return "the old one is STILL ACCEPTED";
  return "the old one isn't proven dead";
}

const text = (value: unknown): string =>
  oneLine(Array.isArray(value) ? value.join(", ") : value === undefined ? "unknown" : String(value));
