// Reading the audit log as a whole: this machine's file and every chain in the bucket, each held against the other.
import {
  type AuditEvent,
  type ChainReport,
  canonicalJson,
  openRuns,
  type Problem,
  parseLine,
  verifyChain,
} from "./audit-chain.ts";
import { type AuditCopies, type CopiedChain, PUT_AT_ONCE } from "./audit-copies.ts";
import type { AuditStore } from "./audit-store.ts";

export interface ReadChain extends ChainReport {
  /** The file's path or the bucket's URL. */
  where: string;
  /** Places of events whose copies aren't there though later ones are: under way, or lost with their machine. */
  uncopied: number[];
}

/**
 * Every chain, verified: this machine's first, if it has one. While runs go on storing events, each witness is read
 * before what has to bear it out, so that an event stored in between isn't missing from either.
 * @throws Error when the file or the bucket can't be read.
 */
export async function readChains(store: AuditStore, copies: AuditCopies | undefined): Promise<ReadChain[]> {
  const acknowledged = copies && store.copied(copies.bucket);
  const copied = (await copies?.read()) ?? [];
  const head = store.head();
  const local = verifyChain(store.bytes(), head);
  const counterpart = copied.find(({ chain }) => chain === local.chain);
  local.problem = earlier(local.problem, counterpart && problemAgainstCopies(local.events, counterpart));
  const known = local.chain !== undefined || local.problem !== undefined;
  return [
    ...(known ? [{ ...local, where: store.path, uncopied: [] }] : []),
    ...copied.map((chain) => {
      const seq = acknowledged?.chain === chain.chain ? acknowledged.seq : 0;
      return { ...verifyCopies(chain, seq), where: `s3://${copies?.bucket}/audit/${chain.chain}/` };
    }),
  ];
}

/** The events of all chains in the order of time, each event_id once: a resume elsewhere stores one again. */
export function mergeEvents(chains: ReadChain[]): AuditEvent[] {
  const byId = new Map<string, AuditEvent>();
  for (const event of chains.flatMap(({ events }) => events)) {
    if (!byId.has(event.event_id)) byId.set(event.event_id, event);
  }
  return [...byId.values()].sort(
    (a, b) => Date.parse(a.timestamp) - Date.parse(b.timestamp) || a.seq - b.seq,
  );
}

/** The bucket is the stronger witness: what was copied there can't have been changed since. */
function problemAgainstCopies(events: AuditEvent[], { events: copies }: CopiedChain): Problem | undefined {
  for (const [seq, copy] of [...copies].sort(([a], [b]) => a - b)) {
    const event = events[seq - 1];
    if (event === undefined) return { kind: "cut", seq, why: "the bucket has this event" };
    if (!copy.equals(Buffer.from(canonicalJson(event)))) {
      return { kind: "changed", seq, why: "the bucket has another event at this place" };
    }
  }
  return undefined;
}

/** @param acknowledged up to which event the bucket once had them all, as far as this machine knows. */
function verifyCopies(copied: CopiedChain, acknowledged: number): Omit<ReadChain, "where"> {
  const { whole, ahead, uncopied } = inOrder(copied.events);
  const report = verifyChain(Buffer.concat(whole.flatMap((body) => [body, Buffer.from("\n")])));
  const stragglers = verifyAhead(copied.chain, ahead);
  const [first] = copied.suspicious;
  const tampered: Problem | undefined = first && { kind: first.deleted ? "removed" : "changed", ...first };
  const missing: Problem | undefined =
    report.events.length < acknowledged
      ? { kind: "cut", seq: report.events.length + 1, why: `${acknowledged} events had been copied` }
      : undefined;
  const events = [...report.events, ...stragglers.events];
  return {
    ...{ chain: copied.chain, events, uncopied, open: openRuns(events) },
    problem: earlier(earlier(report.problem, stragglers.problem), earlier(tampered, missing)),
  };
}

/**
 * Some of the last copies may be there before earlier ones: they are put several at a time, and a machine can be lost
 * meanwhile. That hides no tampering: whoever could take a copy away and leave no trace, past the bucket's lock, could as
 * well take all that follow it. Any gap further back is told of as what it is.
 */
function inOrder(copies: CopiedChain["events"]): {
  whole: Buffer[];
  ahead: [seq: number, body: Buffer][];
  uncopied: number[];
} {
  const sorted = [...copies].sort(([a], [b]) => a - b);
  const gap = sorted.findIndex(([seq], index) => seq !== index + 1);
  const last = sorted.at(-1)?.[0] ?? 0;
  if (gap === -1 || last > gap + PUT_AT_ONCE)
    return { whole: sorted.map(([, body]) => body), ahead: [], uncopied: [] };
  const places = Array.from({ length: last }, (_, index) => index + 1);
  return {
    whole: sorted.slice(0, gap).map(([, body]) => body),
    ahead: sorted.slice(gap),
    uncopied: places.filter((seq) => !copies.has(seq)),
  };
}

/** Each by itself, and against the one before where that is there. */
function verifyAhead(chain: string, copies: [seq: number, body: Buffer][]) {
  const events: AuditEvent[] = [];
  for (const [seq, body] of copies) {
    const event = parseLine(body);
    const before = events.at(-1);
    const why =
      event === undefined || event.chain !== chain || event.seq !== seq
        ? "the object isn't the event that was stored"
        : before?.seq === seq - 1 && event.prev !== before.hash
          ? `the event was linked to another event ${seq - 1} than the one that is there`
          : undefined;
    if (event === undefined || why !== undefined)
      return { events, problem: { kind: "changed", seq, why: why ?? "" } as const };
    events.push(event);
  }
  return { events, problem: undefined };
}

function earlier(a: Problem | undefined, b: Problem | undefined): Problem | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return b.seq < a.seq ? b : a;
}
