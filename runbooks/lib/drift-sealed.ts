// What of a tenant's records is sealed, opened; and the parts of findings that are the same for all of them.
import { KV_MOUNT, type TenantId, TRANSIT_MOUNT, transitKey } from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import type { Finding } from "./findings.ts";
import { oneLine } from "./printable.ts";
import { open, Undecryptable } from "./transit.ts";
import type { Vault } from "./vault.ts";

/** The plaintext, or the finding that there is none to be had. */
export async function openOr(
  vault: Vault,
  tenant: TenantId,
  ciphertext: string,
  record: "admin" | "mailu" | "dkim",
  field: string,
): Promise<string | Finding> {
  try {
    return await open(vault, tenant, ciphertext, `${KV_MOUNT}/${tenant}/${record} ${field}`);
  } catch (error) {
    if (!(error instanceof Undecryptable)) throw error;
    return {
      ...about(tenant, "undecryptable", `${record}/${field}`),
      what: oneLine(error.message),
      declared: `${TRANSIT_MOUNT}/keys/${transitKey(tenant)} decrypts it`,
      mend:
        record === "admin"
          ? reset(tenant, "The stored password can't be decrypted")
          : `vault kv metadata get -mount=${KV_MOUNT} ${tenant}/${record}   # then: vault kv rollback -mount=${KV_MOUNT} -version=N ${tenant}/${record}, N being the last version that was whole`,
    };
  }
}

/** Records without which nothing can be looked at. */
export function incomplete(tenant: TenantId, records: Record<string, unknown>): RunbookError {
  const missing = Object.entries(records).flatMap(([name, record]) =>
    record === undefined ? [`${KV_MOUNT}/${tenant}/${name}`] : [],
  );
  return new RunbookError(`Vault has no ${missing.join(", no ")}`, {
    exit: "failed",
    next: `npx runbook check-drift --stack tenant-${tenant} --only vault   # says what is missing and how it comes back`,
  });
}

export const about = (tenant: TenantId, kind: string, which: string) =>
  ({ check: "credentials", kind, about: tenant, which }) as const;

/** An incident of its own: one that is over by now would not be reset again. */
export const reset = (tenant: TenantId, reason: string): string =>
  `npx runbook emergency-reset --tenant ${tenant} --incident DRIFT-${tenant}-${new Date().toISOString().replaceAll(/[-:]|\.\d+/g, "")} --reason "${reason}"`;
