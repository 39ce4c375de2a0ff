// A backup that is older than one onboarding, one rebuild, one reset and one offboarding: the restored Vault has all four
// wrong, and ends with all four right.
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { z } from "zod";
import { canLogIn, decrypt, readRecord } from "../../scripts/drill/doors.ts";
import { ACME, GLOBEX, type LabTenant } from "../../scripts/lab/tenants.ts";
import { metadataPath, TRANSIT_MOUNT, tenantStack } from "../../stacks/names.ts";
import { backUp, events } from "./backup.ts";
import { setInMailu } from "./door.ts";
import { addressOf, killVps, lab, pulumi, runbook, vault } from "./lab.ts";
import { living } from "./living.ts";
import { passwordOf, rebuild } from "./rebuilt.ts";
import { isNew, logInAgain, openNewest, restore, turnVault } from "./restores.ts";

vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

const Token = z.object({ auth: z.object({ client_token: z.string() }) });

const suffix = randomBytes(3).toString("hex");
const INCIDENT = `INC-${suffix}`;
let made: Awaited<ReturnType<typeof backUp>>;
let parting: LabTenant;
let joining: LabTenant;
/** GLOBEX's password in the backup, which strangers know, and its version. */
let leaked: { password: string; version: number };
let oldHostKey: unknown;
/** ACME's, of which no version became known. */
let unmarked: unknown;

async function offboard({ id }: LabTenant) {
  const policies = ["platform-admin", "key-shredder"];
  const both = Token.parse(await vault("POST", "auth/token/create", { policies, ttl: "30m" }));
  const args = `offboard-tenant --tenant ${id} --name ${id} --yes --reason over`.split(" ");
  return runbook(args, { env: { VAULT_TOKEN: both.auth.client_token } });
}

beforeAll(async () => {
  parting = await living(`parting-${suffix}`, "existing");
  leaked = { password: await passwordOf(GLOBEX), version: (await readRecord(lab, GLOBEX, "admin")).version };
  oldHostKey = (await readRecord(lab, ACME, "server")).fields.host_key;
  unmarked = await marks(ACME);
  made = await backUp();
  await openNewest();

  joining = await living(`joining-${suffix}`, "existing");
  await killVps(ACME.id, "terminated");
  await rebuild(ACME);
  const reset = await runbook(
    `emergency-reset --tenant ${GLOBEX.id} --incident ${INCIDENT} --yes --wrap --reason leaked`.split(" "),
  );
  expect(reset.code, reset.stderr).toBe(0);
  const offboarded = await offboard(parting);
  expect(offboarded.code, offboarded.stderr).toBe(0);
  await turnVault("lost");
});
afterAll(async () => {
  if (await isNew()) await restore(["--reconcile"]);
  await logInAgain();
  for (const tenant of [joining, parting]) {
    await offboard(tenant);
    await pulumi(["stack", "rm", tenantStack(tenant.id), "--yes", "--force"]);
  }
});

const Metadata = z.object({
  data: z.object({ custom_metadata: z.record(z.string(), z.string()).nullable() }),
});
const marks = async (tenant: LabTenant) =>
  Metadata.parse(await vault("GET", metadataPath(tenant.id, "admin"))).data.custom_metadata;

/** Whatever else was marked before, in other tests. */
async function expectMarked(): Promise<void> {
  const found = await marks(GLOBEX);
  expect(found).toMatchObject({ compromised: "true", incident_id: INCIDENT });
  expect(found?.compromised_versions?.split(",")).toContain(String(leaked.version));
}

test("lists what differs, marks what strangers know, and sets no password before it is told to", async () => {
  const { code, stderr, result } = await restore();
  expect(code, stderr).toBe(5);
  expect(result).toMatchObject({ version_id: made.version_id });
  const tenants = z.array(z.looseObject({ tenant: z.string() })).parse(result.tenants);
  const of = ({ id }: LabTenant) => tenants.find(({ tenant }) => tenant === id);
  expect(of(ACME)).toMatchObject({ state: "same", moved: true });
  expect(of(GLOBEX)).toMatchObject({
    state: "rotated-since",
    incident: INCIDENT,
    marked: expect.arrayContaining([leaked.version]),
  });
  expect(of(joining)).toMatchObject({ state: "rotated-since", onboarded: true });
  expect(of(parting)).toMatchObject({ state: "removed" });
  expect(stderr).toContain("--reconcile");

  await logInAgain();
  await expectMarked();
  expect(await canLogIn(await addressOf(GLOBEX.id), GLOBEX, leaked.password)).toBe(false);
});

test("brings all four to rights with --reconcile, and ends", async () => {
  const { code, stderr, result } = await restore(["--reconcile"]);
  expect(code, stderr).toBe(0);
  expect(result.outstanding).toEqual([]);
  expect(stderr).not.toContain("stream the backup");
  await logInAgain();
  for (const tenant of [ACME, GLOBEX, joining])
    expect(await canLogIn(await addressOf(tenant.id), tenant, await passwordOf(tenant)), tenant.id).toBe(
      true,
    );
  expect(await canLogIn(await addressOf(GLOBEX.id), GLOBEX, leaked.password)).toBe(false);
  expect((await readRecord(lab, GLOBEX, "admin")).version).toBeGreaterThan(leaked.version);
  await expectMarked();
  expect(await marks(ACME)).toEqual(unmarked);

  const moved = (await readRecord(lab, ACME, "server")).fields;
  const outputs = z
    .object({ hostKey: z.string(), address: z.string() })
    .parse(JSON.parse((await pulumi(["stack", "output", "--json", "--stack", tenantStack(ACME.id)])).stdout));
  expect(moved.host_key).not.toBe(oldHostKey);
  expect(moved).toMatchObject({ host_key: outputs.hostKey, vps_ip: outputs.address });

  // What the host has and what Vault has of the tenant that was taken in again are the same.
  const token = await decrypt(lab, joining, (await readRecord(lab, joining, "mailu")).fields.api_token);
  expect(token).toMatch(/^\S{16,}$/);
  await setInMailu(joining, await passwordOf(joining));

  for (const record of ["admin", "server", "mailu", "dkim", "tls"])
    await expect(vault("GET", `smtp/metadata/${parting.id}/${record}`), record).rejects.toThrow("404");
  await expect(vault("GET", `${TRANSIT_MOUNT}/keys/${parting.id}`)).rejects.toThrow("404");
  expect(events("vault_restored_from_backup").at(-1)).toMatchObject({ version_id: made.version_id });
});
