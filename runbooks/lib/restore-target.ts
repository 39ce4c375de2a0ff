// What the Vault is that a backup is to go into. Its own state decides how a restore goes on after an interruption, so
// that it can be finished from any machine: nothing about it is kept anywhere else.
import { createHmac } from "node:crypto";
import { z } from "zod";
import { CANARY } from "../../stacks/names.ts";
import type { Manifest } from "./backup-records.ts";
import { Canary } from "./canary.ts";
import { RunbookError } from "./errors.ts";
import { opensItself, type SealShares } from "./key-shares.ts";
import { registerSecret } from "./redact.ts";
import { hasEnded, type Progress, progressOf } from "./restore-progress.ts";
import { type SealedVault, SealUnreachable } from "./sealed-vault.ts";
import type { Settings } from "./settings.ts";
import { Vault } from "./vault.ts";
import { statusOf } from "./vault-error.ts";

/**
 * `new`: not initialised. `empty`: initialised, and nothing was ever put into it. `restored`: it holds this very backup,
 * and the restore of it hasn't ended. `live`: it holds something else, which a restore would destroy.
 */
export type Target =
  | { readonly state: "new" }
  | { readonly state: "empty"; readonly vault: Vault }
  | { readonly state: "restored"; readonly progress: Progress | undefined }
  | { readonly state: "live"; readonly vault: Vault | undefined; readonly contents: Contents };

export interface Contents {
  readonly tenants: readonly string[];
  /** When its last backup was begun. */
  readonly asOf: string | undefined;
  /** VersionId of the backup that is only half restored in it. */
  readonly halfRestored: string | undefined;
}

export interface Looking {
  readonly settings: Settings;
  readonly sealed: SealedVault;
  readonly shares: readonly string[];
  readonly manifest: Manifest;
  readonly env: NodeJS.ProcessEnv;
  /** Whether `env` has a login. */
  readonly hasLogin: boolean;
  /** Then no root token is made in order to look. */
  readonly dryRun: boolean;
}

/**
 * Looks at an open Vault; one that isn't initialised is `new`. Asks with the operator's own login, with what an
 * interrupted run of ours left in an empty one, and at last with the key shares.
 * @throws RunbookError: permission (3) when none of these may look.
 */
export async function lookAtTarget(looking: Looking): Promise<Target> {
  const { sealed, shares } = looking;
  if (!(await sealed.status()).initialized) return { state: "new" };
  await sealed.awaitActive(looking.manifest.audit_paths);
  const seen = await lookByLogin(looking);
  if (seen !== undefined) return seen;
  const left = await byLeftToken(sealed, shares);
  if (left !== undefined) return describe(left, looking.manifest);
  if (looking.dryRun) {
    throw new RunbookError(
      `VAULT_TOKEN isn't accepted at ${sealed.access.addr}: a dry run can't see what it holds`,
      {
        exit: "permission",
        next: "set VAULT_TOKEN to a login for it, or the same command without --dry-run",
      },
    );
  }
  const token = await sealed.generateRoot(shares).catch((cause) => {
    throw notTheirs(sealed.access.addr, looking.manifest, cause);
  });
  const vault = Vault.withToken({ ...sealed.access, token });
  try {
    const found = await describe(vault, looking.manifest);
    if (found.state === "restored") return found;
    const contents = found.state === "live" ? found.contents : NOTHING;
    return { state: "live", vault: undefined, contents };
  } finally {
    await vault.write("auth/token/revoke-self", {}, z.unknown()).catch(() => {});
  }
}

/** The same with the operator's login alone; undefined where that is none, or the Vault isn't open. */
export async function lookByLogin(looking: Looking): Promise<Target | undefined> {
  if ((await looking.sealed.health()) !== 200) return undefined;
  const own = await operator(looking);
  return own === undefined ? undefined : describe(own, looking.manifest);
}

/**
 * Leaves in a Vault that was just initialised what the next run finds it by, if this one dies before the restore, and what
 * opens it again, if it seals itself over a snapshot that it can't install.
 * @param shares of the Vault that was backed up; @param own of the new one, which guard nothing but their own.
 */
export async function leaveTokens(
  vault: Vault,
  sealed: SealedVault,
  { shares, own }: { shares: readonly string[]; own: readonly string[] },
): Promise<void> {
  for (const id of shares.map(leftToken)) {
    await vault.write("auth/token/create", { id, policies: ["root"], no_parent: true }, z.unknown());
    await Vault.withToken({ ...sealed.access, token: id }).write(OWN_SHARES, { own }, z.unknown());
  }
}

/** With a token that `leaveTokens` left, by one of these shares; undefined where there is none. */
export async function byLeftToken(
  sealed: SealedVault,
  shares: readonly string[],
): Promise<Vault | undefined> {
  for (const token of shares.map(leftToken)) {
    const vault = Vault.withToken({ ...sealed.access, token });
    if (await accepted(vault)) return vault;
  }
  return undefined;
}

/** The key shares that `leaveTokens` left, as its token sees them; none where somebody else initialised it. */
export async function ownShares(vault: Vault): Promise<readonly string[]> {
  const own = (await vault.read(OWN_SHARES, OwnShares))?.data.own ?? [];
  for (const share of own) registerSecret(share);
  return own;
}

/** Each token has a cubbyhole to itself. */
const OWN_SHARES = "cubbyhole/own-key-shares";
const OwnShares = z.object({ data: z.object({ own: z.array(z.string()) }) });

/**
 * A token that whoever holds the share can make out again, and nobody else. It opens a Vault that is empty, and goes with
 * it when the snapshot overwrites it.
 */
function leftToken(share: string): string {
  const bytes = Buffer.from(share, /^[0-9a-f]+$/i.test(share) ? "hex" : "base64");
  const token = `restore-${createHmac("sha256", bytes).update("penguinmails restore-vault").digest("hex")}`;
  registerSecret(token);
  return token;
}

const NOTHING: Contents = { tenants: [], asOf: undefined, halfRestored: undefined };

async function operator({ settings, env, hasLogin }: Looking): Promise<Vault | undefined> {
  if (!hasLogin) return undefined;
  try {
    return await Vault.connect(settings, { env, breakGlass: true });
  } catch (error) {
    // A login of the lost Vault means nothing to another one.
    if (error instanceof RunbookError && [1, 3].includes(error.exitCode)) return undefined;
    throw error;
  }
}

async function accepted(vault: Vault): Promise<boolean> {
  return vault.read("auth/token/lookup-self", z.unknown()).then(
    () => true,
    () => false,
  );
}

/** What an open Vault is to the backup of `manifest`. */
export async function describe(vault: Vault, manifest: Manifest): Promise<Target> {
  if (await isEmpty(vault)) return { state: "empty", vault };
  const [tenants, canary] = await Promise.all([vault.tenants(), vault.record(CANARY, "admin", Canary)]);
  const progress = progressOf(canary?.customMetadata);
  const ours = progress?.backup === manifest.version_id;
  if (ours && !hasEnded(progress)) return { state: "restored", progress };
  const { version, nonce } = manifest.canary;
  // A backup that ends writes the canary once more, so that only a copy still has the version that is in the backup.
  if (canary?.version === version && canary.data.nonce === nonce && !ours)
    return { state: "restored", progress: undefined };
  const halfRestored = progress !== undefined && !hasEnded(progress) ? progress.backup : undefined;
  return { state: "live", vault, contents: { tenants, asOf: canary?.data.written, halfRestored } };
}

/** Mounts that every Vault has; that it has no others only root can see, and an empty Vault knows nobody else. */
const BUILT_IN = new Set(["cubbyhole/", "identity/", "sys/", "agent-registry/"]);

async function isEmpty(vault: Vault): Promise<boolean> {
  try {
    const mounts = await vault.read("sys/mounts", Mounts);
    return Object.keys(mounts?.data ?? {}).every((mount) => BUILT_IN.has(mount));
  } catch (error) {
    if (error instanceof RunbookError && statusOf(error.cause) === 403) return false;
    throw error;
  }
}

const Mounts = z.object({ data: z.record(z.string(), z.unknown()) });

/** In words, for a sentence. */
export function whatItHolds(addr: string, { tenants, asOf }: Contents): string {
  const names = tenants.length > 5 ? `${tenants.length} tenants` : tenants.join(", ") || "no tenant";
  return `Vault at ${addr} holds data: ${names}${asOf === undefined ? "" : `, backed up last at ${asOf}`}`;
}

/** A Vault that the shares don't open is somebody else's, or was initialised by a run that died at once. */
export function notTheirs(addr: string, seal: SealShares, cause: unknown): unknown {
  if (!(cause instanceof RunbookError) || cause.exitCode !== 4 || cause instanceof SealUnreachable)
    return cause;
  const itself = opensItself(seal);
  const no = itself ? "doesn't take these recovery keys" : "isn't opened by these key shares";
  return new RunbookError(
    `Vault at ${addr} is initialised, ${no}, and accepts no VAULT_TOKEN: one of them is wrong, or it is another Vault, or an empty one that a killed run left`,
    { exit: "refused", next: itself ? `${TYPE_AGAIN}; ${EMPTY_IT}` : EMPTY_IT, cause },
  );
}

/** Recovery keys that nothing has proven yet may be typed wrongly for a Vault that is restored already. */
const TYPE_AGAIN = "the same command with the recovery keys of the Vault that was backed up";

/** For a Vault that nobody can look into. Only its operator knows whether there is anything in it. */
const EMPTY_IT =
  'another Vault: unseal it and set VAULT_TOKEN to a login for it. An empty one: stop it, remove what is in the folder of its storage "raft", start it; then the same command again';
