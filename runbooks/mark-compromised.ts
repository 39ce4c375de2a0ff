// Notes that strangers know a version of a tenant's credential, without changing the credential: what to do when a
// leak is known and a reset isn't possible yet, or for a version that was replaced before anybody knew.
import { z } from "zod";
import { KV_MOUNT, recordPath, type TenantId } from "../stacks/names.ts";
import {
  type AdminMetadata,
  isMarked,
  markCompromised,
  markPatch,
  markRights,
  readMetadata,
} from "./lib/compromised.ts";
import { RunbookError } from "./lib/errors.ts";
import { breakGlassFlag, incidentFlag, sentenceFlag, tenantFlag } from "./lib/flag-types.ts";
import { Admin } from "./lib/records.ts";
import { defineRunbook } from "./lib/runbook.ts";
import { openSession } from "./lib/session.ts";
import { fingerprint } from "./lib/vault.ts";

export default defineRunbook({
  name: "mark-compromised",
  summary: "mark a version of a tenant's credential as known to strangers, without resetting it",
  example: 'npx runbook mark-compromised --tenant acme --incident INC-2024-001 --reason "laptop stolen"',
  flags: z.object({
    tenant: tenantFlag,
    incident: incidentFlag,
    reason: sentenceFlag.describe("what happened, in a sentence"),
    version: z.coerce
      .number()
      .int()
      .min(1)
      .optional()
      .describe("the version of the credential in Vault (default: the current one)"),
    breakGlass: breakGlassFlag,
  }),
  run: async (run) => {
    const { tenant, incident, reason } = run.flags;
    const { vault } = await openSession(run, "incident-responder", {
      ...markRights(tenant),
      [recordPath(tenant, "admin")]: ["read"],
    });
    const known = await run.check(`look at the versions of ${KV_MOUNT}/${tenant}/admin`, () =>
      readMetadata(vault, tenant),
    );
    const version = run.flags.version ?? known.current_version;
    requireVersion(tenant, known, version);
    const sealed = await run.check(`read version ${version}`, () =>
      vault.record(tenant, "admin", Admin, version),
    );
    const mark = {
      incident,
      by: vault.user,
      at: new Date(),
      versions: [version, ...unlisted(known)],
    };
    const fresh = Object.keys(markPatch(known.custom_metadata, mark, known.oldest_version)).length > 0;
    if (fresh) await run.confirm(meaning(tenant, version, known));

    await run.change(`mark version ${version} as compromised by ${incident}`, () =>
      markCompromised(vault, tenant, mark),
    );
    const ciphertext_sha256 = sealed === undefined ? null : fingerprint(sealed.data.password);
    await run.change("write the audit event", () =>
      run.audit.append({
        event: "smtp_credentials_marked_compromised",
        tenantId: tenant,
        severity: "high",
        // The same mark of the same incident is one event, however many runs that took.
        originalRun: `${incident} ${ciphertext_sha256 ?? version}`,
        details: {
          incident_id: incident,
          reason,
          version,
          ciphertext_sha256,
          ...(run.flags.breakGlass ? { break_glass: true } : {}),
        },
      }),
    );
    return {
      tenant,
      version,
      current_version: known.current_version,
      incident_id: incident,
      already_marked: !fresh,
      ...(version === known.current_version
        ? {
            next: `npx runbook emergency-reset --tenant ${tenant} --incident ${incident} --reason …   # until then the password still works`,
          }
        : {}),
    };
  },
});

/** A mark without a list means the current version: with a list beside it, it would no longer mean that. */
const unlisted = ({ custom_metadata: marks, current_version }: AdminMetadata): number[] =>
  marks.compromised === "true" && marks.compromised_versions === undefined ? [current_version] : [];

function requireVersion(tenant: TenantId, known: AdminMetadata, version: number): void {
  const found = known.versions[version];
  if (found !== undefined && !found.destroyed) return;
  const kept = Object.keys(known.versions).filter((one) => known.versions[one]?.destroyed === false);
  throw new RunbookError(
    `Vault has no version ${version} of ${KV_MOUNT}/${tenant}/admin: it keeps ${kept.join(", ") || "none"}`,
    {
      exit: "usage",
      next: `vault kv metadata get -mount=${KV_MOUNT} ${tenant}/admin   # which version was in use when it leaked?`,
    },
  );
}

/** What the mark does and what it doesn't, before anybody relies on it. */
function meaning(tenant: TenantId, version: number, known: AdminMetadata): string {
  const many = isMarked(known.custom_metadata, version) ? " once more, for this incident" : "";
  return version === known.current_version
    ? `Mark version ${version}, the password that ${tenant} uses now, as compromised${many}? It still works until a reset, and a rebuild of the host then installs a new one.`
    : `Mark version ${version} as compromised${many}? ${tenant} uses version ${known.current_version} now: this is for the record only.`;
}
