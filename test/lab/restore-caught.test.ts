// A backup that was made in the middle of a rotation: which of its two passwords is the true one only the mail server knows.
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { z } from "zod";
import { canLogIn, readRecord } from "../../scripts/drill/doors.ts";
import { ACME, GLOBEX, type LabTenant } from "../../scripts/lab/tenants.ts";
import { backUp } from "./backup.ts";
import { awkwardPassword, encrypt, setInMailu, writeRecord } from "./door.ts";
import { addressOf, lab } from "./lab.ts";
import { passwordOf } from "./rebuilt.ts";
import { isNew, logInAgain, openNewest, restore, turnVault } from "./restores.ts";

vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

const prepared = { acme: awkwardPassword(), globex: awkwardPassword() };
const later = awkwardPassword();

/** As a run leaves it that dies between Mailu and Vault. */
async function dieInTheMiddle(tenant: LabTenant, password: string): Promise<void> {
  const { fields } = await readRecord(lab, tenant, "rotation");
  const { version } = await readRecord(lab, tenant, "admin");
  await writeRecord(tenant, "rotation", {
    ...fields,
    kind: "reset",
    state: "SET",
    rotates: true,
    password: await encrypt(tenant, password),
    incident_id: "INC-CAUGHT",
    run: `a-run-of-${tenant.id}`,
    base_version: version,
    old_versions: [version],
    new_proof: null,
    old_proof: null,
    findings: null,
    events_due: ["smtp_credentials_emergency_reset"],
    holder: null,
  });
  await setInMailu(tenant, password);
}

beforeAll(async () => {
  await dieInTheMiddle(ACME, prepared.acme);
  await dieInTheMiddle(GLOBEX, prepared.globex);
  await backUp();
  await openNewest();
  // Of this one the rotation was finished after the backup, and another one followed.
  await setInMailu(GLOBEX, later);
  await turnVault("lost");
});
afterAll(async () => {
  if (await isNew()) await restore(["--reconcile"]);
  await logInAgain();
});

test("is finished where its password logs in, and closed where neither does", async () => {
  const first = await restore();
  expect(first.code, first.stderr).toBe(5);
  const tenants = z.array(z.looseObject({ tenant: z.string() })).parse(first.result.tenants);
  const of = ({ id }: LabTenant) => tenants.find(({ tenant }) => tenant === id);
  expect(of(ACME)).toMatchObject({ state: "same" });
  expect(of(GLOBEX)).toMatchObject({ state: "rotated-since" });
  expect(await canLogIn(await addressOfAfter(ACME), ACME, prepared.acme)).toBe(true);
  expect(await passwordOf(ACME)).toBe(prepared.acme);
  expect((await readRecord(lab, GLOBEX, "rotation")).fields.state).toBe("RETIRED");
  // Closed, and not gone through with: that would have set a password which may have leaked.
  expect(await canLogIn(await addressOf(GLOBEX.id), GLOBEX, prepared.globex)).toBe(false);
  expect(await canLogIn(await addressOf(GLOBEX.id), GLOBEX, later)).toBe(true);

  const { code, stderr } = await restore(["--reconcile"]);
  expect(code, stderr).toBe(0);
  await logInAgain();
  expect(await canLogIn(await addressOf(GLOBEX.id), GLOBEX, await passwordOf(GLOBEX))).toBe(true);
  expect(await canLogIn(await addressOf(GLOBEX.id), GLOBEX, later)).toBe(false);
});

/** The first look after a restore takes new logins. */
async function addressOfAfter(tenant: LabTenant): Promise<string> {
  await logInAgain();
  return addressOf(tenant.id);
}
