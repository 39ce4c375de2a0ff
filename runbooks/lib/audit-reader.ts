// Reading the audit log as a whole: this machine's file and every chain in the bucket, each held against the other.
import {
  type AuditEvent,
  type ChainReport,
  canonicalJson,
  type Problem,
  verifyChain,
} from "./audit-chain.ts";
import type { AuditCopies, CopiedChain } from "./audit-copies.ts";
import type { AuditStore } from "./audit-store.ts";

export interface ReadChain extends ChainReport {
  /** The file's path or the bucket's URL. */
  where: string;
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
    ...(known ? [{ ...local, where: store.path }] : []),
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
function verifyCopies(copied: CopiedChain, acknowledged: number): ChainReport {
  const inOrder = [...copied.events].sort(([a], [b]) => a - b);
  const lines = inOrder.flatMap(([, body]) => [body, Buffer.from("\n")]);
  const report = verifyChain(Buffer.concat(lines));
  const [first] = copied.suspicious;
  const tampered: Problem | undefined = first && { kind: first.deleted ? "removed" : "changed", ...first };
  const missing: Problem | undefined =
    report.events.length < acknowledged
      ? { kind: "cut", seq: report.events.length + 1, why: `${acknowledged} events had been copied` }
      : undefined;
  return { ...report, chain: copied.chain, problem: earlier(report.problem, earlier(tampered, missing)) };
}

function earlier(a: Problem | undefined, b: Problem | undefined): Problem | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return b.seq < a.seq ? b : a;
}
