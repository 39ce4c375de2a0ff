// The status as a person reads it: what needs somebody stands out, and hundreds of tenants still are one screen.
import { expect, it } from "vitest";
import type { TenantStatus } from "../../../runbooks/lib/status-tenants.ts";
import { ago, statusText } from "../../../runbooks/lib/status-text.ts";
import type { Status } from "../../../runbooks/status.ts";
import { tenantId } from "../../../stacks/names.ts";

const NOW = new Date("2026-03-01T12:00:00Z");
const well = (name: string): TenantStatus => ({
  tenant: tenantId(name),
  version: 3,
  last_rotated: "2026-02-28T09:30:00Z",
  marked: null,
  login: "accepted",
  said: null,
});
const proof = "npx runbook verify-backup --restore --into ADDR";
const status = (change: Partial<Status> = {}): Status => ({
  tenants: [well("acme")],
  backups: { as_of: "2026-03-01T02:00:00Z", restored_at: "2026-02-20T08:00:00Z", proof, opened: 30, all: 30 },
  drill: null,
  notices: [],
  unfinished: [],
  unknown: [],
  ...change,
});
const text = (change: Partial<Status> = {}) => statusText(status(change), NOW);

it("says of what is well that it is, and no more", () => {
  expect(text()).toBe(`Unfinished: nothing

Tenants: 1, all well
  tenant  version  rotated          login    mark
  acme    v3       26 h 30 min ago  logs in  -

Backups
  30 stored, 30 opened
  the newest opened is as of 2026-03-01T02:00:00Z, 10 h 0 min ago
  last proven by restoring it 9 days ago

Drill: none is on record: npm run drill

Notices that wait: nothing`);
});

it("shows of hundreds of tenants only those that need somebody, each with what to do", () => {
  const many = Array.from({ length: 300 }, (_, at) => well(`tenant-${at}`));
  const refused: TenantStatus = {
    ...well("globex"),
    login: "refused",
    said: "admin@globex.example: SMTP: 535",
  };
  const marked: TenantStatus = { ...well("initech"), marked: "INC-7" };
  const shown = text({ tenants: [...many, refused, marked] });
  expect(shown).toContain("Tenants: 302, 2 in need of somebody");
  expect(shown).toMatch(/globex +v3 +26 h 30 min ago +REFUSED +-/);
  expect(shown).toMatch(/initech +v3 .* COMPROMISED \(INC-7\)/);
  expect(shown).toContain("npx runbook emergency-reset --tenant initech --incident INC-7");
  expect(shown).toContain("300 are well");
  expect(shown).not.toContain("tenant-17");
  expect(shown.split("\n").length).toBeLessThan(30);
});

it("says what is late, and what was never done", () => {
  const late = {
    as_of: "2026-02-28T11:44:00Z",
    restored_at: "2026-01-25T00:00:00Z",
    proof,
    opened: 1,
    all: 2,
  };
  expect(text({ backups: late })).toMatch(/24 h 16 min ago {2}TOO OLD\n.* 35 days ago {2}TOO OLD/);
  expect(text({ backups: late })).toContain("2 stored, 1 opened: npx runbook verify-backup --date all");
  const never = text({ backups: { as_of: null, restored_at: null, proof, opened: 0, all: 0 } });
  expect(never).toContain("NONE WAS OPENED");
  expect(never).toContain(`NONE WAS PROVEN BY RESTORING IT: ${proof}`);
});

it("begins with what isn't finished and what isn't known, and the command for each", () => {
  const shown = text({
    unfinished: [
      {
        what: "acme: reset for INC-1, left in state SET",
        since: "2026-03-01T11:00:00Z",
        by: "alice",
        held: false,
        next: "npx runbook resume --tenant acme",
      },
      { what: "a backup is being made", since: null, by: null, held: true, next: "npx runbook backup-vault" },
    ],
    unknown: [{ what: "backups", why: "the bucket\ndoesn't answer", next: "npx runbook list-backups" }],
  });
  expect(
    shown.startsWith(`Unfinished
  acme: reset for INC-1, left in state SET, since 2026-03-01T11:00:00Z, by alice
    next: npx runbook resume --tenant acme
  a backup is being made
    a living run is at it; if it isn't: npx runbook backup-vault

Not known
  backups: the bucket doesn't answer
    next: npx runbook list-backups
`),
  ).toBe(true);
});

it("sets a drill's figures against the promise", () => {
  const scenario = { target_rto_s: 3600, target_rpo_s: 0, measured_rpo_s: 0 };
  const shown = text({
    drill: {
      at: "2026-02-27T12:00:00Z",
      scenarios: [
        { ...scenario, name: "1: VPS failure", passed: true, measured_rto_s: 9.42 },
        { ...scenario, name: "2: Vault loss", passed: false, measured_rto_s: null },
      ],
    },
  });
  expect(shown).toContain("Drill, 48 h 0 min ago".replace("48 h 0 min", "2 days"));
  expect(shown).toMatch(/1: VPS failure {2}RTO 9\.4 s of 3600 s +RPO 0\.0 s of 0 s {2}kept/);
  expect(shown).toMatch(/2: Vault loss +RTO not measured of 3600 s .* MISSED/);
});

it("counts time in what people say", () => {
  expect(ago("2026-03-01T11:59:40Z", NOW)).toBe("just now");
  expect(ago("2026-03-01T11:20:00Z", NOW)).toBe("40 min ago");
  expect(ago("yesterday", NOW)).toBe("at yesterday");
});
