// What surrounds a restored Vault is brought along: the stack that declares its policies, a backup of what it is now, the
// audit event, the notice.
import { join } from "node:path";
import { $ } from "zx/core";
import { PLATFORM_STACK } from "../../stacks/names.ts";
import { eventId } from "./audit-chain.ts";
import type { CatalogEntry } from "./backup-catalog.ts";
import { RunbookError } from "./errors.ts";
import type { Outbox } from "./outbox.ts";
import { engineAfterDeadOne, pulumi } from "./pulumi.ts";
import { redact } from "./redact.ts";
import { backupToken } from "./restore-access.ts";
import type { Progress } from "./restore-progress.ts";
import type { Reconciled } from "./restore-reconcile.ts";
import type { Run } from "./runbook.ts";
import type { Settings } from "./settings.ts";
import type { Vault } from "./vault.ts";

/**
 * Runs `backup-vault` with a token of its role: the timer's own login was revoked, and its new one has yet to be brought
 * there. Returns what went wrong, in a sentence; undefined: nothing.
 */
export async function backUpAgain(run: Pick<Run<unknown>, "env">, vault: Vault): Promise<string | undefined> {
  const env = { ...run.env, VAULT_TOKEN: await backupToken(vault), VAULT_ADDR: vault.addr };
  const command = [process.execPath, join(import.meta.dirname, "..", "main.ts"), "backup-vault", "--yes"];
  // Of the terminal's process group: Ctrl-C ends it too.
  const done = await $({ env, quiet: true, nothrow: true, stdio: ["ignore", "pipe", "pipe"] })`${command}`;
  if (done.exitCode === 0) return undefined;
  const said = redact(done.stderr.trim().split("\n").at(-1) ?? "");
  return `no new backup was made: backup-vault ended with ${done.exitCode} (${said})`;
}

export interface Told {
  readonly backup: CatalogEntry;
  readonly seconds: number;
  readonly progress: Progress;
  readonly tenants: readonly Reconciled[];
  readonly vault: Vault;
  readonly overLive: boolean;
  readonly breakGlass: boolean;
}

/** Both under the id of the run that began the restore. Returns which notices still wait, in sentences. */
export async function tellOfRestore(
  run: Pick<Run<unknown>, "audit">,
  outbox: Outbox,
  { backup, seconds, progress, tenants, vault, overLive, breakGlass }: Told,
): Promise<string[]> {
  const of = (...states: Reconciled["state"][]) =>
    tenants.filter(({ state }) => states.includes(state)).map(({ tenant }) => tenant);
  const details = {
    backup_date: backup.day,
    restoration_time: seconds,
    version_id: backup.manifest.version_id,
    as_of: backup.manifest.canary.written,
    rotated: of("rotated"),
    rotated_since: of("rotated-since"),
    onboarded_again: tenants.filter(({ onboarded }) => onboarded).map(({ tenant }) => tenant),
    removed: of("removed"),
    unknown: of("unknown"),
    over_live: overLive,
    ...(breakGlass ? { break_glass: true } : {}),
  };
  await run.audit.append({
    event: "vault_restored_from_backup",
    severity: "critical",
    originalRun: progress.run,
    details,
  });
  const id = eventId(progress.run, undefined, "notice:vault_restored");
  await outbox.keep({
    event_id: id,
    name: "vault_restored",
    audience: "security",
    to: [],
    created: progress.began,
    severity: "critical",
    subject: `Vault was restored from the backup of ${backup.day}`,
    text: `Vault at ${vault.addr} was restored from the backup of ${backup.day}.

As of:              ${backup.manifest.canary.written}
Begun:              ${progress.began}
Took:               ${seconds} s
Password differs:   ${[...of("rotated-since"), ...of("rotated")].join(", ") || "nowhere"}
Rotated now:        ${of("rotated").join(", ") || "none"}
Not tried:          ${of("unknown").join(", ") || "none"}

Tokens and secret ids of automation and people were revoked: log in again, and bring each program its new secret id.
`,
    fields: details,
  });
  const { waiting } = await outbox.deliver();
  return waiting.map(({ name, why }) => `notice ${name} waits: ${why}`);
}

/** Returns what went wrong, in a sentence: no tenant's mail hangs on it. */
export async function refreshPlatform(
  run: Pick<Run<unknown>, "env" | "note" | "change">,
  settings: Settings,
  vault: Vault,
): Promise<string | undefined> {
  const args = ["up", "--refresh", "--yes", "--skip-preview", "--stack", PLATFORM_STACK];
  const env = { ...run.env, VAULT_TOKEN: vault.token, VAULT_ADDR: vault.addr };
  try {
    await engineAfterDeadOne(settings, PLATFORM_STACK, run, () =>
      pulumi(settings, args, (line) => void (REFRESHED.test(line) || run.note(`    ${line}`)), env),
    );
    return undefined;
  } catch (error) {
    if (!(error instanceof RunbookError)) throw error;
    return `the stack ${PLATFORM_STACK} isn't in place: ${error.message} (next: pulumi ${args.join(" ")})`;
  }
}

/** What the engine says of each resource that is as it was. */
const REFRESHED = / refresh(?:ing)? \(/;
