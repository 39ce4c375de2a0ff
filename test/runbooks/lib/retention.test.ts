// What stays and what goes, as a table and by properties: whatever the days are, never fewer than the promise.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Broken, Catalog, CatalogEntry } from "../../../runbooks/lib/backup-catalog.ts";
import type { Opened } from "../../../runbooks/lib/backup-records.ts";
import type { ObjectVersion } from "../../../runbooks/lib/backup-store.ts";
import { firstOfMonths, openedUntil, planRetention } from "../../../runbooks/lib/retention.ts";
import { type BackupDay, backupKey, dayOf, MANIFEST, markName, SNAPSHOT } from "../../../stacks/names.ts";

const DAY = 86_400_000;
let count = 0;

/** One backup in short: its day, a time if it matters, `!` when nobody opened it. */
function backup(short: string, uploaded?: Date): CatalogEntry {
  const [, on = "", time = "02:00", mark] = /^([\d-]+)(?: ([\d:]+))?(!)?$/.exec(short) ?? [];
  const day = on as BackupDay;
  const part = (kind: ObjectVersion["kind"], name: string): ObjectVersion => ({
    key: backupKey(day, name),
    versionId: `v${++count}`,
    bytes: 1,
    uploaded: uploaded ?? new Date(`${on}T${time}:00Z`),
    day,
    kind,
    hidden: false,
  });
  const written = `${on}T${time}:00Z`;
  const opened = mark === undefined ? [{ at: written } as Opened] : [];
  return {
    day,
    manifest: { canary: { written } } as CatalogEntry["manifest"],
    manifestObject: part("manifest", MANIFEST),
    object: part("snapshot", SNAPSHOT),
    opened,
    restored: [],
    marks: opened.map(() => part("opened", markName("opened", new Date(written)))),
  };
}

/** As the catalog has them: the newest first. */
const catalog = (backups: CatalogEntry[], broken: Broken[] = []): Catalog => ({
  backups: backups.toSorted((a, b) => nameOf(b).localeCompare(nameOf(a))),
  broken,
});
const nameOf = ({ day, manifest }: CatalogEntry): string => `${day} ${manifest.canary.written}`;
const days = (first: string, length: number): string[] =>
  Array.from({ length }, (_, n) => dayOf(new Date(Date.parse(first) + n * DAY)));
const at = (text: string) => new Date(text.length > 10 ? text : `${text}T12:00:00Z`);
/** The days of those that stay, and of those that go, the newest first. */
function split(shorts: string[], now: string) {
  const { backups } = planRetention(catalog(shorts.map((short) => backup(short))), at(now));
  const of = (keep: boolean) =>
    backups.filter((one) => one.keep === keep).map((one) => short(one.backup, shorts));
  return { stay: of(true), go: of(false) };
}
const short = ({ day, manifest, opened }: CatalogEntry, shorts: string[]) =>
  shorts.find((one) => {
    const [on, time = "02:00"] = one.replace("!", "").split(" ");
    const same = on === day && manifest.canary.written === `${day}T${time}:00Z`;
    return same && one.endsWith("!") === (opened.length === 0);
  }) ?? "?";

describe("retention, as a table", () => {
  const january = days("2026-01-01", 31);
  test.each<{ what: string; all: string[]; now: string; go: string[] }>([
    { what: "nothing of nothing", all: [], now: "2026-03-01", go: [] },
    { what: "the only one stays, however old", all: ["2001-01-01"], now: "2026-03-01", go: [] },
    { what: "30 days stay", all: days("2026-01-01", 30), now: "2026-01-30", go: [] },
    { what: "of 31 days the oldest stays as its month's first", all: january, now: "2026-01-31", go: [] },
    {
      what: "of 32 days the second goes: neither among 30 nor a first",
      all: days("2026-01-01", 32),
      now: "2026-02-01",
      go: ["2026-01-02"],
    },
    {
      what: "days are counted that have one: missing ones cost nothing",
      all: ["2025-06-01", "2025-06-02", ...days("2026-01-01", 28)],
      now: "2026-01-28",
      go: [],
    },
    {
      what: "over a leap day",
      all: days("2024-01-30", 32),
      now: "2024-03-01",
      // 2024-01-30 is January's first that there is, and 2024-01-31 neither.
      go: ["2024-01-31"],
    },
    {
      what: "without a leap day",
      all: days("2026-01-30", 31),
      now: "2026-03-01",
      go: [],
    },
    {
      what: "the first good one of a month is its first, and not the first of the month",
      all: ["2025-12-01!", "2025-12-05", "2025-12-06", ...days("2026-01-01", 30)],
      now: "2026-01-30",
      go: ["2025-12-06", "2025-12-01!"],
    },
    {
      what: "of twelve months the thirteenth goes",
      all: [
        ...days("2025-01-31", 1),
        ...Array.from({ length: 11 }, (_, n) => `2025-${pad(n + 2)}-01`),
        ...days("2026-01-01", 30),
      ],
      now: "2026-01-30",
      go: ["2025-01-31"],
    },
    {
      what: "of two good ones of a day the newer",
      all: ["2026-02-02", "2026-02-03 02:00", "2026-02-03 14:00", "2026-02-04"],
      now: "2026-02-04",
      go: ["2026-02-03 02:00"],
    },
    {
      what: "of two good ones of the newest day too",
      all: ["2026-02-02", "2026-02-03 02:00", "2026-02-03 14:00"],
      now: "2026-02-03",
      go: ["2026-02-03 02:00"],
    },
    {
      what: "but both, if the older one is its month's first",
      all: ["2026-02-03 02:00", "2026-02-03 14:00", "2026-02-04"],
      now: "2026-02-04",
      go: [],
    },
    {
      what: "a newer one of the day that nobody opened replaces nothing",
      all: ["2026-02-02", "2026-02-03 02:00", "2026-02-03 14:00!", "2026-02-04"],
      now: "2026-02-04",
      go: ["2026-02-03 14:00!"],
    },
    {
      what: "nothing goes that is newer than the newest opened",
      all: ["2026-02-01", "2026-02-02 02:00", "2026-02-02 14:00!", "2026-02-03!", "2026-02-03 03:00!"],
      now: "2026-02-03",
      go: [],
    },
    {
      what: "nothing goes as long as none was opened",
      all: days("2026-01-01", 60).map((day) => `${day}!`),
      now: "2026-03-01",
      go: [],
    },
    {
      what: "a day of which nobody opened any keeps them all",
      all: ["2026-02-01", "2026-02-02 02:00!", "2026-02-02 14:00!", "2026-02-03"],
      now: "2026-02-03",
      go: [],
    },
    {
      what: "but not behind 30 days that have one",
      all: ["2026-01-01", "2026-01-02!", ...days("2026-02-01", 30)],
      now: "2026-03-02",
      go: ["2026-01-02!"],
    },
    {
      what: "a month of which nobody opened any keeps them",
      all: ["2025-12-30!", "2025-12-31!", ...days("2026-01-01", 31)],
      now: "2026-01-31",
      go: [],
    },
    {
      what: "what is dated in the future takes nobody's place, and stays",
      all: [...days("2026-01-01", 30), "2026-01-31", "2026-02-01", "2099-01-01", "2099-01-02!"],
      now: "2026-01-30",
      go: [],
    },
    {
      what: "a clock that was set back by years has all in the future",
      all: days("2026-01-01", 40),
      now: "2020-01-01",
      go: [],
    },
    {
      what: "today is no future, a second before midnight UTC nor one after",
      all: days("2026-01-01", 32),
      now: "2026-02-01T00:00:00Z",
      go: ["2026-01-02"],
    },
    {
      what: "tomorrow is, whatever day it is in Auckland",
      all: days("2026-01-01", 32),
      now: "2026-01-31T23:59:59Z",
      go: [],
    },
  ])("$what", ({ all, now, go }) => {
    const done = split(all, now);
    expect(done.go).toEqual(go);
    expect(done.stay.length).toBe(all.length - go.length);
  });

  test("says why, for a person at the table", () => {
    const all = [
      "2025-12-31!",
      "2026-01-01",
      "2026-01-02",
      "2026-01-03!",
      ...days("2026-02-01", 30),
      "2026-03-03!",
    ];
    const { backups } = planRetention(
      catalog([...all, "2099-01-01"].map((one) => backup(one))),
      at("2026-03-03"),
    );
    const why = Object.fromEntries(backups.map((one) => [one.backup.day, one.why]));
    expect(why).toMatchObject({
      "2099-01-01": "dated in the future: it counts for nothing, and is not touched",
      "2026-03-03": "not opened yet",
      "2026-03-02": "the newest that was opened",
      "2026-03-01": "daily, the first of 2026-03",
      "2026-02-28": "daily",
      "2026-02-01": "daily, the first of 2026-02",
      "2026-01-03": "never opened, and newer ones were",
      "2026-01-02": "older than 30 days with one",
      "2026-01-01": "the first of 2026-01",
      "2025-12-31": "not opened, nor any other of 2025-12: try it",
    });
  });

  test("two manifests of one snapshot are one backup: neither takes it from the other", () => {
    const [first, newest] = [backup("2026-02-02"), backup("2026-02-03")];
    const again = { ...first, manifestObject: { ...first.manifestObject, versionId: "again" } };
    const { backups } = planRetention(
      catalog([backup("2026-02-01"), first, again, newest]),
      at("2026-02-03"),
    );
    expect(backups.map(({ keep }) => keep)).toEqual([true, true, true, true]);
  });

  test("two that differ don't either: what one of them keeps, the other keeps", () => {
    const one = backup("2026-02-03 11:00!");
    const other = { ...backup("2026-02-03 09:00!"), object: one.object };
    const { backups } = planRetention(catalog([one, other, backup("2026-02-03 10:00")]), at("2026-02-03"));
    expect(backups.map(({ keep }) => keep)).toEqual([true, true, true]);
  });

  test("when it was uploaded says nothing: not after a copy to another bucket either", () => {
    const all = days("2026-01-01", 40);
    const now = at("2026-02-09");
    const verdicts = (uploaded: (n: number) => Date) =>
      planRetention(catalog(all.map((day, n) => backup(day, uploaded(n)))), now).backups.map(
        ({ backup, keep, why }) => [backup.day, keep, why],
      );
    expect(verdicts(() => now)).toEqual(verdicts((n) => new Date(Date.parse("2026-02-09") - n * DAY)));
  });
});

describe("what is no backup", () => {
  const newest = backup("2026-03-01", at("2026-03-01T02:01:00Z"));
  const left = (
    day: string,
    uploaded: string,
    more: Partial<Broken> = {},
    kind: ObjectVersion["kind"] = "snapshot",
  ) => ({
    object: { ...backup(day).object, kind, uploaded: at(uploaded) },
    why: "no manifest speaks of it",
    unclear: false,
    ...more,
  });
  const verdict = (broken: Broken[], backups = [newest]) =>
    planRetention(catalog(backups, broken), at("2026-03-01")).leftovers.map(({ keep }) => keep);

  test.each<[string, Broken[], boolean[]]>([
    [
      "goes once a day lies between it and a newer opened one",
      [left("2026-02-27", "2026-02-27T02:00:00Z")],
      [false],
    ],
    [
      "stays within the day: its run may not have ended",
      [left("2026-02-28", "2026-02-28T02:01:01Z")],
      [true],
    ],
    ["goes at that very second", [left("2026-02-28", "2026-02-28T02:01:00Z")], [false]],
    [
      "stays if its run's clock was wrong and it has only just come",
      [left("2026-01-01", "2026-03-01T02:05:00Z")],
      [true],
    ],
    [
      "stays on the newest's own day and behind it",
      [left("2026-03-01", "2026-02-01"), left("2099-01-01", "2026-02-01")],
      [true, true],
    ],
    [
      "stays if it may be of another release or forged",
      [left("2026-02-01", "2026-02-01", { unclear: true })],
      [true],
    ],
    [
      "stays beside a manifest of its day that can't be read: it may be that one's",
      [
        left("2026-02-01", "2026-02-01", { unclear: true }, "manifest"),
        left("2026-02-01", "2026-02-01"),
        left("2026-02-01", "2026-02-01", {}, "opened"),
        left("2026-02-02", "2026-02-02"),
      ],
      [true, true, true, false],
    ],
  ])("%s", (_what, broken, keeps) => {
    expect(verdict(broken)).toEqual(keeps);
  });

  test("stays as long as none was opened, or only one in the future", () => {
    const old = [left("2026-01-01", "2026-01-01")];
    expect(verdict(old, [])).toEqual([true]);
    expect(verdict(old, [backup("2026-03-01!")])).toEqual([true]);
    expect(verdict(old, [backup("2099-03-01", at("2026-03-01"))])).toEqual([true]);
  });
});

describe("retention, by properties", () => {
  /** Around ends of months and leap days, with holes, several of a day, some in the future, some never opened. */
  const someBackups = fc
    .array(
      fc.record({
        day: fc.integer({ min: 0, max: 800 }),
        hour: fc.integer({ min: 0, max: 23 }),
        opened: fc.boolean(),
        uploaded: fc.date({ min: at("2023-01-01"), max: at("2030-01-01"), noInvalidDate: true }),
      }),
      { maxLength: 120 },
    )
    .map((all) =>
      all.map(({ day, hour, opened, uploaded }) => {
        const on = dayOf(new Date(Date.parse("2024-01-15") + day * DAY));
        return backup(`${on} ${pad(hour)}:00${opened ? "" : "!"}`, uploaded);
      }),
    );
  const someTime = fc.date({ min: at("2024-01-01"), max: at("2026-06-01"), noInvalidDate: true });
  const distinct = (values: string[]): Set<string> => new Set(values);

  test("never fewer than the promise while there are any", () => {
    fc.assert(
      fc.property(someBackups, someTime, (all, now) => {
        const { backups } = planRetention(catalog(all), now);
        const past = backups.filter(({ backup }) => backup.day <= dayOf(now));
        const stay = past.filter(({ keep }) => keep);
        const opened = ({ backup }: { backup: CatalogEntry }) => backup.opened.length > 0;
        for (const [place, promised] of [
          [dayName, 30],
          [monthName, 12],
        ] as const) {
          for (const count of [() => true, opened]) {
            const there = distinct(past.filter(count).map(place));
            const left = distinct(stay.filter(count).map(place));
            expect(left.size).toBeGreaterThanOrEqual(Math.min(promised, there.size));
          }
        }
      }),
    );
  });

  test("the newest good one of each of 30 days and the first of each of 12 months stay, by another way of counting", () => {
    fc.assert(
      fc.property(someBackups, someTime, (all, now) => {
        const { backups } = planRetention(catalog(all), now);
        const stay = new Set(backups.filter(({ keep }) => keep).map(({ backup }) => nameOf(backup)));
        const good = all
          .filter(({ day, opened }) => opened.length > 0 && day <= dayOf(now))
          .map(nameOf)
          .sort();
        for (const day of [...new Set(good.map((name) => name.slice(0, 10)))].slice(-30))
          expect(stay).toContain(good.findLast((name) => name.startsWith(day)));
        for (const month of [...new Set(good.map((name) => name.slice(0, 7)))].slice(-12))
          expect(stay).toContain(good.find((name) => name.startsWith(month)));
      }),
    );
  });

  test("what goes is older than an opened one that stays; what is unopened and newer, or in the future, stays", () => {
    fc.assert(
      fc.property(someBackups, someTime, (all, now) => {
        const { backups, newestOpened } = planRetention(catalog(all), now);
        for (const { backup, keep } of backups) {
          if (backup.day > dayOf(now)) expect(keep).toBe(true);
          if (keep) continue;
          expect(newestOpened?.opened.length).toBeGreaterThan(0);
          expect(nameOf(backup) < nameOf(newestOpened ?? backup)).toBe(true);
        }
        const newest = backups.find(({ backup }) => backup === newestOpened);
        expect(newest?.keep ?? true).toBe(true);
      }),
    );
  });

  test("asked again of what stayed, it lets nothing more go; and no snapshot of one that stays is one's that goes", () => {
    fc.assert(
      fc.property(someBackups, someTime, (all, now) => {
        const { backups } = planRetention(catalog(all), now);
        const stay = backups.filter(({ keep }) => keep).map(({ backup }) => backup);
        expect(planRetention(catalog(stay), now).backups.every(({ keep }) => keep)).toBe(true);
        const objects = new Set(stay.map(({ object }) => object));
        expect(backups.some(({ keep, backup }) => !keep && objects.has(backup.object))).toBe(false);
      }),
    );
  });

  test("upload times change nothing, and neither does the machine's time zone", () => {
    fc.assert(
      fc.property(
        someBackups,
        someTime,
        fc.constantFrom("Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Berlin"),
        (all, now, zone) => {
          const keeps = () => planRetention(catalog(all), now).backups.map(({ keep, why }) => [keep, why]);
          const before = keeps();
          const own = process.env.TZ;
          process.env.TZ = zone;
          try {
            expect(keeps()).toEqual(before);
          } finally {
            if (own === undefined) delete process.env.TZ;
            else process.env.TZ = own;
          }
          const moved = all.map((one) => ({ ...one, object: { ...one.object, uploaded: now } }));
          expect(planRetention(catalog(moved), now).backups.map(({ keep, why }) => [keep, why])).toEqual(
            before,
          );
        },
      ),
    );
  });

  test("over a thousand days of pruning daily, with nights that fail, it keeps what one look at all of them would", () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom("good", "good", "good", "good", "unopened", "missing", "twice"), {
          minLength: 400,
          maxLength: 1000,
        }),
        (nights) => {
          const ever: CatalogEntry[] = [];
          let there: CatalogEntry[] = [];
          let now = at("2023-12-20");
          for (const night of nights) {
            now = new Date(now.getTime() + DAY);
            const made =
              night === "missing" ? [] : [backup(`${dayOf(now)}${night === "unopened" ? "!" : ""}`)];
            if (night === "twice") made.push(backup(`${dayOf(now)} 09:00`));
            ever.push(...made);
            there = planRetention(catalog([...there, ...made]), now)
              .backups.filter(({ keep }) => keep)
              .map(({ backup }) => backup);
          }
          const promised = planRetention(catalog(ever), now).backups.filter(({ keep }) => keep);
          const names = there.map(nameOf);
          for (const { backup } of promised) expect(names).toContain(nameOf(backup));
        },
      ),
      { numRuns: 10 },
    );
  }, 60_000);
});

test("what is locked for a year is what is kept for a year", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 300 }), { maxLength: 60 }), (offsets) => {
      const all = offsets.map((n) => backup(dayOf(new Date(Date.parse("2024-01-15") + n * DAY))));
      const now = at("2024-11-30");
      const plan = planRetention(catalog(all), now);
      for (const first of firstOfMonths(openedUntil(catalog(all).backups, now)).values())
        expect(plan.backups.find(({ backup }) => backup === first)?.keep).toBe(true);
    }),
  );
});

const dayName = ({ backup }: { backup: CatalogEntry }): string => backup.day;
const monthName = ({ backup }: { backup: CatalogEntry }): string => backup.day.slice(0, 7);
function pad(number: number): string {
  return String(number).padStart(2, "0");
}
