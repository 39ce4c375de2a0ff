import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { afterAll, expect, test } from "vitest";
import type { CatalogEntry } from "../../../runbooks/lib/backup-catalog.ts";
import type { BackupStore } from "../../../runbooks/lib/backup-store.ts";
import { opener, sealContext } from "../../../runbooks/lib/open-backup.ts";
import { seal } from "../../../runbooks/lib/seal.ts";
import { aesKeyFile } from "../../../runbooks/lib/seal-keys.ts";
import { raftArchive } from "../../../scripts/bench/raft-archive.ts";
import type { BackupDay } from "../../../stacks/names.ts";

const folder = mkdtempSync(join(tmpdir(), "open-backup-"));
afterAll(() => rmSync(folder, { recursive: true }));
writeFileSync(join(folder, "aes.key"), randomBytes(32), { mode: 0o600 });
const key = aesKeyFile(join(folder, "aes.key"));

const canary = { date: "2026-03-01" as BackupDay, nonce: "n1", raft_index: 40 };
const sealed = async (plain: Buffer) =>
  buffer(await seal(Readable.from([plain]), [key], sealContext(canary)));
const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
const entry = (plain: Buffer, bytes: Buffer) =>
  ({
    day: canary.date,
    object: { key: "backups/2026-03-01/vault-snapshot.enc", versionId: "v1" },
    manifest: {
      canary,
      raft_index: 42,
      plain_bytes: plain.length,
      plain_sha256: sha256(plain),
      sealed_bytes: bytes.length,
      sealed_sha256: sha256(bytes),
    },
  }) as unknown as CatalogEntry;

/** A bucket that gives one after the other. */
const giving = (...bytes: Buffer[]) => {
  const left = [...bytes];
  return { read: async () => Readable.from([left.shift()]) } as unknown as BackupStore;
};

const whole = await buffer(raftArchive({ stateBytes: 5_000 }));
const itsBytes = await sealed(whole);

test("a backup opens as often as it's asked for", async () => {
  const open = opener(giving(itsBytes, itsBytes, itsBytes), key, entry(whole, itsBytes));
  for (let time = 0; time < 3; time++) expect((await buffer(await open())).equals(whole)).toBe(true);
});

test("one that opened once is refused when the bucket gives another the next time, though that is whole", async () => {
  const other = await sealed(await buffer(raftArchive({ stateBytes: 5_000 })));
  const open = opener(giving(itsBytes, other), key, entry(whole, itsBytes));
  await buffer(await open());
  await expect(open().then(buffer)).rejects.toThrow("it isn't what its manifest says: plain SHA-256");
});

test("one that isn't whole is refused every time, also where somebody turned away in the middle", async () => {
  const half = whole.subarray(0, whole.length - 200);
  const bytes = await sealed(half);
  const open = opener(giving(bytes, bytes, bytes), key, entry(half, bytes));
  await expect(open().then(buffer)).rejects.toThrow("can't be restored: it ends too early");
  (await open()).destroy();
  await expect(open().then(buffer)).rejects.toThrow("can't be restored: it ends too early");
});
