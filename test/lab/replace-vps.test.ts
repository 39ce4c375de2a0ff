// replace-vps: a host that is dead but still listed, one that hangs, one that was reinstalled, and one that is well.
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { readRecord, versions } from "../../scripts/drill/doors.ts";
import { order, type WayToDie } from "../../scripts/lab/control.ts";
import { ACME, GLOBEX, TENANTS } from "../../scripts/lab/tenants.ts";
import { tenantStack } from "../../stacks/names.ts";
import { addressOf, hosts, killVps, lab, pulumi, runbook, vault } from "./lab.ts";
import { expectLogin, identity, rebuild } from "./rebuilt.ts";

const replace = (tenant: string, ...more: string[]) =>
  runbook(["replace-vps", "--tenant", tenant, "--yes", "--json", ...more]);

/** All that a replacement would change. */
const world = async () => ({
  hosts: await hosts(),
  versions: await Promise.all(TENANTS.map((tenant) => versions(lab, tenant))),
  states: await Promise.all(
    TENANTS.map(async ({ id }) => (await pulumi(["stack", "export", "--stack", tenantStack(id)])).stdout),
  ),
});

describe("replace-vps refuses", () => {
  const tokenWithout = async () =>
    z
      .object({ auth: z.object({ client_token: z.string() }) })
      .parse(await vault("POST", "auth/token/create", { policies: ["backup-operator"], ttl: "5m" })).auth
      .client_token;
  const refusals = [
    { what: "a healthy host", tenant: ACME.id, code: 4, says: /a healthy host is not replaced/ },
    { what: "an unknown tenant", tenant: "nobody", code: 2, says: /doesn't know where tenant nobody lives/ },
    { what: "a path for a tenant", tenant: "../acme", code: 2, says: /not a tenant id/ },
    {
      what: "a person without the role",
      tenant: ACME.id,
      code: 3,
      says: /lacks .*smtp/,
      token: tokenWithout,
    },
  ];

  test("a healthy host, an unknown tenant, a missing role, and changes nothing", async () => {
    const before = await world();
    for (const { what, tenant, code, says, token } of refusals) {
      const env = token === undefined ? {} : { VAULT_TOKEN: await token() };
      const done = await runbook(["replace-vps", "--tenant", tenant, "--yes", "--json"], { env });
      expect(done.code, `${what}: ${done.stderr}`).toBe(code);
      expect(done.stderr, what).toMatch(says);
      expect(done.stderr, what).toMatch(/next: {2}\S/);
    }
    expect(await world()).toEqual(before);
  });
});

const DEATHS: { how: WayToDie; problem: RegExp }[] = [
  { how: "hung", problem: /ssh: .*no answer.*SMTP: .*no answer.*IMAP: .*no answer.*HTTPS: .*no answer/ },
  { how: "dead", problem: /ssh: .*ECONNREFUSED.*SMTP: .*ECONNREFUSED/ },
];

test.each(DEATHS)(
  "replace-vps replaces a $how host that is still listed; says what was wrong and how long it took",
  async ({ how, problem }) => {
    const before = await identity(ACME);
    await killVps(ACME.id, how);
    if (how === "dead") {
      const untouched = await world();
      const dry = await replace(ACME.id, "--dry-run");
      expect(dry.code, dry.stderr).toBe(0);
      expect(dry.stderr).toContain("would: rebuild it: pulumi up --stack tenant-acme");
      expect(await world()).toEqual(untouched);
    }
    const done = await replace(ACME.id);
    expect(done.code, done.stderr).toBe(0);
    const result = z
      .object({
        problems: z.array(z.string()),
        old_vps_ip: z.literal(before.address),
        new_vps_ip: z.literal(before.address),
        measured_rto_s: z.number().min(1).max(60),
        target_rto_s: z.literal(3600),
        within_rto: z.literal(true),
      })
      .parse(JSON.parse(done.stdout));
    expect(result.measured_rto_s).toBeGreaterThan((done.ms - 2_000) / 1000);
    expect(result.problems.join("; ")).toMatch(problem);
    expect(await identity(ACME)).toEqual(before);
    await expectLogin(ACME);
  },
);

test("a host reinstalled behind the stack's back is a stranger to up and to recovery, until replace-vps pins its key", async () => {
  const before = await identity(GLOBEX);
  const pinned = (await readRecord(lab, GLOBEX, "server")).fields.host_key;
  await killVps(GLOBEX.id, "dead");
  const dead = await replace(GLOBEX.id);
  expect(dead.code).toBe(4);
  expect(dead.stderr).toMatch(/one of your own, and nobody can reach it/);

  const address = await addressOf(GLOBEX.id);
  const [reinstalled] = (await order(lab.place.dir, { order: "boot", name: "globex-again", address })).hosts;
  expect(reinstalled?.hostKey).not.toBe(pinned);
  const recovery = await runbook(["recover-credentials", "--tenant", GLOBEX.id, "--yes"]);
  expect(recovery.code).toBe(4);
  expect(recovery.stderr).toMatch(/another SSH host key than the one pinned/);
  const submission = [tenantStack(GLOBEX.id), "submission"] as const;
  await pulumi(["config", "set", submission[1], "true", "--stack", submission[0]]);
  const otherFiles = await pulumi(["up", "--yes", "--skip-preview", "--stack", submission[0]]);
  await pulumi(["config", "rm", submission[1], "--stack", submission[0]]);
  expect(otherFiles.code).not.toBe(0);
  expect(otherFiles.stdout + otherFiles.stderr).toMatch(/host.*another key than connection\.hostKey/);
  expect(await hosts()).toContainEqual(reinstalled);

  const done = await replace(GLOBEX.id);
  expect(done.code, done.stderr).toBe(0);
  expect((await readRecord(lab, GLOBEX, "server")).fields.host_key).toBe(reinstalled?.hostKey);
  expect(await identity(GLOBEX)).toEqual(before);
  await expectLogin(GLOBEX);
  await rebuild(GLOBEX, "--expect-no-changes");
});
