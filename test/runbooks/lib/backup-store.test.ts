// The bucket of the backups, against a real server: parts that fail, objects that are hidden, and more than a listing's
// page of them.
import { createHash, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
} from "@aws-sdk/client-s3";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { BackupStore } from "../../../runbooks/lib/backup-store.ts";
import { backupDay, backupKey, backupObject, markName, SNAPSHOT } from "../../../stacks/names.ts";
import { Moto } from "./fixtures/moto.ts";

let moto: Moto;
let bucket: string;
let count = 0;
beforeAll(async () => {
  moto = await Moto.start();
  // The client reads its keys from the process's own variables.
  Object.assign(process.env, moto.env);
});
afterAll(() => moto.down());
beforeEach(async () => {
  bucket = `backups-${++count}`;
  await moto.makeBucket(bucket);
});

const store = () => new BackupStore(bucket, "backup", moto.env);
const DAY = backupDay("2026-02-28") ?? fail();
const KEY = backupKey(DAY, SNAPSHOT);
const MIB = 1_048_576;
const inChunks = (bytes: Buffer) =>
  Readable.from(
    (function* () {
      for (let at = 0; at < bytes.length; at += 100_000) yield bytes.subarray(at, at + 100_000);
    })(),
    { objectMode: false },
  );
const put = (Key: string, Body = "{}") => moto.s3.send(new PutObjectCommand({ Bucket: bucket, Key, Body }));
const uploads = async () =>
  (await moto.s3.send(new ListMultipartUploadsCommand({ Bucket: bucket }))).Uploads ?? [];
const versionsOf = async () =>
  (await moto.s3.send(new ListObjectVersionsCommand({ Bucket: bucket }))).Versions ?? [];

function fail(): never {
  throw new Error("no day");
}

describe("an upload", () => {
  test.each([0, 1, 5 * MIB, 8 * MIB, 20 * MIB + 3])(
    "of %i bytes is stored as it was sent",
    async (length) => {
      const bytes = randomBytes(length);
      const stored = await store().upload(KEY, inChunks(bytes));
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      expect(stored).toMatchObject({ bytes: length, sha256 });
      expect(await store().measure({ key: KEY, versionId: stored.versionId })).toEqual({
        bytes: length,
        sha256,
      });
      const found = await moto.s3.send(
        new GetObjectCommand({ Bucket: bucket, Key: KEY, VersionId: stored.versionId }),
      );
      expect(Buffer.from((await found.Body?.transformToByteArray()) ?? []).equals(bytes)).toBe(true);
    },
  );

  test.each([100_000, 9 * MIB, 40 * MIB])(
    "whose stream fails after %i bytes fails with its error, is aborted and leaves nothing",
    async (length) => {
      async function* broken() {
        yield* inChunks(randomBytes(length));
        throw new Error("the snapshot was cut");
      }
      const failed = store().upload(KEY, Readable.from(broken(), { objectMode: false }));
      await expect(failed).rejects.toThrow("the snapshot was cut");
      expect(await uploads()).toEqual([]);
      expect(await versionsOf()).toEqual([]);
    },
  );

  test("of which one part is refused again and again is aborted and leaves nothing", async () => {
    await throughProxy(
      (call) => (call.includes("partNumber=3") ? 500 : undefined),
      async (env) => {
        const failed = new BackupStore(bucket, "backup", env).upload(KEY, inChunks(randomBytes(60 * MIB)));
        await expect(failed).rejects.toThrow(`s3://${bucket}: can't store ${KEY}`);
      },
    );
    expect(await uploads()).toEqual([]);
    expect(await versionsOf()).toEqual([]);
  });

  test("of which one part is refused once succeeds", async () => {
    let refused = 0;
    const bytes = randomBytes(20 * MIB);
    await throughProxy(
      (call) => (call.includes("partNumber=2") && refused++ === 0 ? 503 : undefined),
      async (env) => {
        const stored = await new BackupStore(bucket, "backup", env).upload(KEY, inChunks(bytes));
        expect(stored.sha256).toBe(createHash("sha256").update(bytes).digest("hex"));
      },
    );
    expect(refused).toBe(2);
  });

  test("to a bucket that keeps no versions is refused", async () => {
    await throughProxy(
      () => undefined,
      async (env) => {
        const failed = new BackupStore(bucket, "backup", env).putJson(KEY, {});
        await expect(failed).rejects.toThrow("keeps no versions");
      },
      ["x-amz-version-id"],
    );
  });
});

describe("what lies there", () => {
  test("is found behind delete markers, overwritten on the same day, and past 1,000 objects", async () => {
    // As many foreign ones as fill a page, in front of ours.
    for (let start = 0; start < 1_050; start += 50)
      await Promise.all(Array.from({ length: 50 }, (_, n) => put(`backups/0-foreign/${start + n}`)));
    for (const body of ["first", "second"]) await put(KEY, body);
    await put(backupKey(DAY, "manifest.json"));
    await moto.s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: KEY }));
    const found = await store().versions();
    expect(found.map(({ kind, bytes, hidden }) => [kind, bytes, hidden])).toEqual([
      ["snapshot", 6, true],
      ["snapshot", 5, true],
      ["manifest", 2, false],
    ]);
  }, 120_000);

  test("comes with the newest day first, and without anything foreign", async () => {
    const days = ["2026-02-28", "2024-02-29", "2026-03-01", "2026-02-29", "2026-13-01", "latest"];
    for (const day of days) await put(`backups/${day}/${SNAPSHOT}`);
    await put(`backups/${SNAPSHOT}`);
    await put("backups/2026-02-28/deeper/manifest.json");
    expect((await store().versions()).map(({ day }) => day)).toEqual([
      "2026-03-01",
      "2026-02-28",
      "2024-02-29",
    ]);
  });

  test("is locked for longer, never for less", async () => {
    const { VersionId = "" } = await put(KEY);
    const at = { key: KEY, versionId: VersionId };
    expect(await store().lockedUntil(at)).toBeUndefined();
    const year = new Date("2028-01-01T00:00:00Z");
    await store().lockUntil(at, year);
    await store().lockUntil(at, new Date("2027-01-01T00:00:00Z"));
    expect(await store().lockedUntil(at)).toEqual(year);
  });
});

test("an object's name says what it is, or that it is foreign", () => {
  expect(backupObject("backups/2026-02-28/vault-snapshot.enc")).toEqual({
    day: "2026-02-28",
    kind: "snapshot",
  });
  const mark = markName("opened", new Date("2026-02-28T02:03:04.567Z"));
  expect(mark).toBe("opened-20260228T020304Z.json");
  expect(backupObject(`backups/2026-02-28/${mark}`)).toEqual({ day: "2026-02-28", kind: "opened" });
  for (const foreign of [
    "audit/x/1.json",
    "backups/2026-02-30/manifest.json",
    "backups/2026-02-28/opened-x.json",
  ])
    expect(backupObject(foreign)).toBeUndefined();
});

/** Runs `work` with a proxy before moto that answers a call with a status of its own, and can drop headers of answers. */
async function throughProxy(
  fate: (call: string) => number | undefined,
  work: (env: Record<string, string>) => Promise<void>,
  without: string[] = [],
): Promise<void> {
  const server = createServer((asked, answer) => {
    const status = fate(`${asked.method} ${asked.url}`);
    if (status === undefined) forward(asked, answer, without);
    else asked.resume().on("end", () => answer.writeHead(status).end());
  });
  await listening(server);
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const before = process.env.AWS_ENDPOINT_URL;
  process.env.AWS_ENDPOINT_URL = endpoint;
  try {
    await work({ ...moto.env, AWS_ENDPOINT_URL: endpoint });
  } finally {
    process.env.AWS_ENDPOINT_URL = before;
    server.closeAllConnections();
    server.close();
  }
}

function forward(asked: IncomingMessage, answer: ServerResponse, without: string[]): void {
  const { method, headers, url } = asked;
  const target = request(`${moto.env.AWS_ENDPOINT_URL}${url}`, { method, headers }, (got) => {
    const kept = Object.entries(got.headers).filter(([name]) => !without.includes(name));
    answer.writeHead(got.statusCode ?? 500, Object.fromEntries(kept));
    got.pipe(answer);
  });
  asked.pipe(target);
}

const listening = (server: Server): Promise<void> =>
  new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
