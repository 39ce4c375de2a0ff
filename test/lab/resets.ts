// Emergency resets as tests use them: started as an operator would, and looked at through other doors than theirs.
import { createHash, randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { z } from "zod";
import { canLogIn, decrypt, readRecord } from "../../scripts/drill/doors.ts";
import type { Finished } from "../../scripts/lab/children.ts";
import { receivedNotices } from "../../scripts/lab/notices.ts";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import { auditLog } from "./door.ts";
import { addressOf, lab, runbook } from "./lab.ts";

/** An incident that this lab has not heard of before, however often a test runs on it. */
export const newIncident = (about: string): string => `INC-${about}-${randomBytes(3).toString("hex")}`;

export const resetArgs = (tenant: LabTenant, incident: string, ...more: string[]): string[] => [
  "emergency-reset",
  "--tenant",
  tenant.id,
  "--incident",
  incident,
  "--reason",
  "a test",
  "--json",
  "--yes",
  ...more,
];

/** Runs a reset to its end, whatever that is. `env` wins over the lab's own. */
export const reset = (
  tenant: LabTenant,
  incident: string,
  env: Record<string, string> = {},
  ...more: string[]
): Promise<Finished> => runbook(resetArgs(tenant, incident, ...more), { env });

/** A tenant's credential at some time. */
export interface Credential {
  readonly version: number;
  readonly password: string;
  readonly fields: Record<string, unknown>;
}

export async function credentialOf(tenant: LabTenant): Promise<Credential> {
  const { version, fields } = await readRecord(lab, tenant, "admin");
  return { version, fields, password: await decrypt(lab, tenant, fields.password) };
}

/** Whether a password logs in over SMTP and IMAP. */
export const logsIn = async (tenant: LabTenant, password: string): Promise<boolean> =>
  canLogIn(await addressOf(tenant.id), tenant, password);

/** The rotation record as Vault has it. */
export const rotationOf = async (tenant: LabTenant): Promise<Record<string, unknown>> =>
  (await readRecord(lab, tenant, "rotation")).fields;

/**
 * A reset is over: so many new versions, of which the last one logs in and what was before doesn't; other fields are
 * as they were; the record is at its end; one event tells of it.
 */
export async function expectReset(
  tenant: LabTenant,
  was: Credential,
  incident: string,
  how: { versions?: number; fields?: Record<string, unknown>; events?: number } = {},
): Promise<Credential> {
  const now = await credentialOf(tenant);
  expect(now.version).toBe(was.version + (how.versions ?? 1));
  const { password, last_rotated } = now.fields;
  expect(now.fields).toEqual({ ...was.fields, ...how.fields, password, last_rotated });
  expect(await logsIn(tenant, now.password), "Vault's password").toBe(true);
  expect(await logsIn(tenant, was.password), "the old password").toBe(false);
  expect(await rotationOf(tenant)).toMatchObject({ state: "RETIRED", incident_id: incident, holder: null });
  expect(await events(tenant, incident)).toHaveLength(how.events ?? 1);
  return now;
}

/** A tenant that some fault left half-way: it says so, and how to go on; nobody is locked out. */
export function expectIncomplete(done: { code: number | null; stderr: string }, says: RegExp): void {
  expect(done.code, done.stderr).toBe(5);
  expect(done.stderr).toMatch(says);
  expect(done.stderr).toMatch(/^next: {2}\S/m);
}

const Event = z.looseObject({
  event: z.string(),
  event_id: z.string(),
  tenant_id: z.string().optional(),
  details: z.looseObject({ incident_id: z.string().nullish() }),
});

/** Events in the audit log, one for each line, of a tenant and an incident. */
export async function events(
  tenant: LabTenant,
  incident: string,
  event = "smtp_credentials_emergency_reset",
): Promise<z.output<typeof Event>[]> {
  const lines = (await auditLog()).trim().split("\n");
  return lines
    .map((line) => Event.parse(JSON.parse(line)))
    .filter((one) => one.event === event && one.tenant_id === tenant.id)
    .filter((one) => one.details.incident_id === incident);
}

/** What people were told of an incident, the first one first; `id` is that of the Message-ID, or the idempotency key. */
export function noticesOf(incident: string): { via: "mail" | "webhook"; id: string; text: string }[] {
  const { mails, posts } = receivedNotices(lab.place.dir);
  const told = [
    ...mails.map(({ raw }) => ({
      via: "mail" as const,
      id: /^message-id: *<([^@>]+)@/im.exec(raw)?.[1] ?? "",
      text: raw,
    })),
    ...posts.map(({ headers, body }) => ({
      via: "webhook" as const,
      id: String(headers["idempotency-key"] ?? ""),
      text: body,
    })),
  ];
  return told.filter(({ text }) => text.includes(incident));
}

/** A rotation that somebody began and didn't finish. */
export async function pendingRotation(
  tenant: LabTenant,
  change: Record<string, unknown>,
): Promise<Record<string, unknown>> {
  const { version, fields } = await readRecord(lab, tenant, "admin");
  return {
    state: "PREPARED",
    kind: "reset",
    password: fields.password,
    rotates: true,
    incident_id: null,
    reason: "a test",
    details: {},
    // Event ids derive from it.
    run: `far-${randomBytes(3).toString("hex")}`,
    actor: "somebody",
    started: new Date().toISOString(),
    base_version: version,
    base_sha256: createHash("sha256").update(String(fields.password)).digest("hex"),
    old_versions: [version],
    events_due: ["smtp_credentials_emergency_reset"],
    displayed: false,
    holder: null,
    history: [],
    ...change,
  };
}

/** Resolves once it has happened; fails after 20 s. */
export async function until(happened: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    if (await happened()) return;
    await sleep(50);
  }
  throw new Error("What was waited for did not happen within 20 s");
}
