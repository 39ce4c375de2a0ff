// The record smtp/canary/admin: written just before each backup with a date and a nonce, so that a restored Vault proves
// which backup it came from. Since it's written by compare-and-set it is also the lock: of two runs at once, here or on
// two machines, one is refused.
import { randomBytes } from "node:crypto";
import { z } from "zod";
import { type BackupDay, backupDay, CANARY, dayOf, KV_MOUNT } from "../../stacks/names.ts";
import type { CanaryOfBackup } from "./backup-records.ts";
import { messageOf, RunbookError } from "./errors.ts";
import { holderState, thisHolder } from "./holder.ts";
import { Holder } from "./records.ts";
import { CasConflict, type Stored, type Vault } from "./vault.ts";

export const Canary = z.object({
  date: z
    .string()
    .refine((text) => backupDay(text) !== undefined)
    .transform((text) => text as BackupDay),
  nonce: z.string(),
  /** ISO 8601: the time as of which the backup is. */
  written: z.iso.datetime(),
  /** Who makes the backup at this moment; null when it has ended. */
  holder: Holder.nullable().default(null),
});
export type Canary = z.infer<typeof Canary>;

/** Another run is at work: no failure of backups, which that one makes. */
export class BackupIsHeld extends RunbookError {
  constructor(message: string, next: string, cause?: unknown) {
    super(message, { exit: "refused", next, cause });
  }
}

/** Milliseconds after which a holder on another machine counts as dead: no backup within the promises takes so long. */
const LEASE = 60 * 60_000;
/** A clock may be wrong by this much before it is no clock. */
const SKEW = 5 * 60_000;

/** Reads the canary and sees that nobody else is making a backup. @throws RunbookError (exit 4) when somebody is. */
export async function freeCanary(vault: Vault, takeOver: boolean): Promise<Stored<Canary> | undefined> {
  const stored = await vault.record(CANARY, "admin", Canary);
  const holder = stored?.data.holder ?? null;
  if (stored === undefined || holder === null || takeOver) return stored;
  const state = holderState(holder);
  const age = Date.now() - Date.parse(stored.data.written);
  if (state === "gone" || (state === "elsewhere" && (age > LEASE || age < -SKEW))) return stored;
  const [name] = holder.machine.split(" ");
  const until = new Date(Date.parse(stored.data.written) + LEASE).toISOString();
  throw new BackupIsHeld(
    `Another backup is being made since ${stored.data.written}, by process ${holder.pid} on ${name} (${holder.user})`,
    state === "alive"
      ? "wait for it to end"
      : `wait for it to end; after ${until} it counts as dead. If you know that it is: npx runbook backup-vault --take-over`,
  );
}

/**
 * Writes the canary over the one that was read, with this run as its holder.
 * @throws RunbookError (exit 4) when another run was faster.
 */
export async function writeCanary(
  vault: Vault,
  run: string,
  before: Stored<Canary> | undefined,
): Promise<Stored<Canary>> {
  const now = new Date();
  const data: Canary = {
    date: dayOf(now),
    nonce: randomBytes(16).toString("hex"),
    written: now.toISOString(),
    holder: thisHolder(run, vault.user),
  };
  try {
    const version = await vault.writeRecord(CANARY, "admin", data, before?.version ?? 0);
    return { data, version, customMetadata: {} };
  } catch (cause) {
    if (!(cause instanceof CasConflict)) throw cause;
    throw new RunbookError("Another backup began at the same moment", {
      exit: "refused",
      next: "wait for it",
      cause,
    });
  }
}

/** Whether this run's canary is still the newest: otherwise another run has taken over. */
export async function stillOurs(vault: Vault, ours: Stored<Canary>): Promise<boolean> {
  return (await vault.record(CANARY, "admin", Canary))?.version === ours.version;
}

/** What shows that a restored Vault doesn't come from the backup with this canary, in a sentence; undefined: it does. */
export async function canaryProblem(vault: Vault, expected: CanaryOfBackup): Promise<string | undefined> {
  const stored = await vault.record(CANARY, "admin", Canary);
  const at = `${KV_MOUNT}/${CANARY}/admin`;
  if (stored === undefined) return `${at} is not there`;
  const found = { version: stored.version, date: stored.data.date, nonce: stored.data.nonce };
  const wrong = (["version", "date", "nonce"] as const).find((field) => found[field] !== expected[field]);
  return wrong === undefined
    ? undefined
    : `the ${wrong} of ${at} is ${found[wrong]}, and not ${expected[wrong]}`;
}

/** Lets the next run begin. Returns what went wrong, in a sentence: a run that ends must not fail for it. */
export async function releaseCanary(vault: Vault, ours: Stored<Canary>): Promise<string | undefined> {
  try {
    await vault.writeRecord(CANARY, "admin", { ...ours.data, holder: null }, ours.version);
    return undefined;
  } catch (error) {
    if (error instanceof CasConflict) return undefined;
    return `${KV_MOUNT}/${CANARY}/admin still names this run: ${messageOf(error)}`;
  }
}
