// Incidents as they are put together from the audit log and the notices that wait.
import { expect, test } from "vitest";
import { inWords } from "../../../runbooks/console/pages/event-words.ts";
import { incidentsOf } from "../../../runbooks/console/pages/incident-list.ts";
import { type AuditEvent, link } from "../../../runbooks/lib/audit-chain.ts";
import { Notice } from "../../../runbooks/lib/notice.ts";
import { newNotice } from "../lib/fixtures/told.ts";

let seq = 0;
const event = (given: Partial<AuditEvent> & { event: string }): AuditEvent => ({
  ...link(
    {
      event_id: `e${++seq}`,
      user_id: "alice",
      timestamp: `2026-01-01T00:00:${String(seq).padStart(2, "0")}.000Z`,
      details: {},
      run_id: "r",
      ...given,
    },
    { chain: "c" },
  ),
});

const reset = (incident: string, tenant: string, more: Record<string, unknown> = {}) =>
  event({
    event: "smtp_credentials_emergency_reset",
    tenant_id: tenant,
    details: { incident_id: incident, version: 3, old_proof: "refused", ...more },
  });

test("what was done under one id is one incident, with its tenants, its people and its span", () => {
  const events = [
    reset("INC-1", "globex"),
    event({ event: "run_finished", details: { events: 1 } }),
    reset("INC-2", "acme"),
    reset("INC-1", "acme", { reset_by: "system" }),
  ];
  const [first, second, ...more] = incidentsOf(events, []);
  expect(more).toEqual([]);
  expect(first).toMatchObject({
    id: "INC-1",
    tenants: ["acme", "globex"],
    by: ["alice", "system"],
    began: events[0]?.timestamp,
    last: events[3]?.timestamp,
  });
  expect(first?.events).toEqual([events[0], events[3]]);
  expect(second?.id).toBe("INC-2");
});

test("an incident of which only a notice is left is told, too; one without an id is none", () => {
  const notice = (incident_id: string | undefined) =>
    Notice.parse({
      ...newNotice({ tenant_id: "acme" }),
      incident_id,
      created: "2026-01-01T00:00:00.000Z",
    });
  const found = incidentsOf([reset("", "acme")], [notice("INC-9"), notice(undefined)]);
  expect(found).toMatchObject([
    { id: "INC-9", tenants: ["acme"], by: [], waiting: [{ incident_id: "INC-9" }] },
  ]);
});

test.each([
  [reset("I", "t"), "Password reset: version 3 is in use, the old one is refused"],
  [
    reset("I", "t", { old_proof: "accepted" }),
    "Password reset: version 3 is in use, the old one is STILL ACCEPTED",
  ],
  [
    reset("I", "t", { old_proof: null }),
    "Password reset: version 3 is in use, the old one isn't proven dead",
  ],
  [event({ event: "vault_backup_opened" }), "vault backup opened"],
  [event({ event: "toString" }), "toString"],
  [event({ event: "tenant_onboarded", details: { domain: "a\u202eb\nc" } }), "Onboarded for a b c"],
])("an event says what it means: %#", (given, words) => {
  expect(inWords(given)).toBe(words);
});
