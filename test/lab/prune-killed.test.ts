// `runbook prune-backups` killed before and after each of its deletions: no half of a backup stays, and the same command
// completes.
import { DeleteObjectCommand } from "@aws-sdk/client-s3";
import { describe, expect, test } from "vitest";
import { partsOf, type Seeded } from "../runbooks/lib/fixtures/seeded-backup.ts";
import { AUTOMATION, s3 } from "./backup.ts";
import { begin } from "./killed.ts";
import { isDeletion, names, Place, prunedEvents, without } from "./prune-place.ts";
import { withS3Window } from "./s3-window.ts";

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

/** No manifest speaks of a snapshot that is gone. */
async function expectNoHalves(place: Place, all: Seeded[]): Promise<void> {
  const there = new Set(names(await place.versions()));
  for (const { manifest, snapshot } of all)
    if (there.has(names([manifest])[0] ?? "")) expect(there).toContain(names([snapshot])[0]);
}
