// What a backup costs: a snapshot goes the way of backup-vault (checked, sealed, uploaded in parts) and, in the same run to
// the same server, without check and seal; then both are brought back and sent on, opened or as they are, as a restore
// sends them to Vault. Once from and to a real Vault, and once with snapshots of any size that cost nothing to make and go
// nowhere. Each in a process of its own, so that its peak memory is its own.
import { spawn } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { startFullVault } from "./full-vault.ts";
import { startBenchServer } from "./s3-server.ts";

/** Peak memory that is promised, and the least rate of sealing, and of opening, as a part of that without. */
export const MOST_MIB = 250;
export const LEAST_RATIO = 0.9;

/** As in the first line of runbooks/main.ts: what is measured is what runs. */
const NODE = ["--max-semi-space-size=4"];
const MALLOC = { MALLOC_ARENA_MAX: "1" };

const Measured = z.object({
  seconds: z.number(),
  /** Of those, until the last byte was taken: Vault installs a snapshot behind that. */
  sentSeconds: z.number(),
  cpuSeconds: z.number(),
  peakMiB: z.number(),
  versionId: z.string().default(""),
});
type Measured = z.infer<typeof Measured>;

export interface Figures {
  MiB: number;
  sealRatio: number;
  openRatio: number;
  sealPeakMiB: number;
  openPeakMiB: number;
  [figure: string]: number;
}

/** With a snapshot from a real Vault, which it is restored into; or with one that is made, and goes nowhere. */
export interface Row {
  snapshot: "Vault" | "made";
  figures: Figures;
}

/** MiB of the snapshot that a real Vault is filled for. */
const VAULT_MIB = 256;

/** @param mib sizes of the snapshots that are made. */
export async function benchBackup(
  mib: readonly number[],
  tell: (line: string) => void,
): Promise<{ rows: Row[]; kept: boolean }> {
  const folder = mkdtempSync(join(tmpdir(), "bench-"));
  const sink = createServer((asked, answer) => asked.resume().on("end", () => answer.end()));
  const server = await startBenchServer(folder);
  try {
    sink.listen(0, "127.0.0.1");
    await once(sink, "listening");
    writeKeys(folder);
    const env = { ...server.env, VAULT_ADDR: "" };
    const place = { folder, env, sink: `http://127.0.0.1:${(sink.address() as AddressInfo).port}/` };
    const rows = [await onVault(place, tell)];
    for (const size of mib) {
      tell(`making snapshots of ${size} MiB`);
      rows.push({ snapshot: "made", figures: await measure(place, size) });
    }
    return { rows, kept: rows.every(within) };
  } finally {
    sink.close();
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Memory is promised for any snapshot; the rates for a backup as it is made and restored. */
export const within = ({ snapshot, figures }: Row): boolean =>
  Math.max(figures.sealPeakMiB, figures.openPeakMiB) < MOST_MIB &&
  (snapshot === "made" || Math.min(figures.sealRatio, figures.openRatio) >= LEAST_RATIO);

async function onVault(place: Place, tell: (line: string) => void): Promise<Row> {
  tell(`filling a Vault with ${VAULT_MIB} MiB`);
  const vault = await startFullVault(place.folder, VAULT_MIB);
  try {
    tell("backing it up and restoring it");
    const env = { ...place.env, ...vault.env };
    return { snapshot: "Vault", figures: await measure({ ...place, env }, VAULT_MIB) };
  } finally {
    await vault.stop();
  }
}

interface Place {
  folder: string;
  env: NodeJS.ProcessEnv;
  sink: string;
}

/** Rounds in turn, the best one of each counts: what else the machine does meanwhile hits all alike. */
async function measure(place: Place, mib: number): Promise<Figures> {
  const best: Record<string, Measured> = {};
  const take = async (way: string, version = ""): Promise<Measured> => {
    const took = await child(place, way, mib, version);
    const before = best[way];
    const better = before === undefined || took.seconds < before.seconds ? took : before;
    best[way] = better;
    return took;
  };
  for (let round = 0; round < (mib > 1024 ? 1 : 3); round++) {
    const [plain, sealed] = [await take("plain"), await take("seal")];
    await take("load", plain.versionId);
    await take("open", sealed.versionId);
  }
  const of = (way: string): Measured => best[way] ?? Measured.parse(undefined);
  const rate = (way: string) => Math.round(mib / of(way).seconds);
  const ratio = (plain: string, way: string) => Math.round((of(plain).seconds / of(way).seconds) * 100) / 100;
  const sent = (way: string) => Math.round(of(way).sentSeconds * 100) / 100;
  return {
    MiB: mib,
    plainMiBps: rate("plain"),
    sealMiBps: rate("seal"),
    sealRatio: ratio("plain", "seal"),
    loadMiBps: rate("load"),
    openMiBps: rate("open"),
    openRatio: ratio("load", "open"),
    loadSentSeconds: sent("load"),
    openSentSeconds: sent("open"),
    plainPeakMiB: of("plain").peakMiB,
    sealPeakMiB: of("seal").peakMiB,
    openPeakMiB: of("open").peakMiB,
    plainCpuSeconds: of("plain").cpuSeconds,
    sealCpuSeconds: of("seal").cpuSeconds,
    openCpuSeconds: of("open").cpuSeconds,
  };
}

async function child(place: Place, way: string, mib: number, version: string): Promise<Measured> {
  const file = join(import.meta.dirname, "backup-way.ts");
  const args = [...NODE, file, place.folder, way, `${mib}`, version, place.sink];
  const env = { ...process.env, ...MALLOC, ...place.env };
  const running = spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  running.stdout.on("data", (chunk) => (text += chunk));
  const [code] = await once(running, "close");
  if (code !== 0) throw new Error(`${way} of ${mib} MiB ended with ${code}`);
  return Measured.parse(JSON.parse(text));
}

function writeKeys(folder: string): void {
  const { publicKey } = generateKeyPairSync("rsa", { modulusLength: 4096 });
  writeFileSync(join(folder, "recovery.pub.pem"), publicKey.export({ type: "spki", format: "pem" }));
  writeFileSync(join(folder, "backup.key"), randomBytes(32), { mode: 0o600 });
}
