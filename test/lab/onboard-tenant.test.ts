import { expect, test } from "vitest";
import { z } from "zod";
import { decrypt, readRecord, versions } from "../../scripts/drill/doors.ts";
import { ACME, type LabTenant } from "../../scripts/lab/tenants.ts";
import { TRANSIT_MOUNT, tenantId } from "../../stacks/names.ts";
import { killedAt } from "./killed.ts";
import { lab, runbook, vault } from "./lab.ts";

const newTenant = (id: string): LabTenant => ({ ...ACME, id: tenantId(id), domain: `${id}.example` });
const args = (tenant: LabTenant): string[] => [
  "onboard-tenant",
  "--tenant",
  tenant.id,
  "--domain",
  tenant.domain,
  "--yes",
  "--json",
];

const Steps = z.object({
  steps: z.array(z.object({ title: z.string(), kind: z.enum(["check", "change"]) })),
});
const dryRun = await runbook([...args(newTenant("dry")), "--dry-run"]);
const CHANGES = Steps.parse(JSON.parse(dryRun.stdout)).steps.filter(({ kind }) => kind === "change");

test("a dry run writes nothing", async () => {
  expect(dryRun.code, dryRun.stderr).toBe(0);
  expect(await versions(lab, newTenant("dry"))).toEqual({});
  await expect(vault("GET", `${TRANSIT_MOUNT}/keys/dry`)).rejects.toThrow();
});

test.each(CHANGES.map(({ title }, index) => ({ title, index })))(
  "is completed by the same command when it dies before or after '$title'",
  async ({ title, index }) => {
    await Promise.all(
      ["→", "✓"].map(async (mark, side) => {
        const tenant = newTenant(`new-${index}-${side}`);
        await killedAt(args(tenant), `${mark} ${title}`);
        const before = await versions(lab, tenant);
        const again = await runbook(args(tenant));
        expect(again.code, again.stderr).toBe(0);
        expect(await versions(lab, tenant)).toEqual({ admin: 1, mailu: 1, dkim: 1 });
        for (const made of Object.values(before)) expect(made).toBe(1);
        await expectUsable(tenant);
      }),
    );
  },
);

test("a second onboarding changes nothing, another domain is refused", async () => {
  const tenant = newTenant("twice");
  expect((await runbook(args(tenant))).code).toBe(0);
  const before = await readRecord(lab, tenant, "admin");
  expect((await runbook(args(tenant))).code).toBe(0);
  expect(await readRecord(lab, tenant, "admin")).toEqual(before);
  const other = await runbook([
    "onboard-tenant",
    "--tenant",
    "twice",
    "--domain",
    "elsewhere.example",
    "--yes",
  ]);
  expect(other.code).toBe(4);
  expect(other.stderr).toMatch(/already there/);
});

/** Every secret decrypts to what it should be, and DNS is told of the key that signs. */
async function expectUsable(tenant: LabTenant): Promise<void> {
  const [admin, mailu, dkim] = await Promise.all([
    readRecord(lab, tenant, "admin"),
    readRecord(lab, tenant, "mailu"),
    readRecord(lab, tenant, "dkim"),
  ]);
  const password = await decrypt(lab, tenant, admin.fields.password);
  expect(password).toMatch(/^[A-Za-z0-9+/]{64}$/);
  expect(Buffer.from(password, "base64")).toHaveLength(48);
  expect((await decrypt(lab, tenant, mailu.fields.api_token)).length).toBeGreaterThan(40);
  expect(await decrypt(lab, tenant, dkim.fields.private_key)).toMatch(/^-----BEGIN PRIVATE KEY-----/);
  expect(admin.fields).toMatchObject({
    username: `admin@${tenant.domain}`,
    webmail_url: `https://mail.${tenant.domain}/webmail`,
  });
}
