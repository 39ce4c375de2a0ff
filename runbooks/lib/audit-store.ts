// The audit log's file. Beside AUDIT.jsonl lie: `.lock`, `.head` (the last event that was stored, so that a cut
// log shows), `.copied` (up to where the bucket has it), `.spool/` (events that couldn't be appended) and
// `.torn-*` (what a crash left of a line).
import { randomUUID } from "node:crypto";
import * as fs from "node:fs";
import { hostname, tmpdir, userInfo } from "node:os";
import { dirname, join } from "node:path";
import {
  type AuditEvent,
  canonicalJson,
  eventId,
  link,
  parseLine,
  parseUnlinked,
  sha256,
  splitLines,
  type Tip,
  type Unlinked,
} from "./audit-chain.ts";
import { withFileLock } from "./file-lock.ts";

export class AuditStore {
  readonly path: string;
  private readonly lock: string;

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
    fs.mkdirSync(dirname(this.path), { recursive: true, mode: 0o700 });
    return withFileLock(this.lock, () => {
      const torn = this.settleTornLine();
      const stored = this.events();
      const tip = this.checkedTip(stored);
      const due = [...(torn === undefined ? [] : [tornEvent(event, torn)]), event];
      const fresh = due.filter(({ event_id }) => !stored.some((other) => other.event_id === event_id));
      const linked = linkAll(fresh, tip);
      if (linked.length > 0) this.write(linked);
      return linked;
    });
  }

  /** Every event of the log, in its order. @throws Error at the first line that isn't an event. */
  events(): AuditEvent[] {
    return splitLines(this.bytes()).lines.map((line, index) => {
      const event = parseLine(line);
      if (event === undefined)
        throw new Error(`${this.path}, line ${index + 1}: not the event that was stored`);
      return event;
    });
  }

  /** The log as it is; empty when there is none. */
  bytes(): Buffer {
    return readIfThere(this.path) ?? Buffer.alloc(0);
  }

  /** The last event that was stored, by the note beside the log. */
  head(): Tip | undefined {
    return readJson(`${this.path}.head`) as Tip | undefined;
  }

  /** Up to which event the bucket has acknowledged its copy; 0 for none. */
  copiedUpTo(bucket: string, chain: string): number {
    const note = readJson(`${this.path}.copied`) as
      | { bucket: string; chain: string; seq: number }
      | undefined;
    return note?.bucket === bucket && note.chain === chain ? note.seq : 0;
  }

  /** Only ever forward: of two runs that copy at once, the later event counts. */
  async noteCopied(bucket: string, chain: string, seq: number): Promise<void> {
    await withFileLock(this.lock, () => {
      if (seq > this.copiedUpTo(bucket, chain))
        replaceFile(`${this.path}.copied`, canonicalJson({ bucket, chain, seq }));
    });
  }

  /**
   * Keeps an event that can't be appended: beside the log, or else in a folder of this user's own in the
   * system's temporary folder. Returns the file. @throws Error when neither can be written.
   */
  spool(event: Unlinked, order: number): string {
    const name = `${event.timestamp.replaceAll(":", "")}-${String(order).padStart(3, "0")}-${event.event_id}.json`;
    const failures: unknown[] = [];
    for (const folder of this.spoolFolders()) {
      try {
        fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
        assertOwnFolder(folder);
        writeNew(join(folder, name), canonicalJson(event));
        return join(folder, name);
      } catch (error) {
        failures.push(error);
      }
    }
    throw new AggregateError(failures, failures.map(String).join("; "));
  }

  /** What is waiting in the spool, the oldest first. */
  spooled(): { file: string; event: Unlinked | undefined }[] {
    const files = this.spoolFolders().flatMap((folder) =>
      fs.existsSync(folder) ? fs.readdirSync(folder).map((name) => ({ folder, name })) : [],
    );
    files.sort((a, b) => (a.name < b.name ? -1 : 1));
    return files.map(({ folder, name }) => {
      assertOwnFolder(folder);
      const file = join(folder, name);
      return { file, event: parseUnlinked(fs.readFileSync(file, "utf8")) };
    });
  }

  /** Appends what is in the spool. Returns how many events went into the log. */
  async unspool(): Promise<number> {
    let appended = 0;
    for (const { file, event } of this.spooled()) {
      if (event === undefined) continue;
      appended += (await this.append(event)).length;
      fs.unlinkSync(file);
    }
    return appended;
  }

  private spoolFolders(): string[] {
    return [`${this.path}.spool`, join(tmpdir(), `penguinmails-audit-spool-${userInfo().uid}`)];
  }

  /** A log that isn't what it was is evidence: appending would bury it, and give its numbers away again. */
  private checkedTip(stored: AuditEvent[]): Tip | undefined {
    const head = this.head();
    const last = stored.at(-1);
    if (head === undefined || stored[head.seq - 1]?.hash === head.hash) return last;
    throw new Error(`${this.path} doesn't hold event ${head.seq} as it was stored: it was cut or replaced`);
  }

  /** A short write (a full disk) is taken back, so that it can't be mistaken for a crash later. */
  private write(events: AuditEvent[]): void {
    const isNew = !fs.existsSync(this.path);
    const fd = fs.openSync(this.path, "a", 0o600);
    try {
      const before = fs.fstatSync(fd).size;
      const data = Buffer.from(events.map((event) => `${canonicalJson(event)}\n`).join(""));
      try {
        if (fs.writeSync(fd, data) !== data.length) throw new Error(`${this.path}: the disk is full`);
        fs.fsyncSync(fd);
      } catch (error) {
        fs.ftruncateSync(fd, before);
        throw error;
      }
    } finally {
      fs.closeSync(fd);
    }
    if (isNew) syncFolder(dirname(this.path));
    const last = events.at(-1);
    if (last !== undefined) {
      replaceFile(`${this.path}.head`, canonicalJson({ chain: last.chain, seq: last.seq, hash: last.hash }));
    }
  }

  /** A complete event that only lost its newline is completed; anything else is kept in a file of its own. */
  private settleTornLine(): { file: string; bytes: number; sha256: string } | undefined {
    const bytes = this.bytes();
    const { rest } = splitLines(bytes);
    if (rest.length === 0) return undefined;
    if (parseLine(rest) !== undefined) {
      fs.appendFileSync(this.path, "\n", { flush: true });
      return undefined;
    }
    const digest = sha256(rest);
    const file = `${this.path}.torn-${digest.slice(0, 16)}`;
    replaceFile(file, rest);
    fs.truncateSync(this.path, bytes.length - rest.length);
    return { file, bytes: rest.length, sha256: digest };
  }
}

function linkAll(events: Unlinked[], tip: Tip | undefined): AuditEvent[] {
  const linked: AuditEvent[] = [];
  for (const event of events) linked.push(link(event, linked.at(-1) ?? tip ?? { chain: randomUUID() }));
  return linked;
}

function tornEvent(cause: Unlinked, torn: { file: string; bytes: number; sha256: string }): Unlinked {
  return {
    event: "audit_line_set_aside",
    event_id: eventId(torn.sha256, hostname(), "audit_line_set_aside"),
    user_id: cause.user_id,
    timestamp: cause.timestamp,
    details: torn,
    run_id: cause.run_id,
  };
}

function readIfThere(file: string): Buffer | undefined {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** A note that a crash left empty is no note: the log itself is what counts. */
function readJson(file: string): unknown {
  try {
    return JSON.parse(readIfThere(file)?.toString() ?? "null") ?? undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function replaceFile(file: string, content: string | Buffer): void {
  const fresh = `${file}.${process.pid}.new`;
  fs.writeFileSync(fresh, content, { mode: 0o600, flush: true });
  fs.renameSync(fresh, file);
}

function writeNew(file: string, content: string): void {
  try {
    fs.writeFileSync(file, content, { mode: 0o600, flag: "wx", flush: true });
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST"))
      fs.rmSync(file, { force: true });
    throw error;
  }
}

/** In a folder that everybody may write to, somebody else may have made ours first. */
function assertOwnFolder(folder: string): void {
  const found = fs.lstatSync(folder);
  if (!found.isDirectory() || found.uid !== userInfo().uid)
    throw new Error(`${folder} belongs to another user`);
}

function syncFolder(folder: string): void {
  const fd = fs.openSync(folder, "r");
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}
