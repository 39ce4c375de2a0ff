// `runbook prune-backups` on backups that the bucket doesn't let go: a retention, a legal hold, a lock that comes just then.
import { PutObjectLegalHoldCommand } from "@aws-sdk/client-s3";
import { describe, expect, test } from "vitest";
import { partsOf, type Seeded } from "../runbooks/lib/fixtures/seeded-backup.ts";
import { s3 } from "./backup.ts";
import { fail, isDeletion, names, Place, prunedEvents, without } from "./prune-place.ts";
import { withS3Window } from "./s3-window.ts";

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
