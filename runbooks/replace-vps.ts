// A VPS that is dead but still listed, or that hangs: look what is wrong with it, ask, let the engine replace it,
// prove the tenant's login on the new one, and say how long that took.
import { z } from "zod";
import {
  mailHost,
  recordPath,
  type TenantId,
  TRANSIT_MOUNT,
  tenantStack,
  transitKey,
  vpsUrn,
} from "../stacks/names.ts";
import { RunbookError } from "./lib/errors.ts";
import { breakGlassFlag, tenantFlag } from "./lib/flag-types.ts";
import { type Finding, probeHost } from "./lib/host-probe.ts";
import { unprovenLogins } from "./lib/mail-login.ts";
import { engineAfterDeadOne, pulumi, urnsInStack } from "./lib/pulumi.ts";
import { Admin, Server, Tls } from "./lib/records.ts";
import { defineRunbook } from "./lib/runbook.ts";
import { loginAt } from "./lib/server-record.ts";
import { openSession } from "./lib/session.ts";
import type { Settings } from "./lib/settings.ts";
import { tlsTrust } from "./lib/tls-trust.ts";
import { open } from "./lib/transit.ts";
import type { Vault } from "./lib/vault.ts";

/** The promise of scenario 1, in seconds. */
const RTO_SECONDS = 3600;

export default defineRunbook({
  name: "replace-vps",
  summary: "replace a tenant's dead or hanging VPS and prove its login on the new one",
  example: "npx runbook replace-vps --tenant acme",
  flags: z.object({
    tenant: tenantFlag,
    force: z.boolean().default(false).describe("replace it although it answers"),
    breakGlass: breakGlassFlag,
  }),
  run: async (run) => {
    const { tenant, force } = run.flags;
    const began = performance.now();
    const stack = tenantStack(tenant);
    const { settings, vault } = await openSession(run, "tenant-deployer", {
      [recordPath(tenant, "server")]: ["create", "read", "update"],
      [recordPath(tenant, "admin")]: ["read"],
      [`${TRANSIT_MOUNT}/decrypt/${transitKey(tenant)}`]: ["update"],
    });
    const before = await run.check(`read where ${tenant} lives`, () => requireServer(vault, tenant));
    const findings = await run.check(`look what is wrong with ${before.vps_ip}`, () =>
      probeHost(before.vps_ip),
    );
    const problems = findings.flatMap(({ service, problem }) =>
      problem === undefined ? [] : [`${service}: ${problem}`],
    );
    if (problems.length === 0 && !force) {
      throw new RunbookError(
        `The VPS of ${tenant} (${before.vps_ip}) answers on ssh, SMTP, IMAP and HTTPS: a healthy host is not replaced`,
        {
          exit: "refused",
          next: `a lost password on a healthy host: npx runbook recover-credentials --tenant ${tenant}; to replace it all the same: --force`,
        },
      );
    }
    const replace = await run.check(`find the host in stack ${stack}`, () =>
      replacement(settings, tenant, findings),
    );
    await run.confirm(
      `Replace the VPS of ${tenant} at ${before.vps_ip} (${problems.join("; ") || "healthy, but --force"})?`,
    );
    await run.change(`rebuild it: pulumi up --stack ${stack}`, () =>
      engineAfterDeadOne(settings, stack, run, () =>
        pulumi(
          settings,
          ["up", "--stack", stack, "--yes", "--skip-preview", ...replace],
          (line) => void run.note(`    ${line}`),
        ),
      ),
    );
    await run.change("prove the tenant's login on the new host", () => proveLogin(vault, tenant));
    const after = run.dryRun ? before : await requireServer(vault, tenant);
    const seconds = Math.round((performance.now() - began) / 100) / 10;
    return {
      tenant,
      problems,
      old_vps_ip: before.vps_ip,
      new_vps_ip: after.vps_ip,
      measured_rto_s: seconds,
      target_rto_s: RTO_SECONDS,
      within_rto: seconds <= RTO_SECONDS,
    };
  },
});

/**
 * The arguments that have the engine make the machine anew; none where an interrupted rebuild left the stack
 * without one, since the engine makes that by itself. Throws refused (4) when the operator's own machine doesn't
 * even answer ssh: the engine would wait for it in vain.
 */
async function replacement(settings: Settings, tenant: TenantId, findings: Finding[]): Promise<string[]> {
  const urns = await urnsInStack(settings, tenantStack(tenant));
  const [instance, own] = [vpsUrn(tenant, "ec2"), vpsUrn(tenant, "existing")];
  if (urns.includes(instance)) return ["--replace", instance];
  if (!urns.includes(own)) return [];
  const ssh = findings.find(({ service }) => service === "ssh");
  if (ssh?.problem === undefined) return ["--replace", own];
  throw new RunbookError(`This host is one of your own, and nobody can reach it: ssh: ${ssh.problem}`, {
    exit: "refused",
    next: `reinstall it with docker and your ssh key, then run this again; or put another machine's address into existing.address of ${tenantStack(tenant)} and run pulumi up`,
  });
}

async function requireServer(vault: Vault, tenant: TenantId): Promise<Server> {
  const stored = await vault.record(tenant, "server", Server);
  if (stored !== undefined) return stored.data;
  throw new RunbookError(
    `Vault doesn't know where tenant ${tenant} lives: smtp/${tenant}/server is not there`,
    {
      exit: "usage",
      next: `vault kv list smtp   # is the id right? If it never had a host: pulumi up --stack ${tenantStack(tenant)}`,
    },
  );
}

async function proveLogin(vault: Vault, tenant: TenantId): Promise<void> {
  const [server, admin, tls] = await Promise.all([
    requireServer(vault, tenant),
    vault.record(tenant, "admin", Admin),
    vault.record(tenant, "tls", Tls),
  ]);
  const password = await open(vault, tenant, admin?.data.password ?? "", `smtp/${tenant}/admin password`);
  const trust = tlsTrust(mailHost(server.domain), tls?.data.certificate);
  const unproven = await unprovenLogins({ ...loginAt(server), trust, password });
  if (unproven.length === 0) return;
  throw new RunbookError(`Failed to verify MailU access after recovery: ${unproven.join("; ")}`, {
    exit: "failed",
    next: `npx runbook recover-credentials --tenant ${tenant}`,
  });
}
