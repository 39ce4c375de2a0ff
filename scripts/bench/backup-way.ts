// One way of a snapshot to or from the bucket, in a process of its own: `backup-way.ts FOLDER WAY MIB VERSION SINK`.
// Ways: `plain` stores it as it is, `seal` checks, seals and stores it; `load` and `open` bring those two back and send
// them on. It comes from, and goes to, the Vault of VAULT_ADDR; without one it's made here, and goes to whoever listens
// at SINK. Prints how long it took and the most memory.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { BackupStore } from "../../runbooks/lib/backup-store.ts";
import { collectSeldom, Meter, piped } from "../../runbooks/lib/piped.ts";
import { open, seal } from "../../runbooks/lib/seal.ts";
import { aesKeyFile, recoveryPublicKey } from "../../runbooks/lib/seal-keys.ts";
import { ArchiveCheck } from "../../runbooks/lib/snapshot-archive.ts";
import { Vault } from "../../runbooks/lib/vault.ts";
import { raftArchive } from "./raft-archive.ts";

const [, , folder = "", way = "", mib = "0", versionId = "", sink = ""] = process.argv;
const store = new BackupStore("bench", "backup", process.env);
const key = `backups/2026-01-01/${way === "plain" || way === "load" ? "plain" : "vault-snapshot.enc"}`;
const aes = aesKeyFile(join(folder, "backup.key"));
const { VAULT_ADDR: addr = "", VAULT_TOKEN: token = "" } = process.env;
const vault = addr === "" ? undefined : Vault.withToken({ addr, token, namespace: undefined, ca: undefined });
/** Milliseconds that Vault may take to go over to a snapshot. */
const INSTALLED_MS = 120_000;
const asIs = (error: unknown) => error as Error;
// As seal and open do it, for the ways without them too.
collectSeldom();
// The server's first answer and the loading of libraries are no part of the rate.
await store.putJson("backups/warm-up", {});
const restoring = vault !== undefined && (way === "load" || way === "open");
if (restoring) await later("POST");
let sentSeconds = 0;
const { seconds, id } = await timed();
const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage();
const cpuSeconds = (userCPUTime + systemCPUTime) / 1e6;
process.stdout.write(
  JSON.stringify({ seconds, sentSeconds, cpuSeconds, peakMiB: Math.round(maxRSS / 1024), versionId: id }),
);

async function timed(): Promise<{ seconds: number; id: string }> {
  await import("@aws-crypto/client-node");
  const start = performance.now();
  const id = await act();
  sentSeconds = (performance.now() - start) / 1000;
  if (restoring) await untilEarlier();
  return { seconds: (performance.now() - start) / 1000, id };
}

async function act(): Promise<string> {
  if (way === "load" || way === "open") {
    const stored = await store.read({ key, versionId });
    if (way === "load") await send(piped(stored, [new Meter()], asIs));
    else {
      // What goes into a Vault was hashed as it lies, and unpacked, on its way into a throwaway one.
      const first = vault === undefined;
      const sealed = piped(stored, first ? [new Meter()] : [], asIs);
      await send(piped(await open(sealed, aes), [new Meter(), ...(first ? [new ArchiveCheck()] : [])], asIs));
    }
    return versionId;
  }
  const archive =
    (await vault?.download("sys/storage/raft/snapshot")) ??
    raftArchive({ stateBytes: Number(mib) * 1_048_576 });
  if (way === "plain") return (await store.upload(key, archive)).versionId;
  const recovery = recoveryPublicKey(readFileSync(join(folder, "recovery.pub.pem"), "utf8"));
  const whole = piped(archive, [new Meter(), new ArchiveCheck()], asIs);
  return (await store.upload(key, await seal(whole, [aes, recovery], {}))).versionId;
}

/** Not by fetch: what it takes as a body is read ahead without a bound. */
async function send(body: Readable): Promise<void> {
  if (vault !== undefined) {
    await vault.upload("sys/storage/raft/snapshot-force", body);
    return;
  }
  const asked = request(sink, { method: "POST" });
  const answered = once(asked, "response") as Promise<[IncomingMessage]>;
  await pipeline(body, asked);
  const [answer] = await answered;
  answer.resume();
  if (answer.statusCode !== 200) throw new Error(`the sink answered ${answer.statusCode}`);
}

/** A change behind the snapshot, by which it's seen when Vault has gone back to that. */
function later(method: "GET" | "POST"): Promise<Response> {
  const body = method === "POST" ? { body: JSON.stringify({ at: Date.now() }) } : {};
  const url = `${addr}/v1/${process.env.VAULT_LATER}`;
  return fetch(url, { method, headers: { "X-Vault-Token": token }, ...body });
}

/** It answers out of what it had at first, and then for a while not at all. */
async function untilEarlier(): Promise<void> {
  const start = performance.now();
  while ((await later("GET").catch(() => undefined))?.status !== 404) {
    if (performance.now() - start > INSTALLED_MS) throw new Error("Vault doesn't go over to the snapshot");
    await sleep(50);
  }
}
