import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { ACME } from "../../scripts/lab/tenants.ts";
import { auditLog } from "./door.ts";
import { lab, runbook } from "./lab.ts";

const asRoot = { env: { VAULT_TOKEN: lab.rootToken } };

test.each([
  ["emergency-reset", "--reason", ["smtp_credentials_emergency_reset"]],
  [
    "respond-to-compromise",
    "--details",
    ["credential_compromise_response", "smtp_credentials_emergency_reset"],
  ],
])("%s takes a root token only for --break-glass, and its audit events say so", async (name, why, events) => {
  const incident = `INC-${randomUUID().slice(0, 8)}`;
  const command = [name, "--tenant", ACME.id, "--incident", incident, why, "a test", "--yes"];
  const refused = await runbook(command, asRoot);
  expect(refused.code).toBe(4);
  expect(refused.stderr).toContain("--break-glass");
  expect(await eventsOf(incident)).toEqual([]);

  expect((await runbook([...command, "--break-glass"], asRoot)).code).toBe(0);
  const told = await eventsOf(incident);
  expect(told.map(({ event }) => event).sort()).toEqual(events);
  for (const { details } of told) expect(details.break_glass).toBe(true);
});

test("resume takes a root token only for --break-glass, and says so in the audit log", async () => {
  expect((await runbook(["resume", "--all", "--yes"], asRoot)).code).toBe(4);
  // What others left on this lab is finished first.
  await runbook(["resume", "--all", "--yes"]);
  const before = (await allEvents()).filter(({ event }) => event === "break_glass_used").length;
  const done = await runbook(["resume", "--all", "--yes", "--break-glass"], asRoot);
  expect(done.code, done.stderr).toBe(0);
  const used = (await allEvents()).filter(({ event }) => event === "break_glass_used");
  expect(used).toHaveLength(before + 1);
});

async function eventsOf(incident: string): Promise<{ event: string; details: Record<string, unknown> }[]> {
  return (await allEvents()).filter(({ details }) => details.incident_id === incident);
}

const allEvents = async (): Promise<{ event: string; details: Record<string, unknown> }[]> =>
  (await auditLog())
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
