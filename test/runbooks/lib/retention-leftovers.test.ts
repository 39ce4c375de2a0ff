// What lies beside the backups and is none: when it goes, and when it may still belong to one.
import { describe, expect, test } from "vitest";
import type { Broken } from "../../../runbooks/lib/backup-catalog.ts";
import type { ObjectVersion } from "../../../runbooks/lib/backup-store.ts";
import { planRetention } from "../../../runbooks/lib/retention.ts";
import { at, backup, catalog } from "./fixtures/short-backups.ts";

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
