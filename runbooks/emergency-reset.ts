// A password has leaked, or may have: a new one is set, the old one proven dead, everybody told. What dies on the way
// is finished by the same command, here or on another machine.
import { z } from "zod";
import { adminAddress } from "../stacks/names.ts";
import type { Account } from "./lib/account.ts";
import { display } from "./lib/display.ts";
import { RunbookError } from "./lib/errors.ts";
import { breakGlassFlag, incidentFlag, sentenceFlag, takeOverFlag, tenantFlag } from "./lib/flag-types.ts";
import { loadMailLibraries } from "./lib/mail-login.ts";
import { Outbox } from "./lib/outbox.ts";
import { type Plan, resetTenant } from "./lib/reset.ts";
import { waitingNotices } from "./lib/reset-events.ts";
import { resetRights, WRAP_RIGHT } from "./lib/reset-rights.ts";
import { defineRunbook } from "./lib/runbook.ts";
import { openSession } from "./lib/session.ts";

export default defineRunbook({
  name: "emergency-reset",
  summary: "set a new password for a tenant's administrator at once and prove the old one dead",
  example: 'npx runbook emergency-reset --tenant acme --incident INC-2024-001 --reason "Laptop stolen"',
  flags: z.object({
    tenant: tenantFlag,
    incident: incidentFlag,
    reason: sentenceFlag.describe("why, in one line; it is audited and sent to the security team"),
    wrap: z
      .boolean()
      .default(false)
      .describe("hand out a token of Vault's that opens the new credential once, within 15 minutes"),
    again: z.boolean().default(false).describe("rotate once more although this incident had its rotation"),
    takeOver: takeOverFlag,
    breakGlass: breakGlassFlag,
  }),
  run: async (run) => {
    const { tenant, incident, reason, wrap, again, takeOver } = run.flags;
    loadMailLibraries();
    const rights = { ...resetRights(tenant), ...(wrap ? WRAP_RIGHT : {}) };
    const { settings, vault } = await openSession(run, "platform-admin", rights);
    const outbox = new Outbox(settings, run.env);
    const tools = { ...run, settings, vault, outbox };
    const done = await resetTenant(tools, {
      tenant,
      incident,
      kind: "reset",
      reason,
      details: {
        admin_email: await vault.userMail(),
        ...(run.flags.breakGlass ? { break_glass: true } : {}),
      },
      again,
      takeOver: takeOver ? "now" : "watch",
      confirm: (account, plan) => run.confirm(question(account, plan, incident)),
    });
    // Sent meanwhile: whoever needs the credential doesn't wait for a relay, nor a relay for a key to be pressed.
    let sending: ReturnType<Outbox["deliver"]> | undefined;
    const shown = await run.change("hand out the new credential once", async () => {
      sending = outbox.deliver();
      sending.catch(() => {});
      if (done.rotating !== undefined)
        return display(run, vault, done.account, done.rotating, incident, wrap);
    });
    const sent = await run.change("send the notices", () => sending ?? outbox.deliver());
    const outstanding = [...done.outstanding, ...waitingNotices(sent, incident)];
    const record = done.rotating?.record;
    const result = {
      tenant,
      incident_id: incident,
      username: adminAddress(done.account.server.domain),
      webmail_url: done.account.admin.data.webmail_url,
      version: done.version,
      rotated: done.plan !== "done",
      old_password: record?.old_proof ?? null,
      tokens_deleted: record?.findings?.tokens_deleted ?? [],
      look_at: record?.findings?.reported ?? [],
      ...shown,
      ...(outbox.warning === undefined ? {} : { warning: outbox.warning }),
    };
    if (outstanding.length === 0) return result;
    throw new RunbookError(`the new password is in use, but: ${outstanding.join("; ")}`, {
      exit: record?.old_proof === "accepted" ? "failed" : "incomplete",
      next: "mend that, then run the same command again: it does only what is outstanding",
      result: { ...result, outstanding },
    });
  },
});

function question({ tenant, username, server }: Account, plan: Plan, incident: string): string {
  if (plan === "done") {
    return `Incident ${incident} of ${tenant} is done: only what is outstanding is finished, nothing is rotated. Go on?`;
  }
  if (plan === "finish") return `Finish the rotation of ${tenant} that incident ${incident} began?`;
  return `Set a new password for ${username} on ${server.vps_ip} and end its open connections?`;
}
