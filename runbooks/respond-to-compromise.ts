// Credentials were found in strangers' hands: each tenant's is reset, tenant and security team are told. Run by the
// actor `system` (AppRole, policy incident-responder) or by a person. Several machines that run the same command share
// the tenants; running it again does what is left.
import { z } from "zod";
import type { TenantId } from "../stacks/names.ts";
import { chosenTenants, namedTenants, tenantChoice } from "./lib/chosen-tenants.ts";
import { RunbookError } from "./lib/errors.ts";
import { breakGlassFlag, incidentFlag, sentenceFlag, takeOverFlag } from "./lib/flag-types.ts";
import { forEachTenant, type TenantOutcome } from "./lib/many.ts";
import { Outbox } from "./lib/outbox.ts";
import { resetTenant } from "./lib/reset.ts";
import { waitingNotices } from "./lib/reset-events.ts";
import { resetRights } from "./lib/reset-rights.ts";
import { defineRunbook } from "./lib/runbook.ts";
import { openSession } from "./lib/session.ts";
import { startBackup } from "./lib/start-backup.ts";

const ROLE = "incident-responder";

export default defineRunbook({
  name: "respond-to-compromise",
  summary: "rotate compromised credentials of one or many tenants and tell everybody",
  example:
    'npx runbook respond-to-compromise --incident INC-2024-001 --details "Leaked in a log" --tenants acme,globex',
  flags: z.object({
    incident: incidentFlag,
    details: sentenceFlag.describe(
      "what was found, in one line; it is audited and sent to the security team",
    ),
    ...tenantChoice,
    atOnce: z.coerce.number().int().min(1).max(256).default(20).describe("tenants at the same time"),
    again: z.boolean().default(false).describe("rotate once more although this incident had its rotation"),
    takeOver: takeOverFlag,
    breakGlass: breakGlassFlag,
  }),
  run: async (run) => {
    const { incident, details, atOnce, again, takeOver } = run.flags;
    namedTenants(run.flags);
    const { settings, vault } = await openSession(run, ROLE, { "smtp/metadata": ["list"] });
    const tenants = await run.check("look which tenants are meant", () => chosenTenants(vault, run.flags));
    await run.check(`ask Vault for the rights on ${count(tenants)}`, () =>
      vault.requireCapabilities(Object.assign({}, ...tenants.map(resetRights)), ROLE),
    );
    await run.confirm(
      `Set new passwords for ${tenants.length <= 5 ? tenants.join(", ") : count(tenants)} and end the open connections (${incident})?`,
    );
    const outbox = new Outbox(settings, run.env);
    const initiated_by = await vault.userMail();
    const outcomes = await forEachTenant(
      run,
      tenants,
      async (steps, tenant, how) => {
        const done = await resetTenant(
          { ...steps, runId: run.runId, settings, vault, audit: run.audit, outbox },
          {
            tenant,
            incident,
            kind: "response",
            reason: `Credential compromise: ${details}`,
            details: {
              compromise_details: details,
              initiated_by,
              ...(run.flags.breakGlass ? { break_glass: true } : {}),
            },
            again,
            takeOver: how,
          },
        );
        const outcome =
          done.outstanding.length > 0 ? "incomplete" : done.plan === "done" ? "unchanged" : "done";
        return { outcome, version: done.version, problems: done.outstanding };
      },
      { vault, atOnce, takeOver: takeOver ? "now" : "watch" },
    );
    const sent = await run.change("send the notices", () => outbox.deliver());
    const rotated =
      run.dryRun || outcomes.some(({ outcome }) => outcome === "done" || outcome === "incomplete");
    const backup = rotated ? await startBackup(run, settings) : undefined;
    return conclude(
      run.flags,
      outcomes,
      [...waitingNotices(sent, incident), ...(backup === undefined ? [] : [backup])],
      outbox.warning,
    );
  },
  render: (result) => {
    const { done, unchanged, failed } = result as {
      done: string[];
      unchanged: string[];
      failed: TenantOutcome[];
    };
    return [
      `${done.length} rotated, ${unchanged.length} were done before, ${failed.length} failed`,
      ...failed.map(({ tenant, problems }) => `  ${tenant}: ${problems.join("; ")}`),
      ...(typeof result.warning === "string" ? [`warning: ${result.warning}`] : []),
    ].join("\n");
  },
});

function conclude(
  flags: { incident: string; details: string },
  outcomes: readonly TenantOutcome[],
  outstanding: readonly string[],
  warning: string | undefined,
): Record<string, unknown> {
  const of = (outcome: TenantOutcome["outcome"]) => outcomes.filter((one) => one.outcome === outcome);
  const failed = [...of("failed"), ...of("incomplete")];
  const result = {
    incident_id: flags.incident,
    done: of("done").map(({ tenant }) => tenant),
    unchanged: of("unchanged").map(({ tenant }) => tenant),
    failed,
    tenants: outcomes,
    outstanding,
    ...(warning === undefined ? {} : { warning }),
  };
  if (failed.length === 0 && outstanding.length === 0) return result;
  const names = failed.map(({ tenant }) => tenant).join(",");
  const again = `npx runbook respond-to-compromise --incident ${flags.incident} --details ${quoted(flags.details)} --tenants ${names}`;
  throw new RunbookError(
    [
      ...(failed.length === 0 ? [] : [`${failed.length} of ${outcomes.length} tenants are not finished`]),
      ...outstanding,
    ].join("; "),
    {
      exit: "incomplete",
      next: failed.length === 0 ? "mend that, then: npx runbook notify flush" : again,
      result,
    },
  );
}

const count = (tenants: readonly TenantId[]): string =>
  tenants.length === 1 ? String(tenants[0]) : `${tenants.length} tenants`;
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
