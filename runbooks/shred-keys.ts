// Destroys versions of tenants' keys that nothing current needs. Raising a minimum can be undone by whoever may raise
// it; trimming can't, by nobody. So it's a role of its own, which no automation has, and never part of a reset.
import { z } from "zod";
import { KV_MOUNT, recordPath, type TenantId, TRANSIT_MOUNT, transitKey } from "../stacks/names.ts";
import { RunbookError } from "./lib/errors.ts";
import { breakGlassFlag, tenantFlag } from "./lib/flag-types.ts";
import { inParallel } from "./lib/parallel.ts";
import { Ciphertext, isPending } from "./lib/records.ts";
import { SEALED } from "./lib/retire.ts";
import { readRotation } from "./lib/rotation-begin.ts";
import { defineRunbook, type Run } from "./lib/runbook.ts";
import { openSession } from "./lib/session.ts";
import { readKey, trimKey, versionOf } from "./lib/transit.ts";
import type { Vault } from "./lib/vault.ts";

/** Tenants looked at at a time. */
const AT_ONCE = 16;

export default defineRunbook({
  name: "shred-keys",
  summary: "destroy old versions of tenants' keys, for good",
  example: "npx runbook shred-keys --tenant acme",
  flags: z.object({
    tenant: tenantFlag.optional().describe("the tenant's id"),
    all: z.boolean().default(false).describe("every tenant whose old versions are retired"),
    breakGlass: breakGlassFlag,
  }),
  run: async (run) => {
    const { tenant, all } = run.flags;
    if ((tenant === undefined) !== all) {
      throw new RunbookError("Whose keys? Either --tenant ID or --all", { exit: "usage" });
    }
    const { vault } = await openSession(
      run,
      "key-shredder",
      tenant === undefined ? { [`${KV_MOUNT}/metadata`]: ["list"] } : rights(tenant),
    );
    const tenants = tenant === undefined ? await everyTenant(run, vault) : [tenant];
    const found = await run.check("look which versions of the keys nothing current needs", () =>
      inParallel(tenants, AT_ONCE, (one) => assess(vault, one)),
    );
    const refused = found.filter((one) => "why" in one);
    if (!all && found.some((one) => "gone" in one)) throw unknown(tenants);
    if (!all && refused.length > 0) throw refusal(refused);
    const retired = found.filter((one) => "below" in one);
    const due = retired.filter(({ versions }) => versions > 0);
    if (due.length > 0) await run.confirm(question(due), { word: tenant ?? "all" });

    for (const one of retired) await shred(run, vault, one);
    const result = {
      shredded: due.map(({ tenant, versions, below }) => ({ tenant, versions, below_version: below })),
      nothing_to_shred: found.length - due.length - refused.length,
    };
    if (refused.length > 0) throw refusal(refused, result);
    return result;
  },
});

interface Retired {
  readonly tenant: TenantId;
  /** Versions below this one go. */
  readonly below: number;
  /** How many of them are still there. */
  readonly versions: number;
}
interface Refused {
  readonly tenant: TenantId;
  readonly why: string;
}
type Finding = Retired | Refused | { readonly tenant: TenantId; readonly gone?: true };

const rights = (tenant: TenantId): Record<string, readonly string[]> => ({
  ...Object.fromEntries(SEALED.map(({ record }) => [recordPath(tenant, record), ["read"]])),
  [recordPath(tenant, "rotation")]: ["read"],
  [`${TRANSIT_MOUNT}/keys/${transitKey(tenant)}`]: ["read"],
  [`${TRANSIT_MOUNT}/keys/${transitKey(tenant)}/trim`]: ["update"],
});

async function everyTenant(run: Run<unknown>, vault: Vault): Promise<TenantId[]> {
  const tenants = await run.check("list the tenants", () => vault.tenants());
  const needs = Object.assign({}, ...tenants.map(rights)) as ReturnType<typeof rights>;
  if (tenants.length > 0) {
    await run.check("ask Vault for the rights on each of them", () =>
      vault.requireCapabilities(needs, "key-shredder"),
    );
  }
  return tenants;
}

/** Says which versions may go; nothing but the tenant where there is only one, or no tenant any more. */
async function assess(vault: Vault, tenant: TenantId): Promise<Finding> {
  const [key, { stored: rotation }, ...sealed] = await Promise.all([
    readKey(vault, tenant),
    readRotation(vault, tenant),
    ...SEALED.map(async ({ record, field }) => {
      const stored = await vault.record(tenant, record, z.looseObject({ [field]: Ciphertext }));
      const ciphertext = Ciphertext.safeParse(stored?.data[field]).data;
      return { what: `${KV_MOUNT}/${tenant}/${record} ${field}`, ciphertext };
    }),
  ]);
  if (key === undefined) {
    const orphaned = sealed.some(({ ciphertext }) => ciphertext !== undefined);
    return orphaned ? { tenant, why: "its key is gone, and its records are not" } : { tenant, gone: true };
  }
  if (key.latest_version === 1) return { tenant };
  const { min_decryption_version: below, min_encryption_version: encryption } = key;
  if (below <= 1 || encryption < below) return { tenant, why: "its old versions are not retired" };
  const waiting =
    rotation !== undefined && isPending(rotation.data.state) ? rotation.data.password : undefined;
  const needing = [...sealed, { what: `${KV_MOUNT}/${tenant}/rotation password`, ciphertext: waiting }].find(
    ({ ciphertext }) => ciphertext !== undefined && versionOf(ciphertext) < below,
  );
  if (needing !== undefined) return { tenant, why: `${needing.what} still needs one that would go` };
  return { tenant, below, versions: below - Math.max(1, key.min_available_version) };
}

/** A run that died between the trim and its event finds nothing to trim any more, and writes the event. */
async function shred(run: Run<{ breakGlass: boolean }>, vault: Vault, one: Retired): Promise<void> {
  const { tenant, below, versions } = one;
  const key = `the key of ${tenant}`;
  const made = await run.change(`destroy the versions of ${key} below ${below}`, async () => {
    if (versions > 0) await trimKey(vault, tenant, below);
    const after = await readKey(vault, tenant);
    if (after?.min_available_version !== below) {
      throw new RunbookError(`Vault has not destroyed the versions of ${key} below ${below}`, {
        exit: "failed",
        next: `vault read ${TRANSIT_MOUNT}/keys/${transitKey(tenant)}   # min_available_version; then run this again`,
      });
    }
    return after.keys[below];
  });
  await run.change(`write the audit event for ${tenant}`, () =>
    run.audit.append({
      event: "transit_key_versions_shredded",
      tenantId: tenant,
      // Once for each version of each key: one that is made anew after an offboarding is another key.
      originalRun: `${transitKey(tenant)} ${below} ${made}`,
      details: {
        below_version: below,
        ...(run.flags.breakGlass ? { break_glass: true } : {}),
      },
    }),
  );
}

function question(due: readonly Retired[]): string {
  const versions = due.reduce((sum, one) => sum + one.versions, 0);
  const whose = due.length === 1 ? due.map(({ tenant }) => tenant).join() : `${due.length} tenants`;
  return `Destroy ${versions} old version${versions === 1 ? "" : "s"} of the key${due.length === 1 ? "" : "s"} of ${whose} for good? What was encrypted with them can't be decrypted by this Vault any more, whoever asks.`;
}

function refusal(refused: readonly Refused[], result?: Record<string, unknown>): RunbookError {
  const whom = refused.map(({ tenant, why }) => `${tenant}: ${why}`);
  return new RunbookError(`Nothing is destroyed while it may still be needed: ${whom.join("; ")}`, {
    exit: "refused",
    next: "npx runbook resume --all   # retires what a reset has left; where there was none: npx runbook emergency-reset",
    ...(result === undefined
      ? {}
      : { result: { ...result, refused: refused.map(({ tenant, why }) => ({ tenant, why })) } }),
  });
}

const unknown = (tenants: readonly TenantId[]): RunbookError =>
  new RunbookError(`Vault has neither a key nor a credential of ${tenants.join()}`, {
    exit: "usage",
    next: `vault list ${TRANSIT_MOUNT}/keys   # is the id right?`,
  });
