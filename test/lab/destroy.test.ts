// A tenant's stack is taken down although its host is dead, and nothing of what must not be lost goes with it.
import { expect, test } from "vitest";
import { decrypt, readRecord, versions } from "../../scripts/drill/doors.ts";
import { ACME } from "../../scripts/lab/tenants.ts";
import { tenantStack } from "../../stacks/names.ts";
import { killVps, lab, pulumi } from "./lab.ts";
import { expectLogin, rebuild } from "./rebuilt.ts";

test("destroy is refused while address and data are protected, then works, keeps Vault's records, and up brings all back", async () => {
  const before = await versions(lab, ACME);
  const dkim = async () => decrypt(lab, ACME, (await readRecord(lab, ACME, "dkim")).fields.private_key);
  const key = await dkim();
  await killVps(ACME.id, "dead");
  const at = ["--yes", "--stack", tenantStack(ACME.id)];
  const refused = await pulumi(["destroy", "--skip-preview", ...at]);
  expect(refused.code).not.toBe(0);
  expect(refused.stdout + refused.stderr).toMatch(/(?:Eip::address|Volume::data)[\s\S]*protect/);
  expect((await pulumi(["state", "unprotect", "--all", ...at])).code).toBe(0);
  const gone = await pulumi(["destroy", "--skip-preview", ...at]);
  expect(gone.code, gone.stdout).toBe(0);
  expect(await versions(lab, ACME)).toEqual(before);
  expect((await dkim()) === key).toBe(true);
  await rebuild(ACME);
  expect((await versions(lab, ACME)).admin).toBe(before.admin);
  await expectLogin(ACME);
});
