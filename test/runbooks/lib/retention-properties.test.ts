// What stays and what goes, by properties: over any days, holes, clocks and time zones the promise holds.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { CatalogEntry } from "../../../runbooks/lib/backup-catalog.ts";
import { firstOfMonths, openedUntil, planRetention } from "../../../runbooks/lib/retention.ts";
import { dayOf } from "../../../stacks/names.ts";
import { at, backup, catalog, DAY, nameOf, pad } from "./fixtures/short-backups.ts";

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
      { maxLength: 120, size: "max" },
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
          size: "max",
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
    fc.property(
      fc.uniqueArray(fc.integer({ min: 0, max: 300 }), { maxLength: 60, size: "max" }),
      (offsets) => {
        const all = offsets.map((n) => backup(dayOf(new Date(Date.parse("2024-01-15") + n * DAY))));
        const now = at("2024-11-30");
        const plan = planRetention(catalog(all), now);
        for (const first of firstOfMonths(openedUntil(catalog(all).backups, now)).values())
          expect(plan.backups.find(({ backup }) => backup === first)?.keep).toBe(true);
      },
    ),
  );
});

const dayName = ({ backup }: { backup: CatalogEntry }): string => backup.day;
const monthName = ({ backup }: { backup: CatalogEntry }): string => backup.day.slice(0, 7);
