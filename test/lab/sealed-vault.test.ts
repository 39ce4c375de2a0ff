// A Vault without a token, from its birth to a root token out of its shares: on real ones, each thrown away afterwards.
import { mkdirSync, rmSync } from "node:fs";
import { request } from "node:http";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { redact } from "../../runbooks/lib/redact.ts";
import { SealedVault } from "../../runbooks/lib/sealed-vault.ts";
import { startThrowaway } from "../../runbooks/lib/throwaway-process.ts";
import { Vault } from "../../runbooks/lib/vault.ts";
import { lab } from "./lab.ts";

async function emptyVault(): Promise<SealedVault> {
  const started = await startThrowaway(lab.env);
  onTestFinished(started.end);
  return started.vault;
}

async function openVault(
  n = 3,
  t = 2,
): Promise<{ vault: SealedVault; shares: string[]; root: Vault; token: string }> {
  const vault = await emptyVault();
  const { shares, rootToken } = await vault.init(n, t);
  await vault.unseal(shares.slice(0, t));
  await vault.awaitActive();
  return { vault, shares, token: rootToken, root: Vault.withToken({ ...vault.access, token: rootToken }) };
}

/** Past the code under test: what Vault itself answers. */
async function raw(vault: SealedVault, method: string, path: string, body?: unknown, token?: string) {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: unknown }>();
  const options = {
    method,
    path: `/v1/${path}`,
    socketPath: vault.access.socket,
    headers: token === undefined ? {} : { "X-Vault-Token": token },
  };
  request(options, async (answer) => {
    const said = await text(answer);
    resolve({ status: answer.statusCode ?? 0, body: said === "" ? undefined : JSON.parse(said) });
  })
    .on("error", reject)
    .end(body === undefined ? undefined : JSON.stringify(body));
  return promise;
}

const snapshotOf = (root: Vault): Promise<Readable> => root.download("sys/storage/raft/snapshot");

describe("a sealed Vault", { timeout: 120_000 }, () => {
  test("is made, opened, and gives a root token for its shares", async () => {
    const vault = await emptyVault();
    expect(await vault.health()).toBe(501);
    expect(await vault.status()).toMatchObject({ initialized: false, sealed: true });
    const { shares, rootToken } = await vault.init(5, 3);
    expect(shares).toHaveLength(5);
    for (const secret of [...shares, rootToken]) expect(redact(secret)).toBe("[redacted]");
    expect(await vault.health()).toBe(503);
    await vault.unseal(shares.slice(2));
    await vault.awaitActive();
    expect(await vault.status()).toMatchObject({ initialized: true, sealed: false, t: 3, n: 5 });
    const token = await vault.generateRoot(shares.slice(0, 3));
    expect(redact(token)).toBe("[redacted]");
    const self = await raw(vault, "GET", "auth/token/lookup-self", undefined, token);
    expect(self).toMatchObject({ status: 200, body: { data: { policies: ["root"] } } });
    await expect(vault.init(5, 3)).rejects.toMatchObject({ exitCode: 1 });
  });

  test("forgets what others typed before, and so does the making of a root token", async () => {
    const vault = await emptyVault();
    const { shares } = await vault.init(3, 2);
    const foreign = Buffer.alloc(33, 7).toString("base64");
    await raw(vault, "PUT", "sys/unseal", { key: foreign });
    expect((await vault.status()).progress).toBe(1);
    await vault.unseal(shares.slice(0, 2));
    await vault.awaitActive();

    const left = await raw(vault, "PUT", "sys/generate-root/attempt", {});
    const { nonce } = z.object({ nonce: z.string() }).parse(left.body);
    await raw(vault, "PUT", "sys/generate-root/update", { key: foreign, nonce });
    await vault.generateRoot(shares.slice(1));
    expect((await raw(vault, "GET", "sys/generate-root/attempt")).body).toMatchObject({ started: false });
  });

  test("stays sealed for wrong shares and too few, and takes no root token's attempt with it", async () => {
    const vault = await emptyVault();
    const { shares } = await vault.init(3, 2);
    const foreign = [1, 2].map((at) =>
      Buffer.concat([Buffer.alloc(32, 9), Buffer.from([at])]).toString("base64"),
    );
    await expect(vault.unseal(foreign)).rejects.toMatchObject({ exitCode: 4 });
    await expect(vault.unseal(shares.slice(0, 1))).rejects.toThrow("it has 1 of 2 shares");
    await expect(vault.unseal([shares[0] ?? "", "AAAA"])).rejects.toMatchObject({ exitCode: 4 });
    expect(await vault.health()).toBe(503);
    await vault.unseal(shares.slice(0, 2));
    await vault.awaitActive();
    await expect(vault.generateRoot(foreign)).rejects.toMatchObject({ exitCode: 4 });
    await expect(vault.generateRoot(shares.slice(0, 1))).rejects.toThrow("wants more key shares");
    expect((await raw(vault, "GET", "sys/generate-root/attempt")).body).toMatchObject({ started: false });
  });

  test("overwritten by a snapshot with another number of shares says that it must be restarted", async () => {
    const source = await openVault(3, 2);
    const target = await openVault(1, 1);
    await target.vault.restoreSnapshot(target.token, await snapshotOf(source.root));
    await target.vault.awaitSealed();
    const error = await target.vault.unseal(source.shares.slice(0, 2)).catch((caught: unknown) => caught);
    expect(error).toMatchObject({
      exitCode: 4,
      message: expect.stringContaining("invalid key size"),
      next: expect.stringContaining("restart Vault's process"),
    });
  });

  test("whose snapshot has no audit device that can be used is open and not active: it says which paths", async () => {
    const source = await openVault();
    const options = { type: "file", options: { file_path: "/tmp/audit/log" } };
    await source.root.write("sys/audit/file", options, z.unknown());
    const target = await openVault();
    // A directory where the file should be.
    const inThere = dirname(target.vault.access.socket ?? "");
    mkdirSync(join(inThere, "tmp", "audit", "log"), { recursive: true });
    await target.vault.restoreSnapshot(target.token, await snapshotOf(source.root));
    await target.vault.awaitSealed();
    await target.vault.unseal(source.shares.slice(0, 2));
    expect((await target.vault.status()).sealed).toBe(false);
    const told: string[] = [];
    const waiting = target.vault.awaitActive(["/tmp/audit/log"], {
      seconds: 5,
      onProgress: (line) => told.push(line),
    });
    await expect(waiting).rejects.toMatchObject({
      exitCode: 1,
      message: expect.stringContaining("none of the audit devices"),
      next: expect.stringContaining("/tmp/audit/log"),
    });
    expect(told.length).toBeGreaterThan(1);
    // Once the path is free it becomes active.
    rmSync(join(inThere, "tmp", "audit", "log"), { recursive: true });
    await target.vault.awaitActive([], { seconds: 60 });
  });

  test("that isn't there can't be reached: exit 1", async () => {
    const gone = new SealedVault({ addr: "http://127.0.0.1:1", namespace: undefined, ca: undefined });
    await expect(gone.status()).rejects.toMatchObject({ exitCode: 1 });
    await expect(gone.awaitActive([], { seconds: 0.5 })).rejects.toThrow("can't be reached");
  });
});
