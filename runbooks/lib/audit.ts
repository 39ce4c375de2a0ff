// The audit log as a runbook sees it. Storing an event never stops a run that is repairing something: what can't
// be stored is spooled, the run goes on, and its end says so.
import { eventId, RUN_FINISHED, type Severity, Unlinked } from "./audit-chain.ts";
import { AuditCopies, PUT_AT_ONCE } from "./audit-copies.ts";
import { AuditSpool } from "./audit-spool.ts";
import { AuditStore } from "./audit-store.ts";
import { messageOf, RunbookError } from "./errors.ts";
import { redactDeep } from "./redact.ts";
import type { Settings } from "./settings.ts";

export interface AuditLogOptions {
  settings: () => Promise<Settings> | Settings;
  runId: string;
  /** Who acts: Vault's entity or token name. */
  userId: () => Promise<string>;
  /** Stores nothing. */
  dryRun?: boolean;
  env?: NodeJS.ProcessEnv;
}

export interface NewEvent {
  event: string;
  tenantId?: string | undefined;
  severity?: Severity | undefined;
  /** Plain JSON; never a secret. */
  details: Record<string, unknown>;
  /** The run that began the work, when this one resumes it: the event then keeps its id. */
  originalRun?: string | undefined;
}

export class AuditLog {
  private readonly options: AuditLogOptions;
  private opened: OpenedAudit | undefined;
  private readonly failures: string[] = [];
  private appended = 0;
  private spooled = 0;
  private copying: Promise<void> = Promise.resolve();
  /** A copy waits to begin, and takes along whatever is stored by then. */
  private copyWaits = false;
  private copyFailure: string | undefined;

  /** Creates nothing before the first event. */
  constructor(options: AuditLogOptions) {
    this.options = options;
  }

  /**
   * Stores an event, on the disk when this resolves; its copy follows in the background. The event_id comes
   * from run, tenant and name, and one that the log has isn't stored again. Doesn't fail: see `finish`.
   */
  async append(event: NewEvent): Promise<{ event_id: string }> {
    // Before it is in the log: one event that no reader takes would end the chain for all later ones.
    const unlinked = Unlinked.parse({
      event: event.event,
      event_id: eventId(event.originalRun ?? this.options.runId, event.tenantId, event.event),
      ...(event.tenantId === undefined ? {} : { tenant_id: event.tenantId }),
      user_id: redactDeep(await this.user()),
      timestamp: new Date().toISOString(),
      ...(event.severity === undefined ? {} : { severity: event.severity }),
      details: redactDeep(event.details),
      run_id: this.options.runId,
    });
    await this.store(unlinked);
    return { event_id: unlinked.event_id };
  }

  /** True once every event stored so far is on the disk and, where a bucket is set, copied to it. */
  async acknowledged(): Promise<boolean> {
    await this.copying;
    return this.spooled === 0 && this.copyFailure === undefined;
  }

  /**
   * Ends the run's events with `run_finished`, if there were any, and waits for the copies.
   * @throws RunbookError (exit 5) when an event is in the spool or not copied.
   */
  async finish(details: Record<string, unknown> = {}): Promise<void> {
    if (this.appended + this.spooled === 0 && this.failures.length === 0) return;
    await this.append({ event: RUN_FINISHED, details: { ...details, events: this.appended + this.spooled } });
    await this.copying;
    if (this.copyFailure !== undefined) {
      this.failures.push(
        `audit events are not copied to s3://${this.opened?.copies?.bucket}: ${this.copyFailure}`,
      );
    }
    if (this.failures.length > 0) {
      const next = "mend the cause, then: npx runbook audit flush";
      throw new RunbookError([...new Set(this.failures)].join("; "), { exit: "incomplete", next });
    }
  }

  private async store(event: Unlinked): Promise<void> {
    if (this.options.dryRun === true) return;
    const opened = await this.open();
    // Once one was spooled the rest follows it: the order within a run is part of what is proven later.
    if (this.spooled === 0) {
      try {
        this.appended += (await opened.store.append(event)).length;
        this.copyInBackground(opened);
        return;
      } catch (error) {
        this.failures.push(`the audit log can't be written: ${messageOf(error)}`);
      }
    }
    try {
      const file = opened.spool.keep(event, this.spooled);
      this.failures.push(`event ${event.event} waits in ${file}`);
    } catch (error) {
      this.failures.push(
        `nor the spool (${messageOf(error)}): keep this event by hand: ${JSON.stringify(event)}`,
      );
    }
    this.spooled += 1;
  }

  private copyInBackground({ store, copies }: OpenedAudit): void {
    if (copies === undefined || this.copyWaits) return;
    this.copyWaits = true;
    this.copying = this.copying.then(async () => {
      this.copyWaits = false;
      try {
        await copyBacklog(store, copies);
        this.copyFailure = undefined;
      } catch (error) {
        this.copyFailure = messageOf(error);
      }
    });
  }

  private async open(): Promise<OpenedAudit> {
    if (this.opened === undefined) {
      const { audit } = await this.options.settings();
      this.opened = openAudit(audit, this.options.env);
    }
    return this.opened;
  }

  /** An event without its actor is worth more than none. */
  private async user(): Promise<string> {
    try {
      return await this.options.userId();
    } catch (error) {
      return `unknown (${messageOf(error)})`;
    }
  }
}

export interface OpenedAudit {
  store: AuditStore;
  spool: AuditSpool;
  /** Undefined where no bucket is set. */
  copies: AuditCopies | undefined;
}

/** Creates nothing yet. */
export function openAudit(audit: Settings["audit"], env: NodeJS.ProcessEnv = process.env): OpenedAudit {
  const copies = audit.bucket === undefined ? undefined : new AuditCopies(audit.bucket, env);
  return { store: new AuditStore(audit.log), spool: new AuditSpool(audit.log), copies };
}

/** Moves what waits in the spool into the log; files that are no event stay. Returns how many events. */
export async function appendWaiting(store: AuditStore, spool: AuditSpool): Promise<number> {
  let appended = 0;
  for (const waiting of spool.waiting()) {
    if (waiting.event === undefined) continue;
    appended += (await store.append(waiting.event)).length;
    spool.remove(waiting);
  }
  return appended;
}

/** Copies what the bucket hasn't acknowledged yet, in order; also what other runs left. Returns how many. */
export async function copyBacklog(store: AuditStore, copies: AuditCopies): Promise<number> {
  const chain = store.chain();
  if (chain === undefined) return 0;
  const due = store.eventsAfter(store.copiedUpTo(copies.bucket, chain));
  for (let start = 0; start < due.length; start += PUT_AT_ONCE) {
    const batch = due.slice(start, start + PUT_AT_ONCE);
    await Promise.all(batch.map((event) => copies.put(event)));
    await store.noteCopied(copies.bucket, chain, batch.at(-1)?.seq ?? 0);
  }
  return due.length;
}
