// The audit log's file. Beside AUDIT.jsonl lie: `.lock`, `.head` (the last event that was stored, so that a cut
// log shows), `.copied` (up to where the bucket has it) and `.torn-*` (what a crash left of a line).
import { randomUUID } from "node:crypto";
import { mkdirSync, truncateSync } from "node:fs";
import { hostname } from "node:os";
import { dirname } from "node:path";
import {
  type AuditEvent,
  canonicalJson,
  eventId,
  link,
  parseLine,
  sha256,
  splitLines,
  type Tip,
  type Unlinked,
} from "./audit-chain.ts";
import { appendToFile, readIfThere, replaceFile } from "./durable-file.ts";
import { withFileLock } from "./file-lock.ts";
import { countLines, lastLine, wholeLines } from "./log-lines.ts";

export class AuditStore {
  readonly path: string;
  private readonly lock: string;
  /** Up to where `eventsAfter` has read. */
  private read = { seq: 0, offset: 0 };

  /** Touches nothing before the first append. */
  constructor(path: string) {
    this.path = path;
    this.lock = `${path}.lock`;
  }

  /**
   * Appends one event, on the disk when this resolves. Returns what was appended: nothing when the log has an
   * event of that id, and an event of its own more when a line torn by a crash had to be set aside first.
   * @throws Error when the log can't be written, or isn't the one that was last written.
   */
  async append(event: Unlinked): Promise<AuditEvent[]> {
    mkdirSync(dirname(this.path), { recursive: true, mode: 0o700 });
    return withFileLock(this.lock, () => {
      let log = this.survey([event]);
      const torn = this.settleTornLine(log);
      const due = [...(torn === undefined ? [] : [tornEvent(event, torn)]), event];
      if (log.rest.length > 0) log = this.survey(due);
      const fresh = due.filter((one) => !log.ids.has(one.event_id));
      const linked = linkAll(fresh, this.checkedTip(log));
      if (linked.length > 0) this.write(linked);
      return linked;
    });
  }

  /** The events after `seq`, in their order. @throws Error at the first line that isn't an event. */
  eventsAfter(seq: number): AuditEvent[] {
    // Whoever copies as it goes on asks for what came since: nobody has to count the lines before it again.
    const known = this.read.seq === seq ? this.read : { seq: 0, offset: 0 };
    const events: AuditEvent[] = [];
    let [number, offset] = [known.seq, known.offset];
    for (const piece of wholeLines(this.path, offset)) {
      for (const line of splitLines(piece).lines) {
        number += 1;
        if (number > seq) events.push(this.parsed(line, number));
      }
      offset += piece.length;
    }
    this.read = { seq: number, offset };
    return events;
  }

  /** The chain's id; undefined before the first event. */
  chain(): string | undefined {
    for (const piece of wholeLines(this.path)) {
      const [first] = splitLines(piece).lines;
      if (first !== undefined) return this.parsed(first, 1).chain;
    }
    return undefined;
  }

  /** The log as it is; empty when there is none. */
  bytes(): Buffer {
    return readIfThere(this.path) ?? Buffer.alloc(0);
  }

  /** The last event that was stored, by the note beside the log. */
  head(): Tip | undefined {
    return readNote(`${this.path}.head`) as Tip | undefined;
  }

  /** The last event whose copy the bucket has acknowledged, by the note beside the log. */
  copied(bucket: string): Pick<Tip, "chain" | "seq"> | undefined {
    const note = readNote(`${this.path}.copied`) as
      | { bucket: string; chain: string; seq: number }
      | undefined;
    return note?.bucket === bucket ? note : undefined;
  }

  /** Up to which event the bucket has acknowledged its copy; 0 for none. */
  copiedUpTo(bucket: string, chain: string): number {
    const last = this.copied(bucket);
    return last?.chain === chain ? last.seq : 0;
  }

  /** Only ever forward: of two runs that copy at once, the later event counts. */
  async noteCopied(bucket: string, chain: string, seq: number): Promise<void> {
    await withFileLock(this.lock, () => {
      if (seq <= this.copiedUpTo(bucket, chain)) return;
      replaceFile(`${this.path}.copied`, canonicalJson({ bucket, chain, seq }));
    });
  }

  /** Searched through and not parsed: an append must stay quick when the log holds years. */
  private survey(events: readonly Unlinked[]): Survey {
    const head = this.head();
    const log: Survey = {
      head,
      lines: 0,
      bytes: 0,
      last: undefined,
      rest: Buffer.alloc(0),
      ids: new Set(),
      hasHead: false,
    };
    const pieces = wholeLines(this.path);
    for (let next = pieces.next(); ; next = pieces.next()) {
      log.bytes += next.value.length;
      if (next.done === true) return { ...log, rest: next.value };
      const piece = next.value;
      log.lines += countLines(piece);
      log.last = lastLine(piece);
      for (const one of events) if (piece.includes(idAsStored(one))) log.ids.add(one.event_id);
      log.hasHead ||= head !== undefined && piece.includes(`"hash":${JSON.stringify(head.hash)}`);
    }
  }

  /** A log that isn't what it was is evidence: appending would bury it, and give its numbers away again. */
  private checkedTip({ head, lines, last, hasHead }: Survey): Tip | undefined {
    const tip = last === undefined ? undefined : this.parsed(last, lines);
    if (head === undefined || hasHead) return tip;
    throw new Error(`${this.path} doesn't hold event ${head.seq} as it was stored: it was cut or replaced`);
  }

  private parsed(line: Buffer, number: number): AuditEvent {
    const event = parseLine(line);
    if (event?.seq === number) return event;
    throw new Error(`${this.path}, line ${number}, isn't the event that was stored there`);
  }

  private write(events: AuditEvent[]): void {
    appendToFile(this.path, Buffer.from(events.map((event) => `${canonicalJson(event)}\n`).join("")));
    const last = events.at(-1);
    if (last === undefined) return;
    // The events are stored: a note that fails (it needs room of its own) leaves an older one, which is true too.
    try {
      replaceFile(`${this.path}.head`, canonicalJson({ chain: last.chain, seq: last.seq, hash: last.hash }));
    } catch {}
  }

  /** A complete event that only lost its newline is completed; anything else is kept in a file of its own. */
  private settleTornLine({ bytes, rest }: Survey): Torn | undefined {
    if (rest.length === 0) return undefined;
    if (parseLine(rest) !== undefined) {
      appendToFile(this.path, Buffer.from("\n"));
      return undefined;
    }
    const digest = sha256(rest);
    const file = `${this.path}.torn-${digest.slice(0, 16)}`;
    replaceFile(file, rest);
    truncateSync(this.path, bytes - rest.length);
    return { file, bytes: rest.length, sha256: digest };
  }
}

/** What an append has to know of the log. */
interface Survey {
  /** The last event that was stored, by the note beside the log, and whether the log has it. */
  head: Tip | undefined;
  hasHead: boolean;
  lines: number;
  last: Buffer | undefined;
  /** What a crash left of a line. */
  rest: Buffer;
  bytes: number;
  /** Those of the events looked for that it has. */
  ids: Set<string>;
}

/** A part of the event's line in the log: canonical JSON has these two keys side by side. */
const idAsStored = ({ event, event_id }: Unlinked): string => canonicalJson({ event, event_id }).slice(1, -1);

type Torn = { file: string; bytes: number; sha256: string };

function linkAll(events: Unlinked[], tip: Tip | undefined): AuditEvent[] {
  const linked: AuditEvent[] = [];
  for (const event of events) linked.push(link(event, linked.at(-1) ?? tip ?? { chain: randomUUID() }));
  return linked;
}

/** Belongs to the run that came upon the torn line; which run had torn it can't be known. */
function tornEvent(next: Unlinked, torn: Torn): Unlinked {
  const { user_id, timestamp, run_id } = next;
  const event = "audit_line_set_aside";
  return {
    event,
    event_id: eventId(torn.sha256, hostname(), event),
    user_id,
    timestamp,
    details: torn,
    run_id,
  };
}

/** A note that a crash left empty is no note: the log itself is what counts. */
function readNote(file: string): unknown {
  try {
    return JSON.parse(readIfThere(file)?.toString() ?? "null") ?? undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
