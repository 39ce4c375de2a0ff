// Who was told what of an incident: the audit log, the tenant, the security team.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { receivedNotices } from "../lab/notices.ts";
import type { LabTenant } from "../lab/tenants.ts";
import { prove } from "./doors.ts";

const Event = z.looseObject({
  event: z.string(),
  severity: z.string().optional(),
  tenant_id: z.string().optional(),
  details: z.looseObject({ incident_id: z.string().nullish(), new_vps_ip: z.string().optional() }),
});
type Event = z.infer<typeof Event>;

/** The tenant's events in the lab's audit log, in their order. */
export async function auditOf(dir: string, tenant: LabTenant): Promise<Event[]> {
  const events = (await auditLines(dir)).map((line) =>
    z.looseObject({ tenant_id: z.string().optional() }).parse(line),
  );
  return events.filter((event) => event.tenant_id === tenant.id).map((event) => Event.parse(event));
}

async function auditLines(dir: string): Promise<unknown[]> {
  const log = await readFile(join(dir, "audit.jsonl"), "utf8");
  return log
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

const Restored = z.object({
  event: z.literal("vault_restored_from_backup"),
  details: z.object({ as_of: z.iso.datetime() }),
});

/** The restores that the lab's audit log knows; `as_of` is the backup's time, in milliseconds. */
export async function restoresOf(dir: string): Promise<{ as_of: number }[]> {
  return (await auditLines(dir)).flatMap((line) => {
    const parsed = Restored.safeParse(line);
    return parsed.success ? [{ as_of: Date.parse(parsed.data.details.as_of) }] : [];
  });
}

/** Throws unless the log has each of the two events of a response once, critical, under this incident. */
export async function requireAudited(dir: string, tenant: LabTenant, incident: string): Promise<void> {
  const events = (await auditOf(dir, tenant)).filter(({ details }) => details.incident_id === incident);
  const found = events.map(({ event, severity }) => `${event} (${severity})`).sort();
  const due = ["credential_compromise_response", "smtp_credentials_emergency_reset"];
  prove(
    found.join() === due.map((event) => `${event} (critical)`).join(),
    `The audit log has for ${incident} of ${tenant.id}: ${found.join(", ") || "nothing"}`,
  );
}

/** Throws unless tenant and security team were told of the response, and nobody of a secret. */
export function requireTold(
  dir: string,
  tenant: LabTenant,
  incident: string,
  { tokenName, secrets }: { tokenName: string; secrets: readonly string[] },
): void {
  const { mails, posts } = receivedNotices(dir);
  const texts = mails
    .map(({ to, raw }) => ({ to: to.join(), text: readable(raw) }))
    .filter(({ text }) => text.includes(incident));
  const toTenant = texts.filter(({ to }) => to === tenant.contactEmail);
  prove(
    toTenant.some(({ text }) => text.includes("\nSubject: SMTP Credentials Rotated - Security Incident\n")),
    `${tenant.id} was not told of ${incident}`,
  );
  prove(
    toTenant.every(({ text }) => text.includes(tokenName)),
    `${tenant.id} was not told that the app token '${tokenName}' was deleted`,
  );
  const toTeam = texts.length - toTenant.length;
  prove(toTeam >= 2, `The security team got ${toTeam} mails about ${incident} in place of two`);
  for (const path of ["/generic", "/slack"]) {
    const count = posts.filter((post) => post.path === path && post.body.includes(incident)).length;
    prove(count >= 2, `The webhook ${path} got ${count} posts about ${incident} in place of two`);
  }
  const everything = [...texts.map(({ text }) => text), ...posts.map(({ body }) => body)].join("\n");
  prove(
    !secrets.some((secret) => everything.includes(secret)),
    `A notice about ${incident} holds a password`,
  );
}

/** A mail as a person sees it: quoted-printable undone, plain line ends. */
const readable = (raw: string): string =>
  raw
    .replaceAll("\r\n", "\n")
    .replaceAll("=\n", "")
    .replace(/=([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
