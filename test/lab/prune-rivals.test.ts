// `runbook prune-backups` beside others that work on the same bucket: a backup, another pruner, somebody who deletes.
import { DeleteObjectCommand } from "@aws-sdk/client-s3";
import { describe, expect, test } from "vitest";
import { dayOf } from "../../stacks/names.ts";
import { ago, firstOfMonth, partsOf } from "../runbooks/lib/fixtures/seeded-backup.ts";
import { run, s3 } from "./backup.ts";
import { isDeletion, names, Place, without } from "./prune-place.ts";
import { withS3Window } from "./s3-window.ts";

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

test("two at once do no more than one", async () => {
  const place = await Place.make();
  const { go, left } = await place.some();
  const before = await place.versions();
  const both = await Promise.all([place.prune(), place.prune()]);
  for (const { code, stderr } of both) expect(code, stderr).toBe(0);
  expect(names(await place.versions())).toEqual(without(before, [...go.flatMap(partsOf), left]));
  expect(dayOf(new Date())).toBe(ago(0));
});
