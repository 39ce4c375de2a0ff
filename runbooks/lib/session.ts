// The first steps of every runbook that needs Vault: connect, say who acts, ask Vault for the rights.
import type { Role } from "../../stacks/names.ts";
import type { Run } from "./runbook.ts";
import type { Settings } from "./settings.ts";
import { Vault } from "./vault.ts";

/**
 * @param role the role to name when a right is missing; @param needs Vault paths with the capabilities needed.
 * @throws RunbookError permission (3) that names every missing right; refused (4) for a sealed or foreign Vault,
 *   and for a root token without --break-glass.
 */
export async function openSession(
  run: Run<{ breakGlass: boolean }>,
  role: Role,
  needs: Record<string, readonly string[]>,
): Promise<{ settings: Settings; vault: Vault }> {
  const settings = await run.settings();
  const vault = await run.check(`connect to Vault at ${settings.vault.addr}`, () =>
    Vault.connect(settings, { env: run.env, breakGlass: run.flags.breakGlass }),
  );
  run.actAs(async () => vault.user);
  await run.check(`ask Vault for the rights of the role ${role}`, () =>
    vault.requireCapabilities(needs, role),
  );
  return { settings, vault };
}
