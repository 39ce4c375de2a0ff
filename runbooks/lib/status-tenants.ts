// How each tenant stands, by what Vault tells without a ciphertext being opened: since when its password is in use, who
// knows it, and what of a rotation is left to do.
import type { TenantId } from "../../stacks/names.ts";
import { tenantStack } from "../../stacks/names.ts";
import { isMarked, readMetadata } from "./compromised.ts";
import { inParallel } from "./parallel.ts";
import type { Rotation } from "./records.ts";
import { readRotation } from "./rotation-begin.ts";
import { isSilent, isUnfinished } from "./unfinished.ts";
import type { Vault } from "./vault.ts";

export interface TenantStatus {
  tenant: TenantId;
  /** Version of the credential, and since when it is the current one. */
  version: number;
  last_rotated: string;
  /** The incident by which strangers know the current version. */
  compromised_by: string | null;
  /** Of a rotation that isn't over. */
  rotation: {
    state: string;
    kind: string;
    incident_id: string | null;
    since: string;
    at_work: boolean;
  } | null;
  /** With --logins: `works`, `REFUSED`, or why nobody knows. */
  login: string | null;
}

const AT_ONCE = 16;

export function tenantStatuses(vault: Vault, tenants: readonly TenantId[]): Promise<TenantStatus[]> {
  return inParallel(tenants, AT_ONCE, async (tenant) => {
    const [metadata, { stored }] = await Promise.all([
      readMetadata(vault, tenant),
      readRotation(vault, tenant),
    ]);
    const { current_version: version, custom_metadata: marks, versions } = metadata;
    return {
      tenant,
      version,
      last_rotated: versions[String(version)]?.created_time ?? "",
      compromised_by: isMarked(marks, version) ? (marks.incident_id ?? "unknown") : null,
      rotation: stored !== undefined && isUnfinished(stored.data) ? rotationOf(stored.data) : null,
      login: null,
    };
  });
}

const rotationOf = (rotation: Rotation) => ({
  state: rotation.state,
  kind: rotation.kind,
  incident_id: rotation.incident_id,
  since: rotation.started,
  at_work: !isSilent(rotation),
});

/** What is left to do, each with the command that does it. */
export function tenantTasks({
  tenant,
  rotation,
  compromised_by,
}: TenantStatus): { what: string; next: string }[] {
  return [
    ...(rotation === null || rotation.at_work
      ? []
      : [
          {
            what: `${tenant}: a ${rotation.kind} of ${rotation.since} stands still in state ${rotation.state}`,
            next:
              rotation.kind === "recovery"
                ? `pulumi up --stack ${tenantStack(tenant)}`
                : `npx runbook resume --tenant ${tenant}`,
          },
        ]),
    ...(compromised_by === null
      ? []
      : [
          {
            what: `${tenant}: the current password is marked as compromised (${compromised_by})`,
            next: `npx runbook emergency-reset --tenant ${tenant} --incident ${compromised_by} --reason "marked as compromised and still in use"`,
          },
        ]),
  ];
}
