// `runbook prune-backups` on real buckets: what stays, what goes, and what it says of that.
import { readFileSync, writeFileSync } from "node:fs";
import { DeleteObjectCommand } from "@aws-sdk/client-s3";
import { describe, expect, test } from "vitest";
import { backupKey, MANIFEST, SNAPSHOT } from "../../stacks/names.ts";
import { ago, partsOf, type Seeded, seedMark, type Version } from "../runbooks/lib/fixtures/seeded-backup.ts";
import { AUTOMATION, events, s3 } from "./backup.ts";
import { runbook } from "./lab.ts";
import { fail, isDeletion, names, Place, prunedEvents, without } from "./prune-place.ts";
import { withS3Window } from "./s3-window.ts";

describe("prune-backups", () => {
  test("leaves 30 daily and the first of each month, takes the rest with its marks, and needs no Vault", async () => {
    const place = await Place.make();
    const days = Array.from({ length: 75 }, (_, n) => ago(n));
    const seeded = new Map<string, Seeded>();
    for (const day of days) seeded.set(day, await place.backup(day));
    const before = await place.versions();
    const noVault = { VAULT_ADDR: "http://127.0.0.1:1", VAULT_ROLE_ID: "", VAULT_SECRET_ID: "" };
    const { code, stderr, result } = await place.prune(noVault);
    expect(code, stderr).toBe(0);
    const firsts = days.filter(
      (day) => !days.some((other) => other < day && other.startsWith(day.slice(0, 7))),
    );
    const go = days.slice(30).filter((day) => !firsts.includes(day));
    expect(go.length).toBeGreaterThanOrEqual(42);
    const gone = go.flatMap((day) => partsOf(seeded.get(day) ?? fail()));
    expect(names(await place.versions())).toEqual(without(before, gone));
    expect(result).toMatchObject({ newest_opened: ago(0), deleted_versions: gone.length, refused: [] });
    expect(
      prunedEvents(gone)
        .map(({ backup_date }) => backup_date)
        .sort(),
    ).toEqual(go.toSorted());
    expect(place.metrics().prune_run_success).toBe(1);

    const again = await place.prune();
    expect(again.result, again.stderr).toMatchObject({ deleted_versions: 0 });
    expect(names(await place.versions())).toEqual(without(before, gone));
  }, 300_000);

  test("touches nothing foreign, nothing from the future, nothing that it can't read", async () => {
    const place = await Place.make();
    const { go, left } = await place.some();
    for (const key of [
      "notes.txt",
      "backups/README",
      `backups/${ago(69)}/notes.txt`,
      `backups/${ago(69)}/deeper/${SNAPSHOT}`,
      `backups/latest/${SNAPSHOT}`,
      `backups/2026-02-30/${MANIFEST}`,
      `audit/${ago(69)}/${MANIFEST}`,
      `backups/${ago(65)}/${MANIFEST}`,
      `backups/${ago(65)}/${SNAPSHOT}`,
      `backups/${ago(65)}/opened-20260101T000000Z.json`,
    ])
      await place.put(key, "{}", ago(65));
    await place.backup(ago(-1));
    await place.backup(ago(-400), 2, false);
    const before = await place.versions();
    const { code, stderr } = await place.prune();
    expect(code, stderr).toBe(0);
    expect(names(await place.versions())).toEqual(without(before, [...go.flatMap(partsOf), left]));
  });

  test("finds what a delete marker hides, to keep it and to delete it", async () => {
    const place = await Place.make();
    const { go, left } = await place.some();
    for (const { Key } of [...go.flatMap(partsOf), left])
      await s3.send(new DeleteObjectCommand({ Bucket: place.Bucket, Key }));
    const before = await place.versions();
    const { code, stderr } = await place.prune();
    expect(code, stderr).toBe(0);
    expect(names(await place.versions())).toEqual(without(before, [...go.flatMap(partsOf), left]));
  });

  test("deletes nothing as long as none was opened", async () => {
    const place = await Place.make();
    for (let n = 0; n < 40; n++) await place.backup(ago(n), 2, false);
    await place.put(backupKey(ago(50), SNAPSHOT), "left", ago(50));
    const before = await place.versions();
    const { code, stderr, result } = await place.prune();
    expect(code, stderr).toBe(0);
    expect(result).toMatchObject({ newest_opened: null, deleted_versions: 0 });
    expect(names(await place.versions())).toEqual(names(before));
  });

  test("in a dry run shows the table of what stays and why, and asks the bucket for nothing but reading", async () => {
    const place = await Place.make();
    const { go } = await place.some();
    const victim = go[0]?.snapshot ?? fail();
    const before = await place.versions();
    await withS3Window(async ({ env, calls }) => {
      const { code, stdout, stderr } = await runbook(["prune-backups", "--dry-run"], {
        env: { ...AUTOMATION, ...place.env, ...env },
      });
      expect(code, stderr).toBe(0);
      const lines = stdout.split("\n").map((line) => line.trim());
      const line = (text: string) => lines.find((one) => one.includes(text)) ?? "";
      expect(line(victim.VersionId)).toMatch(/^GOES .*another one of .* stays$/);
      expect(line(`${ago(0)} 02:00Z`)).toMatch(/^stays .*the newest that was opened$/);
      expect(line(`${ago(66)} ${SNAPSHOT}`)).toMatch(/^GOES .*no manifest speaks of it/);
      expect(lines.filter((one) => one.startsWith("GOES")).length).toBe(4);
      expect(stderr).toContain("delete 3 manifests");
      expect(calls.filter((call) => !call.startsWith("GET "))).toEqual([]);
    });
    expect(names(await place.versions())).toEqual(names(before));
    expect(prunedEvents([victim])).toEqual([]);
    expect(() => place.metrics()).toThrow("ENOENT");
  });

  test("without a yes deletes nothing", async () => {
    const place = await Place.make();
    await place.some();
    const before = await place.versions();
    const { code, stderr } = await runbook(["prune-backups", "--json"], {
      env: { ...AUTOMATION, ...place.env },
    });
    expect(code).toBe(2);
    expect(stderr).toContain("Delete 3 backups and 1 leftover");
    expect(names(await place.versions())).toEqual(names(before));
  });

  test("more than a page of a listing and more than one request's worth of versions", async () => {
    const place = await Place.make();
    const { go, left } = await place.some();
    const { snapshot } = go[0] ?? fail();
    const day = ago(69);
    const marks: Version[] = [];
    for (let first = 0; first < 1_010; first += 50) {
      const batch = Array.from(
        { length: 50 },
        (_, n) => new Date(Date.parse(`${day}T05:00:00Z`) + (first + n) * 1000),
      );
      marks.push(...(await Promise.all(batch.map((at) => seedMark(place.put, day, snapshot, at)))));
    }
    const before = await place.versions();
    expect(before.length).toBeGreaterThan(1_050);
    await withS3Window(async ({ env, calls }) => {
      const { code, stderr, result } = await place.prune(env);
      expect(code, stderr).toBe(0);
      expect(result.deleted_versions).toBe(marks.length + 3 * 3 + 1);
      // Manifests, twice marks, snapshots.
      expect(calls.filter(isDeletion).length).toBe(4);
    });
    expect(names(await place.versions())).toEqual(without(before, [...marks, ...go.flatMap(partsOf), left]));
  }, 300_000);

  test("a bucket that isn't there: exit 1, red, and an event", async () => {
    const place = await Place.make();
    const file = place.env.RECOVERY_CONFIG ?? "";
    writeFileSync(
      file,
      readFileSync(file, "utf8").replace(`bucket: ${place.Bucket}`, "bucket: no-such-bucket"),
    );
    const { code, stderr } = await place.prune();
    expect(code).toBe(1);
    expect(stderr).toContain("s3://no-such-bucket");
    expect(place.metrics()).toMatchObject({ prune_run_success: 0, prune_failures_total: 1 });
    expect(String(events("vault_prune_failed").at(-1)?.why)).toContain("no-such-bucket");
  });
});
