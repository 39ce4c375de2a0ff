// `restore-vault` where the new Vault's disk is too small for the snapshot: Vault says 204 to it all the same, and tells
// its log alone. Here it must be told aloud, and the same command must finish the job once there is room. Takes root,
// for a small disk.
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { canLogIn } from "../../scripts/drill/doors.ts";
import { TENANTS } from "../../scripts/lab/tenants.ts";
import { backUp } from "./backup.ts";
import { addressOf, lab, vault } from "./lab.ts";
import { passwordOf } from "./rebuilt.ts";
import { ask, isNew, logInAgain, openNewest, restore, restorerToken, shares, turnVault } from "./restores.ts";

vi.setConfig({ testTimeout: 600_000, hookTimeout: 300_000 });

const MIB = 1_048_576;
/** What makes the snapshot large: in a mount that is no tenant's. */
const BULK_MIB = 12;
/** Enough for an empty Vault, and not for that. */
const ROOM_MIB = 8;
const disk = join(lab.place.dir, "vault", "data");
const filler = join(disk, "filler");
const fill = (): void => {
  const { bavail, bsize } = statfsSync(disk);
  writeFileSync(filler, Buffer.alloc(bavail * bsize - ROOM_MIB * MIB));
};
const shell = (command: string) => execFileSync("sh", ["-ec", command]);

beforeAll(async () => {
  await vault("POST", "sys/mounts/bulk", { type: "kv", options: { version: "1" } });
  for (let at = 0; at < BULK_MIB * 2; at++)
    await vault("POST", `bulk/${at}`, { bytes: randomBytes(MIB / 4).toString("hex") });
  await backUp();
  await openNewest();
  await turnVault("stopped");
  shell(`mount -t tmpfs -o size=${BULK_MIB * 8}m none '${disk}'`);
  await turnVault("restarted");
});

// The lab's Vault is everybody's: its data goes back to where it was.
afterAll(async () => {
  rmSync(filler, { force: true });
  if (await isNew()) await restore();
  await logInAgain();
  await vault("DELETE", "sys/mounts/bulk");
  await turnVault("stopped");
  shell(`cp -a '${disk}' '${disk}.kept'; umount '${disk}'; rm -rf '${disk}'; mv '${disk}.kept' '${disk}'`);
  await turnVault("restarted");
  for (const key of shares().split("\n")) await ask("PUT", "sys/unseal", "", { key });
  await vi.waitFor(async () => expect((await ask("GET", "sys/health")).status).toBe(200), {
    timeout: 30_000,
  });
});

test("is incomplete on a full disk, however often, and finished by the same command once there is room", async () => {
  fill();
  // The second time the empty Vault itself is what knows its key shares.
  for (const round of ["a new Vault", "the empty one"]) {
    const full = await restore();
    expect(full.code, round + full.stderr).toBe(5);
    expect(full.stderr).toMatch(
      /could not install it: it is as empty as before\nnext: {2}.*df -h.*the same command again/,
    );
    expect(await ask("GET", "sys/health")).toMatchObject({ status: 200 });
  }

  rmSync(filler);
  const done = await restore();
  expect(done.code, done.stderr).toBe(0);
  expect(done.stderr).not.toContain("initialise it");
  await logInAgain();
  expect(Object.keys((await vault("LIST", "bulk")) as object)).not.toHaveLength(0);
  for (const tenant of TENANTS)
    expect(await canLogIn(await addressOf(tenant.id), tenant, await passwordOf(tenant))).toBe(true);
});

test("leaves a living Vault as it was, and its people signed in, when its disk has no room for the backup", async () => {
  const marker = "bulk/written-after-the-backup";
  await vault("POST", marker, { yes: true });
  fill();
  const keep = join(lab.place.dir, `kept-${randomBytes(4).toString("hex")}.enc`);
  const env = { VAULT_TOKEN: restorerToken() };
  const full = await restore(["--over-live", "--cluster", "lab", "--keep", keep], { env });
  rmSync(filler);
  expect(full.code, full.stderr).toBe(5);
  expect(full.stderr).toMatch(
    /could not install it: it holds what it held before\nnext: {2}.*df -h.*the same command again/,
  );
  expect((await ask("GET", marker, lab.rootToken)).status).toBe(200);
  for (const token of [lab.operatorToken, restorerToken()])
    expect((await ask("GET", "auth/token/lookup-self", token)).status).toBe(200);
});
