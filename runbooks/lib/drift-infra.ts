// Whether every stack is as declared, by the engine's own look; and whether Vault and the stacks know the same tenants.
import { PLATFORM_STACK, tenantOfStack, tenantStack } from "../../stacks/names.ts";
import type { DriftContext } from "./drift-context.ts";
import { lookAtStack } from "./drift-engine.ts";
import { tenantsOf } from "./drift-tenant.ts";
import type { Finding } from "./findings.ts";

/** What Vault's provider declares is told by the check `vault`. */
export async function checkInfra(c: DriftContext): Promise<void> {
  const { stacks } = c;
  // Which stacks there are is the first thing that the frame asks for; it has told why nobody knows.
  if (stacks === undefined) return;
  let done = 0;
  await Promise.all([
    ...stacks.map((stack) =>
      c.report.look("infra", stack, async () => {
        const { findings } = await lookAtStack(c, stack);
        c.progress(`infra: ${++done} of ${stacks.length} stacks`);
        return findings.filter(({ check }) => check === "infra");
      }),
    ),
    c.report.look("infra", "stacks", async () => [
      ...withoutPlatform(c, stacks),
      ...(await oneSided(c, stacks)),
    ]),
  ]);
}

function withoutPlatform(c: DriftContext, stacks: readonly string[]): Finding[] {
  if (!c.platform || stacks.includes(PLATFORM_STACK)) return [];
  return [
    {
      check: "infra",
      kind: "stack-missing",
      about: PLATFORM_STACK,
      which: "",
      what: "There is no stack `platform`: nothing declares Vault's roles, the buckets and the keys",
      mend: "pulumi stack init platform   # or, where it is elsewhere: export PULUMI_BACKEND_URL=…",
    },
  ];
}

/** Tenants that only one of the two knows. That Vault can't be asked is told by the check of Vault, and here too. */
async function oneSided(c: DriftContext, stacks: readonly string[]): Promise<Finding[]> {
  const inVault = c.inVault ?? (await tenantsOf(await c.vault()));
  const withoutStack = [...inVault].filter((tenant) => !stacks.includes(tenantStack(tenant)));
  const ofStacks = stacks.flatMap((stack) => tenantOfStack(stack) ?? []);
  const unknown = ofStacks.filter((tenant) => !inVault.has(tenant));
  return [
    ...withoutStack.map(
      (tenant): Finding => ({
        check: "infra",
        kind: "stack-missing",
        about: tenantStack(tenant),
        which: "",
        what: `Vault has the tenant ${tenant}, and there is no stack ${tenantStack(tenant)}: nothing would rebuild its host`,
        mend: `pulumi stack init ${tenantStack(tenant)}   # write its configuration, then pulumi up; or: npx runbook offboard-tenant --tenant ${tenant}`,
      }),
    ),
    ...unknown.map(
      (tenant): Finding => ({
        check: "infra",
        kind: "tenant-missing",
        about: tenantStack(tenant),
        which: "",
        what: `There is the stack ${tenantStack(tenant)}, and Vault knows no tenant ${tenant}: its host could not be rebuilt`,
        mend: `npx runbook onboard-tenant --tenant ${tenant} --domain …   # or, where it is to go: pulumi destroy --stack ${tenantStack(tenant)}`,
      }),
    ),
  ];
}
