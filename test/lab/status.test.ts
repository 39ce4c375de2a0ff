// `runbook status`: what a person who takes over has to know, held against Vault's, Mailu's and the bucket's own word.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { z } from "zod";
import { Outbox } from "../../runbooks/lib/outbox.ts";
import { loadSettings } from "../../runbooks/lib/settings.ts";
import type { Status } from "../../runbooks/status.ts";
import { ACME, GLOBEX } from "../../scripts/lab/tenants.ts";
import { newNotice } from "../runbooks/lib/fixtures/told.ts";
import { backUp, run } from "./backup.ts";
import { setInMailu } from "./door.ts";
import { killedAt } from "./killed.ts";
import { lab, runbook, vault } from "./lab.ts";
import { credentialOf, newIncident, resetArgs } from "./resets.ts";
import { withWindow } from "./vault-window.ts";

async function status(env: Record<string, string> = {}, code = 0, ...flags: string[]): Promise<Status> {
  const done = await runbook(["status", "--json", ...flags], { env });
  expect(done.code, done.stderr).toBe(code);
  return JSON.parse(done.stdout) as Status;
}
const Metadata = z.object({
  data: z.object({ custom_metadata: z.record(z.string(), z.string()).nullable() }),
});
const tenant = ({ tenants }: Status, id: string) => tenants?.find((one) => one.tenant === id);
const about = ({ unfinished }: Status, id: string) =>
  unfinished.filter(({ what }) => what.startsWith(`${id}: `));

test("says of each tenant what Vault says, and whether its password logs in; it only reads", async () => {
  const { fields, version } = await credentialOf(ACME);
  await withWindow(async (window) => {
    expect(tenant(await status(window.env), ACME.id)).toEqual({
      ...{ tenant: ACME.id, version, last_rotated: fields.last_rotated },
      ...{ marked: null, login: "accepted", said: null },
    });
    const written = window.calls.filter(
      (call) => !/^(GET|LIST) |\/decrypt\/|auth\/approle\/login$/.test(call),
    );
    expect(written).toEqual([]);
    expect(window.calls.length).toBeGreaterThan(5);
  });
  const quick = await status({}, 0, "--no-logins");
  expect(tenant(quick, ACME.id)?.login).toBe("untried");
});

test("shows a password that somebody changed, a mark on the current version, and neither once both are mended", async () => {
  const { password, version } = await credentialOf(GLOBEX);
  const path = `smtp/metadata/${GLOBEX.id}/admin`;
  const before = Metadata.parse(await vault("GET", path)).data.custom_metadata ?? {};
  await setInMailu(GLOBEX, "somebody else's password");
  const mark = { compromised: "true", incident_id: "INC-SEEN", compromised_versions: `${version}` };
  await vault("POST", path, { custom_metadata: { ...before, ...mark } });
  try {
    expect(tenant(await status(), GLOBEX.id)).toMatchObject({
      login: "refused",
      said: expect.stringContaining("535"),
      marked: "INC-SEEN",
    });
  } finally {
    await setInMailu(GLOBEX, password);
    await vault("POST", path, { custom_metadata: before });
  }
  expect(tenant(await status(), GLOBEX.id)).toMatchObject({ login: "accepted", marked: null });
});

test("shows what a dead run left with the command that finishes it, which it does", async () => {
  const incident = newIncident("LEFT");
  await killedAt(resetArgs(GLOBEX, incident), "✓ set the password");
  const [left, ...others] = about(await status({}, 0, "--no-logins"), GLOBEX.id);
  expect(others).toEqual([]);
  expect(left).toMatchObject({
    what: `${GLOBEX.id}: reset for ${incident}, left in state SET`,
    held: false,
    next: `npx runbook resume --tenant ${GLOBEX.id}`,
  });
  const words = left?.next.split(" ").slice(2) ?? [];
  const resumed = await runbook([...words, "--yes"]);
  expect(resumed.code, resumed.stderr).toBe(0);
  expect(about(await status({}, 0, "--no-logins"), GLOBEX.id)).toEqual([]);
});

test("shows a Vault whose restore came to no end, and backups as the bucket has them", async () => {
  const { canary } = await backUp();
  const path = "smtp/metadata/canary/admin";
  const before = Metadata.parse(await vault("GET", path)).data.custom_metadata ?? {};
  const half = {
    restored_from: "v1",
    restore_step: "revoked",
    restore_run: "r1",
    restore_began: canary.written,
  };
  await vault("POST", path, { custom_metadata: half });
  try {
    expect((await status({}, 0, "--no-logins")).unfinished).toContainEqual(
      expect.objectContaining({
        what: "this Vault is half restored (revoked)",
        next: "npx runbook restore-vault",
      }),
    );
  } finally {
    await vault("POST", path, { custom_metadata: before });
  }
  expect((await run(["verify-backup"])).code).toBe(0);
  const { backups, unfinished } = await status({}, 0, "--no-logins");
  expect(backups?.as_of).toBe(canary.written);
  expect(unfinished.filter(({ what }) => what.includes("Vault"))).toEqual([]);
});

test("shows a notice that waits until it is delivered", async () => {
  const notice = newNotice({ tenant_id: ACME.id });
  const env = { ...process.env, ...lab.env };
  await new Outbox(loadSettings(env), env).keep(notice);
  const { notices } = await status({}, 0, "--no-logins");
  expect(notices).toContainEqual(
    expect.objectContaining({ name: notice.name, tenant_id: ACME.id, next: "npx runbook notify flush" }),
  );
  expect((await runbook(["notify", "flush", "--yes"])).code).toBe(0);
  expect((await status({}, 0, "--no-logins")).notices).toEqual([]);
});

test("shows the newest drill, and names one that can't be read", async () => {
  const { drills } = loadSettings({ ...process.env, ...lab.env });
  const file = join(drills, "drill-20990101T000000Z.json");
  const scenario = {
    name: "1",
    passed: true,
    target_rto_s: 3600,
    measured_rto_s: 9,
    target_rpo_s: 0,
    measured_rpo_s: 0,
  };
  mkdirSync(drills, { recursive: true });
  try {
    writeFileSync(file, JSON.stringify({ at: "2099-01-01T00:00:00Z", scenarios: [scenario] }));
    expect((await status({}, 0, "--no-logins")).drill?.scenarios).toEqual([scenario]);
    writeFileSync(file, "{");
    const { drill, unknown } = await status({}, 1, "--no-logins");
    expect(drill).toBeNull();
    expect(unknown).toEqual([{ what: "drills", why: expect.stringContaining(file), next: `ls ${drills}` }]);
  } finally {
    rmSync(file);
  }
});

test("with Vault down still shows the rest, says so, and ends with 1", async () => {
  const own = readFileSync(join(lab.place.dir, "recovery.yaml"), "utf8");
  const settings = join(lab.place.dir, "recovery-no-vault.yaml");
  writeFileSync(settings, own.replace(lab.place.vaultAddr, "http://127.0.0.1:1"));
  const env = { RECOVERY_CONFIG: settings, VAULT_ADDR: "http://127.0.0.1:1" };
  const begin = performance.now();
  const { tenants, backups, unknown } = await status(env, 1);
  expect(performance.now() - begin).toBeLessThan(60_000);
  expect(tenants).toBeNull();
  expect(backups).not.toBeNull();
  expect(unknown).toEqual([
    { what: "Vault", why: expect.stringContaining("127.0.0.1:1"), next: expect.any(String) },
  ]);
});
