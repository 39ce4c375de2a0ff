// What dead runs left is finished: pending rotations, keys not retired yet, notices and audit events that wait. Run by
// a timer each minute, and by hand after an incident.
import { z } from "zod";
import { type TenantId, tenantStack } from "../stacks/names.ts";
import { eventId } from "./lib/audit-chain.ts";
import { RunbookError } from "./lib/errors.ts";
import { breakGlassFlag, takeOverFlag, tenantFlag } from "./lib/flag-types.ts";
import { forEachTenant } from "./lib/many.ts";
import { Outbox } from "./lib/outbox.ts";
import { inParallel } from "./lib/parallel.ts";
import { isBefore, type Rotation } from "./lib/records.ts";
import { finishPending } from "./lib/reset.ts";
import { resetRights } from "./lib/reset-rights.ts";
import { readRotation } from "./lib/rotation-begin.ts";
import { defineRunbook } from "./lib/runbook.ts";
import { openSession } from "./lib/session.ts";
import { Held } from "./lib/take-over.ts";
import { isAtWork, isSilent, isUnfinished } from "./lib/unfinished.ts";
import type { Vault } from "./lib/vault.ts";

const ROLE = "incident-responder";

/** Tenants read, and finished, at a time. */
const AT_ONCE = 16;

interface Left {
  readonly tenant: TenantId;
  readonly rotation: Rotation;
}

export default defineRunbook({
  name: "resume",
  summary: "finish the rotations that dead runs left, and send the notices that wait",
  example: "npx runbook resume --all",
  flags: z.object({
    tenant: tenantFlag.optional(),
    all: z.boolean().default(false).describe("look at every tenant"),
    takeOver: takeOverFlag,
    breakGlass: breakGlassFlag,
  }),
  run: async (run) => {
    const { tenant, all, takeOver } = run.flags;
    if ((tenant === undefined) !== all) {
      throw new RunbookError("one of --tenant and --all says where to look", { exit: "usage" });
    }
    const { settings, vault } = await openSession(run, ROLE, { "smtp/metadata": ["list"] });
    if (run.flags.breakGlass)
      await run.audit.append({ event: "break_glass_used", severity: "critical", details: {} });
    const left = await run.check("look for rotations that are not finished", async () =>
      unfinished(vault, tenant === undefined ? await vault.tenants() : [tenant]),
    );
    const rebuilds = left.filter(({ rotation }) => rotation.kind === "recovery").map((one) => one.tenant);
    const orphans = left.filter(({ rotation }) => rotation.kind !== "recovery" && !isAtWork(rotation));
    // Stopped, or hung: it may come back at any moment, so that nobody takes its work away while it lives.
    const stuck = left.filter(({ rotation }) => isAtWork(rotation) && isSilent(rotation));
    const outbox = new Outbox(settings, run.env);
    if (orphans.length > 0) {
      await run.check("ask Vault for the rights on them", () =>
        vault.requireCapabilities(Object.assign({}, ...orphans.map((one) => resetRights(one.tenant))), ROLE),
      );
      await run.confirm(`Finish the rotations of ${orphans.map((one) => one.tenant).join(", ")}?`);
    }
    if (orphans.length + stuck.length > 0)
      await run.change("raise the alarm", () => alarm(outbox, [...orphans, ...stuck]));
    const outcomes = await forEachTenant(
      run,
      orphans.map((one) => one.tenant),
      async (steps, one, how) => {
        const tools = { ...steps, runId: run.runId, settings, vault, audit: run.audit, outbox };
        try {
          const { version, outstanding } = await finishPending(tools, one, how);
          outbox.deliverMeanwhile(one);
          return { outcome: outstanding.length > 0 ? "incomplete" : "done", version, problems: outstanding };
        } catch (error) {
          // Somebody on another machine is at it: no orphan after all.
          if (error instanceof Held) return { outcome: "unchanged", problems: [] };
          if (!(error instanceof RunbookError)) throw error;
          // What fails with one tenant, be it the only one, keeps neither the alarm nor the notices from going out.
          const { message, next } = error;
          return { outcome: "failed", problems: [message], ...(next === undefined ? {} : { next }) };
        }
      },
      { vault, atOnce: AT_ONCE, takeOver: takeOver ? "now" : "watch" },
    );
    const sent = await run.change("send the notices that wait", () => outbox.deliver());
    const waiting = (sent?.waiting ?? []).map(({ name, why }) => `notice ${name}: ${why}`);
    const unfinishedYet = outcomes.filter(({ outcome }) => outcome === "failed" || outcome === "incomplete");
    const held = stuck.map(({ tenant: one, rotation }) => standsStill(one, rotation));
    const result = {
      finished: outcomes.filter(({ outcome }) => outcome === "done").map((one) => one.tenant),
      unfinished: unfinishedYet,
      held,
      rebuilds: rebuilds.map((one) => ({ tenant: one, next: `pulumi up --stack ${tenantStack(one)}` })),
      notices_delivered: sent?.delivered.length ?? 0,
      notices_waiting: waiting,
    };
    if (unfinishedYet.length + held.length + waiting.length === 0) return result;
    const problems = unfinishedYet.map((one) => `${one.tenant}: ${one.problems.join("; ")}`);
    throw new RunbookError([...problems, ...held.map(({ why }) => why), ...waiting].join("; "), {
      exit: "incomplete",
      next:
        [...unfinishedYet, ...held].find(({ next }) => next !== undefined)?.next ??
        "mend that, then run this again",
      result,
    });
  },
});

/** Rotations that wait for a password, a notice or the retiring of a key; those that a living run holds too. */
async function unfinished(vault: Vault, tenants: readonly TenantId[]): Promise<Left[]> {
  const found = await inParallel(tenants, AT_ONCE, async (tenant) => {
    const { stored } = await readRotation(vault, tenant);
    if (stored === undefined) return [];
    return isUnfinished(stored.data) ? [{ tenant, rotation: stored.data }] : [];
  });
  return found.flat();
}

function standsStill(
  tenant: TenantId,
  { holder }: Rotation,
): { tenant: TenantId; why: string; next: string } {
  const why = `${tenant}: process ${holder?.pid} (${holder?.user}) holds its rotation and has not moved since ${holder?.heartbeat}`;
  return { tenant, why, next: `kill -CONT ${holder?.pid}   # or -KILL; then run this again` };
}

/** Tells the security team of each rotation that stands still while its password may be half changed; hourly. */
async function alarm(outbox: Outbox, orphans: readonly Left[]): Promise<void> {
  const hour = new Date().toISOString().slice(0, 13);
  const urgent = orphans.filter(
    ({ rotation }) => isBefore(rotation.state, "COMMITTED") && isSilent(rotation),
  );
  await inParallel(urgent, AT_ONCE, ({ tenant, rotation }) =>
    outbox.keep({
      event_id: eventId(rotation.run, tenant, `notice:rotation_interrupted:${hour}`),
      name: "rotation_interrupted",
      audience: "security",
      to: [],
      severity: "critical",
      subject: `A rotation of ${tenant} was interrupted and is being finished`,
      text: `The rotation that ${rotation.actor} began at ${rotation.started} (${rotation.incident_id ?? rotation.kind}) stood still in state ${rotation.state}.
Until it is finished the tenant may not be able to log in with the password that Vault holds.

If this mail comes again in an hour: npx runbook resume --tenant ${tenant}
`,
      fields: { state: rotation.state, started: rotation.started, kind: rotation.kind },
      tenant_id: tenant,
      ...(rotation.incident_id === null ? {} : { incident_id: rotation.incident_id }),
    }),
  );
}
