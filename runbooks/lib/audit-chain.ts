// The form of the audit log, without any I/O: what an event is, how one is linked to the event before it, and
// how a reader finds out that somebody changed, removed, reordered, repeated or cut events.
import { createHash } from "node:crypto";
import { z } from "zod";

export const Unlinked = z.strictObject({
  event: z.string().min(1),
  event_id: z.string().min(1),
  tenant_id: z.string().optional(),
  user_id: z.string(),
  /** ISO 8601, UTC. */
  timestamp: z.string(),
  severity: z.enum(["low", "medium", "high", "critical"]).optional(),
  details: z.record(z.string(), z.unknown()),
  run_id: z.string().min(1),
});
/** An event that has no place in a chain yet. */
export type Unlinked = z.infer<typeof Unlinked>;

const AuditEvent = Unlinked.extend({
  chain: z.string().min(1),
  /** 1 for a chain's first event. */
  seq: z.int().min(1),
  /** The hash of the event before; 64 zeros for the first. */
  prev: z.string(),
  /** SHA-256, in hex, of the canonical JSON of all other fields. */
  hash: z.string(),
});
export type AuditEvent = z.infer<typeof AuditEvent>;
export type Severity = NonNullable<Unlinked["severity"]>;

export const RUN_FINISHED = "run_finished";

/** Where a chain ends; undefined for one that has no event yet. */
export type Tip = Pick<AuditEvent, "chain" | "seq" | "hash">;

export interface Problem {
  kind: "changed" | "removed" | "reordered" | "repeated" | "cut";
  /** The place in the chain of the first bad event. */
  seq: number;
  why: string;
}

export interface ChainReport {
  /** Undefined when not even the first event can be read. */
  chain: string | undefined;
  /** The events up to the first bad one. */
  events: AuditEvent[];
  problem: Problem | undefined;
  /** Runs without their last event: still running, or ended by force. */
  open: { run_id: string; since: string; events: number }[];
}

/** Keys sorted, nothing between the tokens (RFC 8785), so that equal values have equal bytes. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item ?? null)).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value ?? null);
  if ("toJSON" in value && typeof value.toJSON === "function") return canonicalJson(value.toJSON());
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, inner]) => `${JSON.stringify(key)}:${canonicalJson(inner)}`).join(",")}}`;
}

/** The id of an event that happens once in a run for a tenant: the same again, wherever the run is resumed. */
export function eventId(run: string, tenant: string | undefined, event: string): string {
  const hex = createHash("sha256")
    .update(JSON.stringify([run, tenant ?? null, event]))
    .digest("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join(
    "-",
  );
}

/** Gives an event its place after `tip`, or at the start of the new chain `chain`. */
export function link(event: Unlinked, tip: Tip | { chain: string }): AuditEvent {
  const place = "seq" in tip ? { seq: tip.seq + 1, prev: tip.hash } : { seq: 1, prev: "0".repeat(64) };
  const unhashed = { ...event, chain: tip.chain, ...place };
  return { ...unhashed, hash: sha256(canonicalJson(unhashed)) };
}

/** The event in one line of a log (without its newline); undefined if anything about the line isn't right. */
export function parseLine(line: Buffer): AuditEvent | undefined {
  const parsed = AuditEvent.safeParse(parseJson(line.toString("utf8")));
  if (!parsed.success) return undefined;
  const { hash, ...unhashed } = parsed.data;
  const whole =
    hash === sha256(canonicalJson(unhashed)) && line.equals(Buffer.from(canonicalJson(parsed.data)));
  return whole ? parsed.data : undefined;
}

/** The event of a spooled file; undefined if it isn't one. */
export function parseUnlinked(text: string): Unlinked | undefined {
  return Unlinked.safeParse(parseJson(text)).data;
}

/** Complete lines, and what follows the last newline. */
export function splitLines(bytes: Buffer): { lines: Buffer[]; rest: Buffer } {
  const lines: Buffer[] = [];
  let start = 0;
  for (let end = bytes.indexOf(10); end !== -1; end = bytes.indexOf(10, start)) {
    lines.push(bytes.subarray(start, end));
    start = end + 1;
  }
  return { lines, rest: bytes.subarray(start) };
}

/**
 * Reads a chain's bytes from its first event to its first bad one.
 * @param tip the last event that is known to have been stored: without it, a chain that was cut between two
 * runs can't be told from one that is whole.
 */
export function verifyChain(bytes: Buffer, tip?: Tip): ChainReport {
  const { lines, rest } = splitLines(bytes);
  const parsed = lines.map(parseLine);
  const events: AuditEvent[] = [];
  let problem: Problem | undefined;
  for (const event of parsed) {
    problem = problemWith(event, events, parsed);
    if (problem !== undefined || event === undefined) break;
    events.push(event);
  }
  if (problem === undefined && rest.length > 0) {
    problem = {
      kind: "cut",
      seq: events.length + 1,
      why: `the last line breaks off after ${rest.length} bytes`,
    };
  }
  problem ??= problemWithTip(events, tip);
  return { chain: events[0]?.chain ?? tip?.chain, events, problem, open: openRuns(events) };
}

function problemWith(
  event: AuditEvent | undefined,
  before: AuditEvent[],
  all: (AuditEvent | undefined)[],
): Problem | undefined {
  const seq = before.length + 1;
  const last = before.at(-1);
  if (event === undefined) return { kind: "changed", seq, why: "the line isn't the event that was stored" };
  if (event.chain !== (last?.chain ?? event.chain)) {
    return { kind: "changed", seq, why: `the event belongs to another chain, ${event.chain}` };
  }
  if (event.seq < seq) return { kind: "repeated", seq, why: `event ${event.seq} stands here again` };
  if (event.seq > seq) {
    const later = all.some((other) => other?.seq === seq);
    return later
      ? { kind: "reordered", seq, why: `event ${event.seq} stands here, event ${seq} further down` }
      : { kind: "removed", seq, why: `event ${event.seq} follows event ${seq - 1}` };
  }
  if (event.prev !== (last?.hash ?? "0".repeat(64))) {
    return {
      kind: "changed",
      seq,
      why: `the event was linked to another event ${seq - 1} than the one that is there`,
    };
  }
  const twin = before.find((other) => other.event_id === event.event_id);
  if (twin !== undefined) return { kind: "repeated", seq, why: `it has the event_id of event ${twin.seq}` };
  return problemWithRun(event, before);
}

function problemWithRun(event: AuditEvent, before: AuditEvent[]): Problem | undefined {
  const sameRun = before.filter((other) => other.run_id === event.run_id);
  if (sameRun.some((other) => other.event === RUN_FINISHED)) {
    return { kind: "repeated", seq: event.seq, why: `run ${event.run_id} had finished before` };
  }
  const claimed = event.event === RUN_FINISHED ? event.details.events : sameRun.length;
  return claimed === sameRun.length
    ? undefined
    : {
        kind: "removed",
        seq: event.seq,
        why: `run ${event.run_id} stored ${claimed} events, ${sameRun.length} are here`,
      };
}

function problemWithTip(events: AuditEvent[], tip: Tip | undefined): Problem | undefined {
  if (tip === undefined) return undefined;
  const there = events[tip.seq - 1];
  if (there === undefined) {
    return {
      kind: "cut",
      seq: events.length + 1,
      why: `${tip.seq} events were stored, ${events.length} are here`,
    };
  }
  return there.hash === tip.hash && there.chain === tip.chain
    ? undefined
    : { kind: "changed", seq: tip.seq, why: "another event was stored at this place" };
}

export function openRuns(events: readonly AuditEvent[]): ChainReport["open"] {
  return [...Map.groupBy(events, (event) => event.run_id)].flatMap(([run_id, own]) =>
    own.some((event) => event.event === RUN_FINISHED)
      ? []
      : [{ run_id, since: own[0]?.timestamp ?? "", events: own.length }],
  );
}

export const sha256 = (data: string | Buffer): string => createHash("sha256").update(data).digest("hex");

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
