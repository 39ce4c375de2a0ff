// Takes a tenant away for good. What can be brought back goes first and what can't goes last: account, stack, records,
// key. A tombstone in the audit store comes before anything is destroyed, so that whoever goes on after an
// interruption, on any machine, still knows what there was.
import { z } from "zod";
import {
  metadataPath,
  PLATFORM_STACK,
  RECORDS,
  recordPath,
  type TenantId,
  TRANSIT_MOUNT,
  tenantStack,
  transitKey,
  vpsUrn,
} from "../stacks/names.ts";
import { lastLockedBackup } from "./lib/backup-locks.ts";
import { RunbookError } from "./lib/errors.ts";
import { breakGlassFlag, sentenceFlag, takeOverFlag, tenantFlag } from "./lib/flag-types.ts";
import {
  closeRotation,
  lookForRemains,
  lookRights,
  type Remains,
  restingRotation,
} from "./lib/offboarding.ts";
import { takeDown } from "./lib/pulumi.ts";
import { defineRunbook } from "./lib/runbook.ts";
import { openSession } from "./lib/session.ts";
import { disableAdministrator, readLastRecords, tombstoneOf } from "./lib/tenant-end.ts";
import { type Tombstone, Tombstones } from "./lib/tombstone.ts";
import { deleteKey } from "./lib/transit.ts";
import type { Vault } from "./lib/vault.ts";

export default defineRunbook({
  name: "offboard-tenant",
  summary: "take a tenant away for good: account, host, DNS, credentials, key",
  example: 'npx runbook offboard-tenant --tenant acme --reason "contract ended"',
  flags: z.object({
    tenant: tenantFlag,
    reason: sentenceFlag.describe("why, in a sentence; it is audited"),
    name: z.string().optional().describe("the tenant's id once more, to confirm where nobody can be asked"),
    takeOver: takeOverFlag,
    breakGlass: breakGlassFlag,
  }),
  run: async (run) => {
    const { tenant, reason } = run.flags;
    const stack = tenantStack(tenant);
    const { settings, vault } = await openSession(run, "platform-admin", lookRights(tenant));
    const tombstones = new Tombstones(settings.audit, run.env);
    const left = await run.check(`look what is left of ${tenant}`, () =>
      lookForRemains(vault, settings, tombstones, tenant),
    );
    const inVault = left.records.length > 0 || left.tombstone === undefined;
    if (inVault) {
      await run.check("ask Vault for the rights to take the credentials away", () =>
        vault.requireCapabilities(adminRights(tenant), "platform-admin"),
      );
    }
    const mayDeleteKey =
      left.key !== undefined &&
      (await run.check("ask Vault whether this token may destroy keys", () => mayShred(vault, tenant)));
    const records = inVault
      ? await run.check("read its records as they are", () => readLastRecords(vault, tenant))
      : undefined;
    const rotation = inVault
      ? await run.check("make sure that nobody is rotating its password", () =>
          restingRotation(vault, tenant, run.flags.takeOver),
        )
      : undefined;
    if (isSomethingLeft(left)) {
      await run.confirm(question(tenant, left, records?.server ?? left.tombstone), {
        word: tenant,
        flag: { name: "--name", given: run.flags.name },
      });
    }

    let { tombstone } = left;
    if (tombstone === undefined && records !== undefined) {
      const account = await run.change("disable the administrator in Mailu", () =>
        disableAdministrator(vault, tenant, records),
      );
      if (rotation !== undefined) {
        await run.change("close its rotation record, so that nobody enables it again", () =>
          closeRotation(vault, tenant, rotation),
        );
      }
      const ownHost = left.urns.includes(vpsUrn(tenant, "existing"));
      const there = { ...left, records, rotation, ownHost, account: account ?? "" };
      tombstone = await run.change(`leave a tombstone in ${tombstones.where}`, () =>
        tombstones.add(tenant, tombstoneOf(tenant, there, { user: vault.user, reason, run: run.runId })),
      );
    }
    const audit = (event: string, details: Record<string, unknown>) =>
      run.audit.append({
        event,
        tenantId: tenant,
        originalRun: tombstone?.run_id,
        details: { ...details, ...(run.flags.breakGlass ? { break_glass: true } : {}) },
      });
    await run.change("write the audit event", () => audit("tenant_offboarded", traces(tombstone)));
    if (left.urns.length > 0) {
      await run.change(`take down the stack ${stack}`, () => takeDown(settings, stack, run));
    }
    if (left.records.length > 0) {
      await run.change(`delete ${left.records.join(", ")} from Vault, with all their versions`, async () => {
        for (const record of left.records) await vault.remove(metadataPath(tenant, record));
      });
    }
    if (mayDeleteKey) {
      await run.change("destroy its Transit key", () => deleteKey(vault, tenant));
    }
    const keyIsLeft = left.key !== undefined && !mayDeleteKey;
    if (!keyIsLeft && tombstone?.key !== null) {
      await run.change("write the audit event of the key's end", () =>
        audit("transit_key_deleted", { key: tombstone?.key }),
      );
    }
    const backups = await run.check("look how long backups hold it", () =>
      lastLockedBackup(settings, run.env),
    );
    const result = {
      tenant,
      ...(tombstone === undefined
        ? {}
        : { offboarded_at: tombstone.offboarded_at, account: tombstone.account }),
      tombstone: tombstones.where,
      ...(tombstone?.own_host === true
        ? { host: `${tombstone.vps_ip} is your own: Mailu and its mail are still on its disk; erase it` }
        : {}),
      key: keyIsLeft ? "waits for a key-shredder" : "destroyed",
      backups,
      next: `take ${tenant} out of 'tenants' of the platform stack, then: pulumi up --stack ${PLATFORM_STACK}`,
    };
    if (!keyIsLeft || run.dryRun) return result;
    throw new RunbookError(
      `All of ${tenant} is gone but its Transit key, which this token may not destroy: backups made until then hold it too`,
      {
        exit: "incomplete",
        next: `npx runbook offboard-tenant --tenant ${tenant} --name ${tenant} --reason '${reason.replaceAll("'", `'\\''`)}'   # with a token of the role key-shredder`,
        result,
      },
    );
  },
});

function question(
  tenant: TenantId,
  left: Remains,
  at: { domain: string | null; vps_ip: string | null } | undefined,
): string {
  const what = [at?.domain, at?.vps_ip].filter((text) => text != null).join(", ");
  const whom = `${tenant}${what === "" ? "" : ` (${what})`}`;
  return left.records.length === 0 && left.urns.length === 0
    ? `Destroy the key of ${whom} for good? It is the last of what there was.`
    : `Take ${whom} away for good? Its host and all mail on it, its DNS records, its credentials and its key are destroyed.`;
}

const isSomethingLeft = ({ records, key, urns, tombstone }: Remains): boolean =>
  records.length > 0 || key !== undefined || urns.length > 0 || tombstone === undefined;

const adminRights = (tenant: TenantId): Record<string, readonly string[]> => ({
  ...Object.fromEntries(RECORDS.map((record) => [recordPath(tenant, record), ["read"]])),
  ...Object.fromEntries(
    RECORDS.filter((record) => record !== "rotation").map((record) => [
      metadataPath(tenant, record),
      ["delete"],
    ]),
  ),
  [recordPath(tenant, "rotation")]: ["read", "update"],
  [`${TRANSIT_MOUNT}/decrypt/${transitKey(tenant)}`]: ["update"],
});

/** Deleting a key takes a right of its own, which a person has and no automation. */
async function mayShred(vault: Vault, tenant: TenantId): Promise<boolean> {
  const key = `${TRANSIT_MOUNT}/keys/${transitKey(tenant)}`;
  try {
    await vault.requireCapabilities({ [key]: ["delete"], [`${key}/config`]: ["update"] }, "key-shredder");
    return true;
  } catch (error) {
    if (error instanceof RunbookError && error.exitCode === 3) return false;
    throw error;
  }
}

/** What the audit log tells of it: the credentials by version and fingerprint. */
const traces = (tombstone: Tombstone | undefined): Record<string, unknown> => ({
  reason: tombstone?.reason,
  domain: tombstone?.domain,
  vps_ip: tombstone?.vps_ip,
  account: tombstone?.account,
  records: tombstone?.records,
});
