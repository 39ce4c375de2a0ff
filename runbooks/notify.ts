// Notices that their receivers don't have yet: seeing them, and delivering them from any machine. Needs no Vault.
import { z } from "zod";
import { RunbookError } from "./lib/errors.ts";
import type { Notice } from "./lib/notice.ts";
import { Outbox } from "./lib/outbox.ts";
import type { Waiting } from "./lib/outbox-store.ts";
import { oneLine } from "./lib/printable.ts";
import type { Result } from "./lib/report.ts";
import { defineRunbook, type Run } from "./lib/runbook.ts";

const flags = z.object({
  action: z.enum(["list", "flush"]).describe("list: what waits, and why; flush: deliver it"),
});
type NotifyRun = Run<z.infer<typeof flags>>;

export default defineRunbook({
  name: "notify",
  summary: "show and deliver the notices that their receivers don't have yet",
  example: "npx runbook notify flush",
  positional: "action",
  flags,
  run: (run) => ({ list, flush })[run.flags.action](run),
  render,
});

async function list(run: NotifyRun): Promise<Result> {
  const outbox = new Outbox(await run.settings(), run.env);
  return { waiting: await look(run, outbox) };
}

async function flush(run: NotifyRun): Promise<Result> {
  const outbox = new Outbox(await run.settings(), run.env);
  const before = await look(run, outbox, { evenInPart: true });
  const ended = await run.change(`deliver ${before.length} waiting notices`, () => outbox.deliver());
  if (ended === undefined) return { delivered: [], waiting: before };
  const result = { ...ended };
  if (ended.waiting.length === 0) return result;
  throw new RunbookError(`${ended.waiting.length} notices still wait: ${inShort(ended.waiting)}`, {
    exit: "incomplete",
    next: "mend the cause, then: npx runbook notify flush",
    result,
  });
}

/** A row of the list. `missing` is empty where the settings don't say whom to tell, or the object is no notice. */
interface Row extends Waiting {
  tenant_id: string | null;
  since: string | null;
  missing: string[];
}

/** @throws RunbookError (exit 1) with what could be read when a place can't be, unless that is good enough. */
async function look(run: NotifyRun, outbox: Outbox, how = { evenInPart: false }): Promise<Row[]> {
  const { notices, unreadable, unreachable } = await run.check("look into the outbox", () =>
    outbox.inventory(),
  );
  const strays = unreadable.map((one) => ({ ...one, tenant_id: null, since: null, missing: [] }));
  const rows: Row[] = [...notices.map((notice) => rowOf(outbox, notice)), ...strays];
  if (unreachable.length === 0 || how.evenInPart) return rows;
  throw new RunbookError(`the outbox can't be read: ${inShort(unreachable)}`, {
    exit: "failed",
    next: "check AWS_* and the audit section of recovery.yaml, then: npx runbook notify list",
    result: { waiting: rows },
  });
}

function rowOf(outbox: Outbox, notice: Notice): Row {
  const { event_id, name, tenant_id, created, failed } = notice;
  const missing = outbox.missing(notice);
  const whys = missing.flatMap((channel) =>
    failed[channel] === undefined ? [] : [`${channel}: ${failed[channel]}`],
  );
  const why = outbox.warning ?? (whys.join("; ") || "not tried since it was stored");
  return { event_id, name, tenant_id: tenant_id ?? null, since: created, missing, why };
}

/** Hundreds of notices wait for one dead relay: three of them say it. */
function inShort(waiting: Waiting[]): string {
  const shown = waiting.slice(0, 3).map(({ name, event_id, why }) => `${name} ${event_id}: ${oneLine(why)}`);
  const more = waiting.length - shown.length;
  return [...shown, ...(more > 0 ? [`and ${more} more`] : [])].join("; ");
}

function render(result: Result): string {
  const waiting = (result.waiting as (Waiting & Partial<Row>)[]).map(rowText);
  const delivered = result.delivered as string[] | undefined;
  if (delivered !== undefined) return [`${delivered.length} delivered`, ...waiting].join("\n");
  return waiting.length === 0 ? "nothing waits" : waiting.join("\n");
}

function rowText({ event_id, name, tenant_id, since, missing, why }: Waiting & Partial<Row>): string {
  const facts = [since, name, tenant_id, event_id].flatMap((fact) => (fact ? [fact] : []));
  const lacking = missing !== undefined && missing.length > 0 ? [`\n  missing: ${missing.join(", ")}`] : [];
  return `${facts.join("  ")}${lacking.join("")}\n  ${oneLine(why)}`;
}
