// `runbook prune-backups` on real buckets of its own: what stays, what goes, and that neither a kill nor a rival makes it
// take a backup that it mustn't. What lies in a bucket is looked at with a client of the test's own.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  PutObjectLegalHoldCommand,
  PutObjectRetentionCommand,
} from "@aws-sdk/client-s3";
import { describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { readMetrics } from "../../runbooks/lib/backup-metrics.ts";
import { type BackupDay, backupKey, dayOf, MANIFEST, SNAPSHOT } from "../../stacks/names.ts";
import {
  ago,
  firstOfMonth,
  partsOf,
  type Seeded,
  seedBackup,
  seedMark,
  seedSome,
  type Version,
} from "../runbooks/lib/fixtures/seeded-backup.ts";
import { AUTOMATION, events, run, s3 } from "./backup.ts";
import { begin } from "./killed.ts";
import { lab, runbook } from "./lab.ts";
import { withS3Window } from "./s3-window.ts";

const DAY = 86_400_000;
let count = 0;
function fail(): never {
  throw new Error("it is missing");
}

/** A bucket of its own, as the platform stack makes it, and settings that name it. */
class Place {
  readonly Bucket = `prune-${process.pid}-${++count}`;
  readonly env: Record<string, string>;
  readonly #metrics: string;

  private constructor() {
    const file = join(lab.place.dir, `recovery-${this.Bucket}.yaml`);
    this.#metrics = join(lab.place.dir, "metrics", `${this.Bucket}.prom`);
    const own = parse(readFileSync(join(lab.place.dir, "recovery.yaml"), "utf8")) as { backup: object };
    const backup = { ...own.backup, bucket: this.Bucket, metrics_file: this.#metrics };
    writeFileSync(file, stringify({ ...own, backup }));
    this.env = { RECOVERY_CONFIG: file };
    rmSync(this.#metrics, { force: true });
  }

  static async make(): Promise<Place> {
    const place = new Place();
    await s3.send(new CreateBucketCommand({ Bucket: place.Bucket, ObjectLockEnabledForBucket: true }));
    return place;
  }

  /** Puts an object that says it was uploaded on that day. */
  put = async (Key: string, Body: string, uploaded: string = ago(0)): Promise<Version> => {
    const Metadata = { "lab-uploaded": `${uploaded}T02:10:00` };
    const { VersionId } = await s3.send(new PutObjectCommand({ Bucket: this.Bucket, Key, Body, Metadata }));
    return { Key, VersionId: VersionId ?? "" };
  };

  backup = (day: BackupDay, hour = 2, opened = true): Promise<Seeded> =>
    seedBackup(this.put, day, hour, opened);
  some = () => seedSome(this.put);

  async versions(): Promise<Version[]> {
    const found: Version[] = [];
    let after = {};
    for (;;) {
      const page = await s3.send(new ListObjectVersionsCommand({ Bucket: this.Bucket, ...after }));
      for (const { Key = "", VersionId = "" } of page.Versions ?? []) found.push({ Key, VersionId });
      if (page.IsTruncated !== true) return found;
      after = { KeyMarker: page.NextKeyMarker, VersionIdMarker: page.NextVersionIdMarker };
    }
  }

  async lock({ Key, VersionId }: Version, days: number): Promise<void> {
    const Retention = { Mode: "COMPLIANCE", RetainUntilDate: new Date(Date.now() + days * DAY) } as const;
    await s3.send(new PutObjectRetentionCommand({ Bucket: this.Bucket, Key, VersionId, Retention }));
  }

  metrics = () => readMetrics(readFileSync(this.#metrics, "utf8"));
  prune = (env: Record<string, string> = {}) => run(["prune-backups"], { ...this.env, ...env });
}

const names = (versions: Version[]): string[] =>
  versions.map(({ Key, VersionId }) => `${Key} ${VersionId}`).sort();
const without = (all: Version[], gone: Version[]): string[] => {
  const away = new Set(names(gone));
  return names(all).filter((one) => !away.has(one));
};
const prunedEvents = (of: Version[]) =>
  events("vault_backup_pruned").filter(({ version_id }) =>
    of.some(({ VersionId }) => VersionId === version_id),
  );

/** No manifest speaks of a snapshot that is gone. */
async function expectNoHalves(place: Place, all: Seeded[]): Promise<void> {
  const there = new Set(names(await place.versions()));
  for (const { manifest, snapshot } of all)
    if (there.has(names([manifest])[0] ?? "")) expect(there).toContain(names([snapshot])[0]);
}

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

const isDeletion = (call: string): boolean => /^POST .*[?&]delete/.test(call);

describe("what is locked", () => {
  test.each<[string, (place: Place, one: Seeded) => Promise<unknown>, RegExp]>([
    [
      "its snapshot",
      (place, { snapshot }) => place.lock(snapshot, 40),
      /^locked until \d{4}-\d\d-\d\d; another/,
    ],
    ["its manifest", (place, { manifest }) => place.lock(manifest, 40), /^locked until/],
    [
      "its snapshot, by a legal hold",
      (place, { snapshot: { Key, VersionId } }) =>
        s3.send(
          new PutObjectLegalHoldCommand({
            Bucket: place.Bucket,
            Key,
            VersionId,
            LegalHold: { Status: "ON" },
          }),
        ),
      /^under a legal hold/,
    ],
  ])("%s: stays whole, says until when, and keeps nothing else from going", async (_what, lock, why) => {
    const place = await Place.make();
    const { go, left } = await place.some();
    const [held = fail(), ...others] = go;
    await lock(place, held);
    const before = await place.versions();
    const { code, stderr, result } = await place.prune();
    expect(code, stderr).toBe(0);
    expect(names(await place.versions())).toEqual(without(before, [...others.flatMap(partsOf), left]));
    const row = (result.backups as { version_id: string; why: string; keep: boolean }[]).find(
      ({ version_id }) => version_id === held.snapshot.VersionId,
    );
    expect(row).toMatchObject({ keep: true, why: expect.stringMatching(why) });
  });

  test("a mark alone holds nothing up: it goes once its lock is over", async () => {
    const place = await Place.make();
    const { go, left } = await place.some();
    const mark = go[0]?.mark ?? fail();
    await place.lock(mark, 40);
    const before = await place.versions();
    const first = await place.prune();
    expect(first.code, first.stderr).toBe(0);
    expect(first.result.refused).toMatchObject([{ object: mark.Key, version_id: mark.VersionId }]);
    const gone = [...go.flatMap(partsOf), left];
    const rest = gone.filter((one) => one !== mark);
    expect(names(await place.versions())).toEqual(without(before, rest));
    await place.lock(mark, -1);
    expect((await place.prune()).code).toBe(0);
    expect(names(await place.versions())).toEqual(without(before, gone));
  });

  test("is locked just before it would go: refused, told, the backup whole, the rest done", async () => {
    const place = await Place.make();
    const { go, left } = await place.some();
    const [held = fail(), ...others] = go;
    const before = await place.versions();
    let met = 0;
    await withS3Window(
      async ({ env }) => {
        const { code, stderr, result } = await place.prune(env);
        expect(code, stderr).toBe(0);
        expect(stderr).toContain("stays: locked until");
        expect(result.refused).toMatchObject([{ version_id: held.manifest.VersionId }]);
      },
      { before: (call) => (isDeletion(call) && met++ === 0 ? place.lock(held.manifest, 40) : undefined) },
    );
    expect(names(await place.versions())).toEqual(without(before, [...others.flatMap(partsOf), left]));
    expect(prunedEvents([held.snapshot])).toEqual([]);
  });
});

describe("meanwhile", () => {
  test("the newest opened one is gone between the look and the deletion: nothing goes", async () => {
    const place = await Place.make();
    const day = ago(69);
    await place.backup(firstOfMonth(day), 0);
    for (const hour of [2, 3, 14]) await place.backup(day, hour);
    const before = await place.versions();
    let lists = 0;
    const take = async () => {
      // Of all but the very first one, so that none is newer than an opened one any more.
      for (const { Key, VersionId } of before.filter(({ Key }) => /opened-.*T(03|14)0000Z/.test(Key)))
        await s3.send(new DeleteObjectCommand({ Bucket: place.Bucket, Key, VersionId }));
    };
    await withS3Window(
      async ({ env, calls }) => {
        const { code, stderr, result } = await place.prune(env);
        expect(code, stderr).toBe(0);
        expect((result.backups as { keep: boolean }[]).filter(({ keep }) => !keep).length).toBe(2);
        expect(result.deleted_versions).toBe(0);
        expect(calls.filter(isDeletion)).toEqual([]);
      },
      { before: (call) => (call.includes("versions") && ++lists === 2 ? take() : undefined) },
    );
    expect((await place.versions()).length).toBe(before.length - 2);
  });

  test("a backup is made while others are deleted: it stays whole", async () => {
    const place = await Place.make();
    const { go, left } = await place.some();
    const before = await place.versions();
    let met = 0;
    let made: Record<string, unknown> = {};
    await withS3Window(
      async ({ env }) => {
        const { code, stderr } = await place.prune(env);
        expect(code, stderr).toBe(0);
      },
      {
        before: async (call) => {
          if (isDeletion(call) && met++ === 0) made = (await run(["backup-vault"], place.env)).result;
        },
      },
    );
    const now = names(await place.versions());
    expect(now.filter((one) => !names(before).includes(one)).length).toBe(2);
    expect(now).toContain(`${made.object} ${made.version_id}`);
    expect(now).toEqual(expect.arrayContaining(without(before, [...go.flatMap(partsOf), left])));
    expect(now.length).toBe(before.length - go.flatMap(partsOf).length - 1 + 2);
  });

  test("a backup has its snapshot and not yet its manifest: it is no leftover", async () => {
    const place = await Place.make();
    await place.some();
    let pruned: Awaited<ReturnType<Place["prune"]>> | undefined;
    await withS3Window(
      async ({ env }) => {
        const { code, stderr, result } = await run(["backup-vault"], { ...place.env, ...env });
        expect(code, stderr).toBe(0);
        expect(pruned?.code, pruned?.stderr).toBe(0);
        const listed = await run(["list-backups"], place.env);
        expect(JSON.stringify(listed.result.backups)).toContain(String(result.version_id));
      },
      {
        before: async (call) => {
          if (/^PUT .*manifest\.json/.test(call)) pruned = await place.prune();
        },
      },
    );
    expect(pruned?.result.deleted_versions).toBe(3 * 3 + 1);
  });
});

describe("killed, and run again", () => {
  // One request for the manifests, one for the marks, one for the snapshots: the first test sees that there are no more.
  const MOMENTS = [1, 2, 3].flatMap((nth) => [["before", nth] as const, ["after", nth] as const]);

  test("there are three deletions to be killed at", async () => {
    const place = await Place.make();
    await place.some();
    await withS3Window(async ({ env, calls }) => {
      expect((await place.prune(env)).code).toBe(0);
      expect(calls.filter(isDeletion).length).toBe(MOMENTS.length / 2);
    });
  });

  test.each(MOMENTS)(
    "%s deletion %i: no manifest without its snapshot, and the same command completes",
    async (when, nth) => {
      const place = await Place.make();
      const { stay, go, left } = await place.some();
      const before = await place.versions();
      let met = 0;
      const gate = async (call: string) => {
        if (!isDeletion(call) || ++met !== nth) return;
        killed.signal("SIGKILL");
        await killed.ended;
        // What was killed before its request was sent has sent none.
        if (when === "before") throw new Error("never sent");
      };
      let killed: ReturnType<typeof begin>;
      await withS3Window(
        async ({ env }) => {
          killed = begin(["prune-backups", "--yes"], { ...AUTOMATION, ...place.env, ...env });
          expect((await killed.ended).code).toBeNull();
        },
        { [when]: gate },
      );
      await expectNoHalves(place, [...stay, ...go]);
      expect(names(await place.versions())).toEqual(
        expect.arrayContaining(without(before, [...go.flatMap(partsOf), left])),
      );
      const { code, stderr } = await place.prune();
      expect(code, stderr).toBe(0);
      expect(names(await place.versions())).toEqual(without(before, [...go.flatMap(partsOf), left]));
      const told = prunedEvents([...go.map(({ snapshot }) => snapshot), left]);
      expect(told.map(({ version_id }) => version_id).sort()).toEqual(
        [...go.map(({ snapshot }) => snapshot), left].map(({ VersionId }) => VersionId).sort(),
      );
    },
  );

  test.each([
    ["one manifest of three", ({ go }: { go: Seeded[] }) => [go[0]?.manifest]],
    [
      "all manifests and one mark",
      ({ go }: { go: Seeded[] }) => [...go.map(({ manifest }) => manifest), go[1]?.mark],
    ],
    [
      "all but one snapshot",
      ({ go }: { go: Seeded[] }) => go.flatMap(partsOf).filter((one) => one !== go[2]?.snapshot),
    ],
  ])("the bucket had got as far as %s", async (_what, done) => {
    const place = await Place.make();
    const { go, left } = await place.some();
    const before = await place.versions();
    for (const version of done({ go }))
      await s3.send(new DeleteObjectCommand({ Bucket: place.Bucket, ...version, Key: version?.Key }));
    const { code, stderr } = await place.prune();
    expect(code, stderr).toBe(0);
    expect(names(await place.versions())).toEqual(without(before, [...go.flatMap(partsOf), left]));
  });
});

test("two at once do no more than one", async () => {
  const place = await Place.make();
  const { go, left } = await place.some();
  const before = await place.versions();
  const both = await Promise.all([place.prune(), place.prune()]);
  for (const { code, stderr } of both) expect(code, stderr).toBe(0);
  expect(names(await place.versions())).toEqual(without(before, [...go.flatMap(partsOf), left]));
  expect(dayOf(new Date())).toBe(ago(0));
});
