// The audit log's own runbook: where it is, what is in it, whether it is whole, and completing what waits.
import { existsSync, writeFileSync } from "node:fs";
import { z } from "zod";
import { appendWaiting, copyBacklog, openAudit } from "./lib/audit.ts";
import { type AuditEvent, canonicalJson } from "./lib/audit-chain.ts";
import { mergeEvents, type ReadChain, readChains } from "./lib/audit-reader.ts";
import { messageOf, RunbookError } from "./lib/errors.ts";
import { table } from "./lib/flags.ts";
import type { Result } from "./lib/report.ts";
import { defineRunbook, type Run } from "./lib/runbook.ts";

const time = z.string().refine((text) => /^\d{4}-\d\d-\d\d/.test(text) && !Number.isNaN(Date.parse(text)), {
  error: "takes a day such as 2026-01-31 or a time such as 2026-01-31T14:00:00Z",
});

const flags = z.object({
  action: z
    .enum(["path", "list", "verify", "export", "flush"])
    .describe(
      "path: where the log is; list: its events; verify: find tampered ones; export: write them to --out; flush: store what waits",
    ),
  tenant: z.string().optional().describe("list, export: events of this tenant only"),
  incident: z.string().optional().describe("list, export: events of this incident only"),
  event: z.string().optional().describe("list, export: events of this name only"),
  since: time.optional().describe("list, export: from this day or time on (UTC)"),
  until: time.optional().describe("list, export: up to this day (included) or time (UTC)"),
  out: z.string().optional().describe("export: the new file, one event a line"),
});
type Flags = z.infer<typeof flags>;
type AuditRun = Run<Flags>;

export default defineRunbook({
  name: "audit",
  summary: "show, check and complete the audit log",
  example: "npx runbook audit list --tenant acme --since 2026-01-31",
  positional: "action",
  flags,
  run: (run) => ({ path, list, verify, export: exportTo, flush })[run.flags.action](run),
  render,
});

async function path(run: AuditRun): Promise<Result> {
  const { audit } = await run.settings();
  return { path: audit.log, bucket: audit.bucket ?? null };
}

async function list(run: AuditRun): Promise<Result> {
  return { events: await selected(run) };
}

async function verify(run: AuditRun): Promise<Result> {
  const { store, spool } = await open(run);
  const chains = await read(run);
  const waiting = spool.waiting().length;
  const result = { chains: chains.map(reportOf), waiting };
  const bad = chains.filter(({ problem }) => problem !== undefined);
  if (bad.length === 0) return result;
  throw new RunbookError(`the audit log is not whole: ${bad.map(problemText).join("; ")}`, {
    exit: "failed",
    next: `keep it as evidence: mkdir evidence && mv ${store.path} ${store.path}.head evidence/   # a new chain begins`,
    result,
  });
}

async function exportTo(run: AuditRun): Promise<Result> {
  const { out } = run.flags;
  if (out === undefined) throw new RunbookError("export needs --out FILE", { exit: "usage" });
  if (existsSync(out))
    throw new RunbookError(`${out} exists already`, { exit: "usage", next: "choose a new file" });
  const events = await selected(run);
  const lines = events.map((event) => `${canonicalJson(event)}\n`).join("");
  await run.change(`write ${events.length} events to ${out}`, () =>
    writeFileSync(out, lines, { flag: "wx", mode: 0o600, flush: true }),
  );
  return { file: out, exported: events.length };
}

async function flush(run: AuditRun): Promise<Result> {
  const { store, spool, copies } = await open(run);
  const waiting = spool.waiting();
  const unreadable = waiting.filter(({ event }) => event === undefined).map(({ file }) => file);
  try {
    const appended = await run.change(`append ${waiting.length} waiting events to ${store.path}`, () =>
      appendWaiting(store, spool),
    );
    const copied =
      copies &&
      (await run.change(`copy what is missing to s3://${copies.bucket}`, () => copyBacklog(store, copies)));
    if (unreadable.length > 0) throw new Error(`these files are no events: ${unreadable.join(", ")}`);
    return { appended: appended ?? 0, copied: copied ?? 0 };
  } catch (cause) {
    throw new RunbookError(`audit events still wait: ${messageOf(cause)}`, {
      exit: "incomplete",
      next: "mend the cause, then: npx runbook audit flush (npx runbook audit verify shows a damaged log)",
      cause,
    });
  }
}

async function selected(run: AuditRun): Promise<AuditEvent[]> {
  const chains = await read(run);
  for (const chain of chains) {
    if (chain.problem !== undefined)
      await run.note(`not whole, shown up to the first bad event: ${problemText(chain)}`);
  }
  const { tenant, incident, event, since, until } = run.flags;
  const from = since === undefined ? Number.NEGATIVE_INFINITY : Date.parse(since);
  const to =
    until === undefined ? Number.POSITIVE_INFINITY : Date.parse(until) + (until.length === 10 ? DAY - 1 : 0);
  return mergeEvents(chains).filter((found) => {
    const at = Date.parse(found.timestamp);
    const asked =
      (tenant ?? found.tenant_id) === found.tenant_id &&
      (event ?? found.event) === found.event &&
      (incident === undefined || found.details.incident_id === incident);
    return asked && at >= from && at <= to;
  });
}

const DAY = 86_400_000;

async function open(run: AuditRun) {
  const { audit } = await run.settings();
  return openAudit(audit, run.env);
}

async function read(run: AuditRun): Promise<ReadChain[]> {
  const { store, copies } = await open(run);
  try {
    return await run.check("read the audit log", () => readChains(store, copies));
  } catch (cause) {
    if (copies === undefined) throw cause;
    throw new RunbookError(`the copies in s3://${copies.bucket} can't be read: ${messageOf(cause)}`, {
      exit: "failed",
      next: "check AWS_* and the bucket's name in recovery.yaml",
      cause,
    });
  }
}

function reportOf({ chain, where, events, problem, uncopied, open }: ReadChain): Result {
  return {
    chain: chain ?? null,
    where,
    events: events.length,
    whole: problem === undefined,
    problem: problem ?? null,
    uncopied,
    open,
  };
}

const problemText = ({ where, problem }: ReadChain): string =>
  `${where}: event ${problem?.seq} was ${problem?.kind} (${problem?.why})`;

function render(result: Result): string {
  if (typeof result.path === "string") return result.path;
  if (Array.isArray(result.events)) return (result.events as AuditEvent[]).map(eventText).join("\n");
  if (Array.isArray(result.chains))
    return [...(result.chains as ReturnType<typeof reportOf>[]).map(chainText), waitingText(result)].join(
      "\n",
    );
  return table(Object.entries(result).map(([key, value]): [string, string] => [key, String(value)])).join(
    "\n",
  );
}

const eventText = ({ timestamp, event, tenant_id, user_id, details }: AuditEvent): string =>
  [timestamp, event, tenant_id ?? "-", user_id, canonicalJson(details)].join("  ");

function chainText({ chain, where, events, whole, uncopied, open }: Result): string {
  const missing = uncopied as ReadChain["uncopied"];
  const late =
    missing.length === 0
      ? ""
      : `\n  not copied: event ${missing.join(", ")}: under way right now, or lost with the machine that was copying`;
  const runs = (open as ReadChain["open"]).map(
    ({ run_id, since }) => `\n  open: run ${run_id} since ${since} has not finished`,
  );
  return `${whole === true ? "whole" : "BAD  "}  ${where}  chain ${chain}, ${events} events${late}${runs.join("")}`;
}

const waitingText = ({ waiting }: Result): string =>
  waiting === 0
    ? "nothing waits to be stored"
    : `${waiting} events wait to be stored: npx runbook audit flush`;
