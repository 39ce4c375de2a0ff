// Who may log in to a restored Vault. It knows everybody that the lost one knew on the day of the backup, also whoever
// was shut out since, so all of automation and all people get new logins. The tenants' own readers stay: without them no
// mail could be sent, and their tokens read nothing but what is theirs.
import { z } from "zod";
import { RunbookError } from "./errors.ts";
import { inParallel } from "./parallel.ts";
import { registerSecret } from "./redact.ts";
import type { SealedVault } from "./sealed-vault.ts";
import { Vault } from "./vault.ts";
import { statusOf } from "./vault-error.ts";

/** A new login for a program: the token opens once what it logs in with. */
export interface NewLogin {
  readonly role: string;
  readonly wrapped: string;
  readonly unwrap: string;
}

const AT_ONCE = 32;
/** Seconds within which a new login must be fetched. */
const HANDOUT_S = 3600;

/**
 * Goes in by the key shares, or the recovery keys; whoever calls this leaves by `leave`.
 * @throws RunbookError refused (4) for those of another Vault.
 */
export async function enter(sealed: SealedVault, shares: readonly string[]): Promise<Vault> {
  const token = await sealed.generateRoot(shares);
  return Vault.withToken({ ...sealed.access, token }, "root, by the key shares");
}

/** The same once the backup is in, where recovery keys are tried for the first time: wrong ones are typed again (5). */
export const enterRestored = (sealed: SealedVault, shares: readonly string[]): Promise<Vault> =>
  enter(sealed, shares).catch((error) => {
    if (!(error instanceof RunbookError) || error.exitCode !== 4) throw error;
    throw new RunbookError(`The restore isn't finished: ${error.message}`, {
      exit: "incomplete",
      next: error.next,
      cause: error,
    });
  });

export const leave = async (vault: Vault): Promise<void> => {
  await vault.write("auth/token/revoke-self", {}, z.unknown());
};

/**
 * Revokes tokens: of `root` those that a killed run of ours, or anybody else, may have left; of `everybody` all but this
 * one and the tenants' readers. Returns how many.
 */
export async function revokeTokens(vault: Vault, whose: "root" | "everybody"): Promise<number> {
  const own = (await vault.read("auth/token/lookup-self", Token))?.data.accessor;
  const accessors = await vault.list("auth/token/accessors");
  const revoked = await inParallel(accessors, AT_ONCE, async (accessor) => {
    if (accessor === own) return false;
    const policies = await unlessGone(() => vault.write("auth/token/lookup-accessor", { accessor }, Token));
    if (policies === undefined) return false;
    const all = [...policies.data.policies, ...(policies.data.identity_policies ?? [])];
    if (whose === "root" ? !all.includes("root") : isReader(all)) return false;
    await unlessGone(() => vault.write("auth/token/revoke-accessor", { accessor }, z.unknown()));
    return true;
  });
  return revoked.filter(Boolean).length;
}

/** Destroys the secret ids of all AppRoles but the tenants' readers'. Returns the roles that had any. */
export async function destroySecretIds(vault: Vault): Promise<string[]> {
  const roles = await automationRoles(vault);
  const had = await inParallel(roles, AT_ONCE, async (role) => {
    const path = `auth/approle/role/${role}`;
    const accessors = await vault.list(`${path}/secret-id`);
    await inParallel(accessors, AT_ONCE, (secret_id_accessor) =>
      unlessGone(() =>
        vault.write(`${path}/secret-id-accessor/destroy`, { secret_id_accessor }, z.unknown()),
      ),
    );
    return accessors.length > 0;
  });
  return roles.filter((_, index) => had[index]);
}

/** Makes a new secret id for each of automation's AppRoles; each is handed out by a token that opens once. */
export async function newLogins(vault: Vault): Promise<NewLogin[]> {
  const roles = await automationRoles(vault);
  return inParallel(roles, AT_ONCE, async (role) => {
    const path = `auth/approle/role/${role}`;
    const role_id = (await vault.read(`${path}/role-id`, RoleId))?.data.role_id ?? "";
    const { secret_id } = (await vault.write(`${path}/secret-id`, {}, SecretId)).data;
    registerSecret(secret_id);
    const wrapped = await vault.wrap({ role_id, secret_id }, HANDOUT_S);
    return { role, wrapped, unwrap: `vault unwrap ${wrapped}` };
  });
}

/** A token of the role `backup-operator`, for the backup that follows; an hour at the most. */
export async function backupToken(vault: Vault): Promise<string> {
  const body = {
    policies: ["backup-operator"],
    ttl: "1h",
    explicit_max_ttl: "1h",
    display_name: "restore-vault",
  };
  const token = (await vault.write("auth/token/create-orphan", body, Created)).auth.client_token;
  registerSecret(token);
  return token;
}

async function automationRoles(vault: Vault): Promise<string[]> {
  const roles = await vault.list("auth/approle/role");
  const policies = await inParallel(roles, AT_ONCE, async (role) => {
    const found = await vault.read(`auth/approle/role/${role}`, AppRole);
    return [...(found?.data.token_policies ?? []), ...(found?.data.policies ?? [])];
  });
  return roles.filter((_, index) => !isReader(policies[index] ?? []));
}

/** Nothing but tenants' own policies; a token without any right is no reader either, and harmless. */
const isReader = (policies: readonly string[]): boolean =>
  policies.some((policy) => policy.startsWith("tenant-") && policy !== "tenant-deployer") &&
  policies.every(
    (policy) => policy === "default" || (policy.startsWith("tenant-") && policy !== "tenant-deployer"),
  );

/** What expired between two looks is gone, as it should be. */
async function unlessGone<T>(act: () => Promise<T>): Promise<T | undefined> {
  try {
    return await act();
  } catch (error) {
    const status = error instanceof RunbookError ? statusOf(error.cause) : undefined;
    if (status === 403 || status === 404 || status === 400) return undefined;
    throw error;
  }
}

const Token = z.object({
  data: z.object({
    accessor: z.string(),
    policies: z.array(z.string()).default([]),
    identity_policies: z.array(z.string()).nullish(),
  }),
});
const AppRole = z.object({
  data: z.object({ token_policies: z.array(z.string()).nullish(), policies: z.array(z.string()).nullish() }),
});
const RoleId = z.object({ data: z.object({ role_id: z.string() }) });
const SecretId = z.object({ data: z.object({ secret_id: z.string() }) });
const Created = z.object({ auth: z.object({ client_token: z.string().min(1) }) });
