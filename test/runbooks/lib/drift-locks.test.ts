// A stack's lock as the engine leaves it, in a folder and in a bucket: the engine's own preview would not look at it.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { PutObjectCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, expect, test } from "vitest";
import { requireUnlocked } from "../../../runbooks/lib/drift-locks.ts";
import { Moto } from "./fixtures/moto.ts";

const LOCK = JSON.stringify({
  pid: 4711,
  username: "x",
  hostname: "builder",
  timestamp: "2026-03-31T05:00:00Z",
});
const at = (stack: string) => `.pulumi/locks/organization/project/${stack}`;
const folder = mkdtempSync(join(tmpdir(), "locks-"));
let moto: Moto;

beforeAll(async () => {
  moto = await Moto.start();
  Object.assign(process.env, moto.env);
  await moto.makeBucket("state");
  const Key = `teams/mail/${at("tenant-acme")}/1.json`;
  await moto.s3.send(new PutObjectCommand({ Bucket: "state", Key, Body: LOCK }));
  mkdirSync(join(folder, at("tenant-acme")), { recursive: true });
  writeFileSync(join(folder, at("tenant-acme"), "1.json"), LOCK);
});
afterAll(async () => {
  await moto.down();
  rmSync(folder, { recursive: true });
});

const look = (backend: string, stack: string) =>
  requireUnlocked(new URL(backend), "project", stack, { ...process.env });

test.each([
  ["a folder", `${pathToFileURL(folder).href}?metadata=skip`],
  ["a bucket", "s3://state/teams/mail?region=eu-central-1"],
])("in %s a locked stack is told with who holds it, and another one isn't", async (_, backend) => {
  await expect(look(backend, "tenant-acme")).rejects.toThrow(
    "locked by another pulumi: process 4711 on builder",
  );
  await expect(look(backend, "tenant-ac")).resolves.toBeUndefined();
  await expect(look(backend, "platform")).resolves.toBeUndefined();
});

test("a bucket that can't be read is not taken for one without locks", async () => {
  await expect(look("s3://none/x", "platform")).rejects.toThrow(
    "Nobody can tell whether somebody works on the stacks",
  );
});
