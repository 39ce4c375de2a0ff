import { describe, expect, test } from "vitest";
import { assemble, chosen, newest, proofCommand, restorable } from "../../../runbooks/lib/backup-catalog.ts";
import type { ObjectVersion } from "../../../runbooks/lib/backup-store.ts";
import { type BackupDay, backupKey, dayOf, MANIFEST, markName, SNAPSHOT } from "../../../stacks/names.ts";

const day = (text: string) => text as BackupDay;
let count = 0;

function object(kind: ObjectVersion["kind"], on: string, more: Partial<ObjectVersion> = {}): ObjectVersion {
  const name =
    kind === "snapshot"
      ? SNAPSHOT
      : kind === "manifest"
        ? MANIFEST
        : markName(kind, new Date(`${on}T03:00:00Z`));
  const key = backupKey(day(on), name);
  return {
    key,
    versionId: `v${++count}`,
    bytes: 1000,
    uploaded: new Date(),
    day: day(on),
    kind,
    hidden: false,
    ...more,
  };
}

/** A backup of that day: snapshot, manifest and, if asked for, the mark of whoever opened it. */
function backup(on: string, { at = "02:00:00", opened = true, manifest = {} as object } = {}) {
  const snapshot = object("snapshot", on);
  const canary = { date: on, nonce: "n".repeat(32), version: 1, written: `${on}T${at}Z`, raft_index: 7 };
  const sha = "a".repeat(64);
  const content = {
    format: 1,
    date: on,
    run: "r",
    created: `${on}T${at}Z`,
    seconds: 2,
    object: snapshot.key,
    version_id: snapshot.versionId,
    plain_bytes: 900,
    plain_sha256: sha,
    sealed_bytes: 1000,
    sealed_sha256: sha,
    sealed_to: [{ provider: "aws-kms", key: "arn" }],
    canary,
    raft_index: 8,
    raft_term: 3,
    vault_version: "1.21.0",
    cluster_name: "lab",
    cluster_id: "id",
    seal_type: "shamir",
    shares: 3,
    threshold: 2,
    audit_paths: [],
    tenants: ["acme"],
    ...manifest,
  };
  const mark = {
    format: 1,
    date: on,
    version_id: snapshot.versionId,
    plain_sha256: sha,
    canary,
    key: "k",
    run: "r",
  };
  const documents = [
    { object: object("manifest", on), content: content as unknown },
    ...(opened
      ? [{ object: object("opened", on), content: { ...mark, at: `${on}T03:00:00Z`, seconds: 1 } }]
      : []),
  ];
  return { snapshot, documents };
}

const catalogOf = (...backups: ReturnType<typeof backup>[]) =>
  assemble(
    backups.map(({ snapshot }) => snapshot),
    backups.flatMap(({ documents }) => documents),
  );

describe("a catalog", () => {
  test("has the newest first, by the day in the name and then by the canary's time", () => {
    const catalog = catalogOf(
      backup("2026-02-28"),
      backup("2026-03-01", { at: "02:00:00" }),
      backup("2026-03-01", { at: "14:00:00", opened: false }),
      backup("2024-02-29"),
    );
    expect(catalog.backups.map(({ manifest, opened }) => [manifest.canary.written, opened.length])).toEqual([
      ["2026-03-01T14:00:00Z", 0],
      ["2026-03-01T02:00:00Z", 1],
      ["2026-02-28T02:00:00Z", 1],
      ["2024-02-29T02:00:00Z", 1],
    ]);
    expect(catalog.broken).toEqual([]);
  });

  test("knows the command that proves its newest one: where a KMS opens its Vault, with a place to put it", () => {
    const [shamir, kms] = [backup("2026-03-01"), backup("2026-03-02", { manifest: { seal_type: "awskms" } })];
    const restore = "npx runbook verify-backup --restore";
    expect(proofCommand(catalogOf())).toBe(restore);
    expect(proofCommand(catalogOf(shamir))).toBe(restore);
    expect(proofCommand(catalogOf(shamir, kms))).toBe(`${restore} --into ADDR`);
    expect(proofCommand(catalogOf(backup("2026-03-03"), kms))).toBe(restore);
  });

  test("takes a mark for the object that it names, and for no other", () => {
    const [first, second] = [backup("2026-03-01"), backup("2026-03-01", { opened: false })];
    const opened = catalogOf(first, second).backups.map(({ object, opened }) => [
      object.versionId,
      opened.length,
    ]);
    expect(Object.fromEntries(opened)).toEqual({
      [first.snapshot.versionId]: 1,
      [second.snapshot.versionId]: 0,
    });
  });

  test.each<[string, ReturnType<typeof backup>, ObjectVersion[], string]>([
    ["whose snapshot is gone", backup("2026-03-01"), [], "its snapshot is gone"],
    [
      "whose manifest is none",
      backup("2026-03-01", { manifest: { sealed_sha256: "x" } }),
      [],
      "not a manifest",
    ],
    [
      "of another day",
      backup("2026-03-01", { manifest: { date: "2026-03-02" } }),
      [],
      "the manifest of another day",
    ],
    ["of another size", backup("2026-03-01", { manifest: { sealed_bytes: 999 } }), [], "and not 999"],
  ])("says of one %s that it is no backup, and why", (_what, one, _objects, why) => {
    const snapshots = why === "its snapshot is gone" ? [] : [one.snapshot];
    const { backups, broken } = assemble(snapshots, one.documents);
    expect(backups).toEqual([]);
    expect(broken.map((entry) => entry.why).join()).toContain(why);
  });

  test("says of a snapshot without a manifest that its run did not end", () => {
    expect(assemble([object("snapshot", "2026-03-01")], []).broken[0]?.why).toContain("its run did not end");
  });
});

describe("what is broken is either what a dead run leaves, or for a person to judge", () => {
  const gone = backup("2026-03-01");
  const [manifest, mark] = gone.documents;
  const broken = (snapshots: ObjectVersion[], documents: typeof gone.documents) =>
    assemble(snapshots, documents).broken.map(({ object, why, unclear }) => [object.kind, why, unclear]);

  test("a manifest without its snapshot, a snapshot and marks without their manifest are left", () => {
    expect(broken([], gone.documents)).toEqual([
      ["manifest", "its snapshot is gone", false],
      ["opened", "its backup is gone", false],
    ]);
    expect(broken([gone.snapshot], mark === undefined ? [] : [mark])).toEqual([
      ["snapshot", "no manifest speaks of it: its run did not end", false],
      ["opened", "its backup is gone", false],
    ]);
  });

  test("what can't be read or contradicts itself is for a person, be it of a newer release or forged", () => {
    const other = (content: object) => [
      { object: object("manifest", "2026-03-01"), content: content as unknown },
    ];
    const own = manifest?.content as object;
    const unclear = [
      other({ ...own, format: 2 }),
      other({ ...own, date: "2026-03-02" }),
      other({ ...own, sealed_bytes: 1 }),
    ];
    for (const documents of unclear)
      expect(broken([gone.snapshot], documents)[0]).toEqual(["manifest", expect.any(String), true]);
    expect(
      broken([], [{ object: object("opened", "2026-03-01"), content: { format: 2 } as unknown }]),
    ).toEqual([["opened", "not a mark", true]]);
  });
});

describe("the newest", () => {
  const now = new Date("2026-03-01T23:59:00Z");
  test("is never one from the future", () => {
    expect(
      newest(catalogOf(backup("2099-01-01"), backup("2026-03-02"), backup("2026-03-01")), now)?.day,
    ).toBe("2026-03-01");
    expect(newest(catalogOf(backup("2099-01-01")), now)).toBeUndefined();
  });
});

test("a date chooses what is there, or says that nothing is", () => {
  const today = dayOf(new Date());
  const catalog = catalogOf(backup("2026-01-01"), backup(today), backup(today));
  expect(chosen(catalog, day(today), "b").length).toBe(2);
  expect(chosen(catalog, "latest", "b").map((one) => one.day)).toEqual([today]);
  expect(chosen(catalog, "all", "b").length).toBe(3);
  expect(() => chosen(catalog, day("2025-01-01"), "b")).toThrow("There is no backup of 2025-01-01 in s3://b");
  expect(() => chosen(catalogOf(), "latest", "b")).toThrow("There is no backup in s3://b");
});

test("a restore takes the newest opened one, and an unopened one only where its day was named", () => {
  const catalog = catalogOf(
    backup("2026-02-28", { at: "02:00:00" }),
    backup("2026-02-28", { at: "14:00:00", opened: false }),
    backup("2026-03-01", { opened: false }),
  );
  expect(restorable(catalog, "latest", "b").manifest.canary.written).toBe("2026-02-28T02:00:00Z");
  expect(restorable(catalog, day("2026-02-28"), "b").manifest.canary.written).toBe("2026-02-28T02:00:00Z");
  expect(restorable(catalog, day("2026-03-01"), "b").opened).toEqual([]);
  const unopened = catalogOf(backup("2026-03-01", { opened: false }));
  expect(() => restorable(unopened, "latest", "b")).toThrow("No backup in s3://b was opened");
  expect(() => restorable(catalog, day("2025-01-01"), "b")).toThrow("no backup of 2025-01-01");
  expect(() => restorable(catalogOf(), "latest", "b")).toThrow("There is no backup in s3://b");
});
