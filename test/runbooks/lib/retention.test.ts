// Which backups stay and which go, as a table: never fewer than the promise, whatever the days are.
import { describe, expect, test } from "vitest";
import type { CatalogEntry } from "../../../runbooks/lib/backup-catalog.ts";
import { planRetention } from "../../../runbooks/lib/retention.ts";
import { at, backup, catalog, DAY, days, pad } from "./fixtures/short-backups.ts";

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
