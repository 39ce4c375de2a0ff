import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type AuditEvent,
  canonicalJson,
  eventId,
  link,
  RUN_FINISHED,
  verifyChain,
} from "../../../runbooks/lib/audit-chain.ts";

/** A chain of `runs` finished runs of `each` events. */
function chain(runs = 3, each = 2): AuditEvent[] {
  const events: AuditEvent[] = [];
  const add = (run: number, event: string, details: Record<string, unknown>) => {
    const run_id = `run-${run}`;
    const timestamp = new Date(Date.UTC(2026, 0, 1, 0, 0, events.length)).toISOString();
    const body = {
      event,
      event_id: eventId(run_id, undefined, event),
      user_id: "ops",
      timestamp,
      details,
      run_id,
    };
    events.push(link(body, events.at(-1) ?? { chain: "chain-1" }));
  };
  for (let run = 0; run < runs; run += 1) {
    for (let n = 0; n < each; n += 1) add(run, `event_${n}`, { n, text: "größer \n \u2028 <>" });
    add(run, RUN_FINISHED, { events: each });
  }
  return events;
}

const bytesOf = (events: AuditEvent[]) =>
  Buffer.from(events.map((event) => `${canonicalJson(event)}\n`).join(""));
const EVENTS = chain();
const BYTES = bytesOf(EVENTS);
const TIP = EVENTS.at(-1);

describe("canonical JSON", () => {
  it("is JSON of the same value, whatever the order of its keys", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = canonicalJson(value);
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)));
        expect(canonicalJson(reversed(value))).toBe(text);
        expect(canonicalJson(JSON.parse(text))).toBe(text);
      }),
    );
  });

  it("sorts by UTF-16 units and writes numbers and text as RFC 8785 does (its own example)", () => {
    const value = {
      numbers: JSON.parse("[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001]"),
      string: "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"/",
      literals: [null, true, false],
    };
    expect(canonicalJson(value)).toBe(
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],' +
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    );
  });

  it("leaves out what JSON has no value for", () => {
    expect(canonicalJson({ a: undefined, b: [undefined], c: new Date(0) })).toBe(
      '{"b":[null],"c":"1970-01-01T00:00:00.000Z"}',
    );
  });
});

describe("an event's id", () => {
  it("is the same for the same run, tenant and event, and another for any other", () => {
    const id = eventId("run", "acme", "mended");
    expect(id).toMatch(/^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/);
    expect(eventId("run", "acme", "mended")).toBe(id);
    const others = [
      eventId("run", undefined, "mended"),
      eventId("ru", "nacme", "mended"),
      eventId("run", "acme", "mend"),
    ];
    expect(new Set([id, ...others]).size).toBe(4);
  });
});

describe("a chain", () => {
  it("is whole as it was written", () => {
    expect(verifyChain(BYTES, TIP)).toMatchObject({ chain: "chain-1", problem: undefined, open: [] });
    expect(verifyChain(Buffer.alloc(0))).toMatchObject({ chain: undefined, problem: undefined });
  });

  it("shows the change of any single byte, at the event where it is or at the next", () => {
    fc.assert(
      fc.property(fc.nat(BYTES.length - 1), fc.integer({ min: 1, max: 255 }), (at, difference) => {
        const changed = Buffer.from(BYTES);
        changed[at] = ((changed[at] ?? 0) + difference) % 256;
        const line = BYTES.subarray(0, at).filter((byte) => byte === 10).length + 1;
        expect(verifyChain(changed).problem?.seq).toBe(line);
      }),
      { numRuns: 2000 },
    );
  });

  it("shows any byte put in or taken out", () => {
    fc.assert(
      fc.property(fc.nat(BYTES.length - 1), fc.option(fc.integer({ min: 0, max: 255 })), (at, byte) => {
        const put = byte === null ? Buffer.alloc(0) : Buffer.from([byte]);
        const rest = BYTES.subarray(byte === null ? at + 1 : at);
        expect(verifyChain(Buffer.concat([BYTES.subarray(0, at), put, rest])).problem).toBeDefined();
      }),
      { numRuns: 1000 },
    );
  });

  it("names the place of a changed event", () => {
    const forged = EVENTS.map((event) => (event.seq === 4 ? { ...event, user_id: "somebody else" } : event));
    expect(verifyChain(bytesOf(forged)).problem).toMatchObject({ kind: "changed", seq: 4 });
  });

  it("shows an event that was changed together with its own hash, at the next one", () => {
    const [first, second] = EVENTS;
    if (first === undefined || second === undefined) throw new Error("the chain has two events");
    const { chain: _c, seq: _s, prev: _p, hash: _h, ...body } = second;
    const forged = EVENTS.map((event) => (event.seq === 2 ? link({ ...body, user_id: "x" }, first) : event));
    expect(verifyChain(bytesOf(forged)).problem).toMatchObject({ kind: "changed", seq: 3 });
  });

  it.each<[string, (events: AuditEvent[]) => AuditEvent[], object]>([
    ["removed at the start", (events) => events.slice(1), { kind: "removed", seq: 1 }],
    ["removed in the middle", (events) => events.toSpliced(3, 2), { kind: "removed", seq: 4 }],
    [
      "reordered",
      (events) => events.toSpliced(3, 2, ...events.slice(3, 5).reverse()),
      { kind: "reordered", seq: 4 },
    ],
    ["repeated", (events) => events.toSpliced(4, 0, ...events.slice(3, 4)), { kind: "repeated", seq: 5 }],
    ["cut between two runs", (events) => events.slice(0, 6), { kind: "cut", seq: 7 }],
    ["cut to nothing", () => [], { kind: "cut", seq: 1 }],
  ])("shows events that were %s", (_, tamper, problem) => {
    expect(verifyChain(bytesOf(tamper(EVENTS)), TIP).problem).toMatchObject(problem);
  });

  it("shows a whole other chain in its place", () => {
    const other = chain(4).map((event) => event);
    const renamed = relink(other, "chain-2");
    expect(verifyChain(bytesOf(renamed), TIP).problem).toMatchObject({ kind: "changed", seq: 9 });
  });

  it("shows a run's event that was left out before linking: its run_finished counts them", () => {
    const without = relink(
      EVENTS.filter((event) => event.seq !== 4),
      "chain-1",
    );
    expect(verifyChain(bytesOf(without)).problem).toMatchObject({ kind: "removed", seq: 5 });
  });

  it("shows events of a run after its end, and one event_id used twice", () => {
    const after = relink([...EVENTS, { ...EVENTS[0], event_id: "new" } as AuditEvent], "chain-1");
    expect(verifyChain(bytesOf(after)).problem).toMatchObject({ kind: "repeated", seq: 10 });
    const twice = relink(
      [...EVENTS.slice(0, 1), { ...EVENTS[1], event_id: EVENTS[0]?.event_id } as AuditEvent],
      "chain-1",
    );
    expect(verifyChain(bytesOf(twice)).problem).toMatchObject({ kind: "repeated", seq: 2 });
  });

  it("reports runs that have not finished", () => {
    expect(verifyChain(bytesOf(EVENTS.slice(0, 5)))).toMatchObject({
      problem: undefined,
      open: [{ run_id: "run-1", events: 2, since: EVENTS[3]?.timestamp }],
    });
  });
});

function relink(events: AuditEvent[], name: string): AuditEvent[] {
  const linked: AuditEvent[] = [];
  for (const { chain: _c, seq: _s, prev: _p, hash: _h, ...body } of events) {
    linked.push(link(body, linked.at(-1) ?? { chain: name }));
  }
  return linked;
}

function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, inner]) => [key, reversed(inner)]),
  );
}
