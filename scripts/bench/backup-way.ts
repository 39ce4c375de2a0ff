// One way of a snapshot to or from the bucket, in a process of its own: `backup-way.ts FOLDER WAY MIB VERSION SINK`.
// Ways: `plain` stores it as it is, `seal` checks, seals and stores it; `load` and `open` bring those two back and send
// them to whoever listens at SINK, as a restore sends them to Vault. Prints how long it took and the most memory.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { BackupStore } from "../../runbooks/lib/backup-store.ts";
import { Meter, piped } from "../../runbooks/lib/piped.ts";
import { open, seal } from "../../runbooks/lib/seal.ts";
import { aesKeyFile, recoveryPublicKey } from "../../runbooks/lib/seal-keys.ts";
import { ArchiveCheck } from "../../runbooks/lib/snapshot-archive.ts";
import { raftArchive } from "./raft-archive.ts";

const [, , folder = "", way = "", mib = "0", versionId = "", sink = ""] = process.argv;
const store = new BackupStore("bench", "backup", process.env);
const key = `backups/2026-01-01/${way === "plain" || way === "load" ? "plain" : "vault-snapshot.enc"}`;
const aes = aesKeyFile(join(folder, "backup.key"));
const asIs = (error: unknown) => error as Error;
// The server's first answer and the loading of libraries are no part of the rate.
await store.putJson("backups/warm-up", {});
const { seconds, id } = await timed();
const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage();
const cpuSeconds = (userCPUTime + systemCPUTime) / 1e6;
process.stdout.write(
  JSON.stringify({ seconds, cpuSeconds, peakMiB: Math.round(maxRSS / 1024), versionId: id }),
);

async function timed(): Promise<{ seconds: number; id: string }> {
  await import("@aws-crypto/client-node");
  const start = performance.now();
  const id = await act();
  return { seconds: (performance.now() - start) / 1000, id };
}

async function act(): Promise<string> {
  if (way === "load" || way === "open") {
    const stored = await store.read({ key, versionId });
    if (way === "load") await send(piped(stored, [new Meter()], asIs));
    else {
      const sealed = piped(stored, [new Meter()], asIs);
      await send(piped(await open(sealed, aes), [new Meter(), new ArchiveCheck()], asIs));
    }
    return versionId;
  }
  const archive = raftArchive({ stateBytes: Number(mib) * 1_048_576 });
  if (way === "plain") return (await store.upload(key, archive)).versionId;
  const recovery = recoveryPublicKey(readFileSync(join(folder, "recovery.pub.pem"), "utf8"));
  const whole = piped(archive, [new Meter(), new ArchiveCheck()], asIs);
  return (await store.upload(key, await seal(whole, [aes, recovery], {}))).versionId;
}

/** Not by fetch: what it takes as a body is read ahead without a bound. */
async function send(body: Readable): Promise<void> {
  const asked = request(sink, { method: "POST" });
  const answered = once(asked, "response") as Promise<[IncomingMessage]>;
  await pipeline(body, asked);
  const [answer] = await answered;
  answer.resume();
  if (answer.statusCode !== 200) throw new Error(`the sink answered ${answer.statusCode}`);
}
