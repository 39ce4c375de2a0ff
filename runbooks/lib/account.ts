// A tenant's mail account as an incident needs it: its records read at once, what must be secret decrypted at once,
// and Mailu asked whether it takes the token. Everything here only looks.
import { adminAddress, mailHost, type TenantId } from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import type { Login } from "./mail-login.ts";
import { Mailu } from "./mailu.ts";
import { newPassword } from "./password.ts";
import { Admin, Mailu as MailuRecord, type Rotation, Server, Tls } from "./records.ts";
import { readRotation } from "./rotation-begin.ts";
import type { Run } from "./runbook.ts";
import { loginAt } from "./server-record.ts";
import { requireNotDeleted } from "./tenant-secrets.ts";
import { tlsTrust } from "./tls-trust.ts";
import { open, seal } from "./transit.ts";
import type { Stored, Vault } from "./vault.ts";

export interface Account {
  readonly tenant: TenantId;
  readonly admin: Stored<Admin>;
  readonly server: Server;
  /** The rotation record as it was read; undefined where there is none that is usable. */
  readonly rotation: Rotation | undefined;
  readonly sanctionedTokens: readonly string[];
  /** The administrator, `admin@…`. */
  readonly username: string;
  readonly mailu: Mailu;
  /** Where and as whom to log in. */
  readonly login: Omit<Login, "password">;
  /** The hash of the password before anything was changed; undefined where Mailu doesn't have the account. */
  readonly hash: string | undefined;
  /** The plaintext of a ciphertext of this tenant's; each is asked of Vault once. */
  decrypt(ciphertext: string): Promise<string>;
  /** Makes a password and returns its ciphertext, under the newest version of the tenant's key. */
  sealNewPassword(): Promise<string>;
}

/** Reads and tries all of it. `close` must be called at the end. Throws usage (2) for a tenant that isn't whole. */
export async function openAccount(
  vault: Vault,
  tenant: TenantId,
  { check }: Pick<Run<unknown>, "check">,
): Promise<Account> {
  const records = await check(`read the records of ${tenant}`, () => readRecords(vault, tenant));
  const { admin, server, mailuRecord, tls, rotation } = records;
  const plaintexts = new Map<string, Promise<string>>();
  const decrypt = (ciphertext: string, what = `a password of ${tenant}`): Promise<string> => {
    const known = plaintexts.get(ciphertext) ?? open(vault, tenant, ciphertext, what);
    plaintexts.set(ciphertext, known);
    known.catch(() => plaintexts.delete(ciphertext));
    return known;
  };
  const token = await check("decrypt the token of its Mailu", async () => {
    // Asked for beside it, since the old password is to be proven dead later; one that is damaged stops no reset.
    decrypt(admin.data.password).catch(() => {});
    return decrypt(mailuRecord.data.api_token, `smtp/${tenant}/mailu api_token`);
  });
  const trust = tlsTrust(mailHost(server.domain), tls?.data.certificate);
  const mailu = new Mailu(server.api_url, token, trust);
  const username = adminAddress(server.domain);
  try {
    const hash = await check(`ask Mailu on ${server.vps_ip} for ${username}`, () =>
      mailu.passwordHash(username),
    );
    return {
      tenant,
      admin,
      server,
      rotation,
      sanctionedTokens: mailuRecord.data.sanctioned_app_tokens,
      username,
      mailu,
      login: { ...loginAt(server), trust },
      hash,
      decrypt,
      sealNewPassword: async () => {
        const plaintext = newPassword();
        const ciphertext = await seal(vault, tenant, plaintext);
        plaintexts.set(ciphertext, Promise.resolve(plaintext));
        return ciphertext;
      },
    };
  } catch (error) {
    mailu.close();
    throw error;
  }
}

async function readRecords(vault: Vault, tenant: TenantId) {
  const [admin, server, mailuRecord, tls, { stored }] = await Promise.all([
    vault.record(tenant, "admin", Admin),
    vault.record(tenant, "server", Server),
    vault.record(tenant, "mailu", MailuRecord),
    vault.record(tenant, "tls", Tls),
    readRotation(vault, tenant),
  ]);
  if (admin !== undefined && server !== undefined && mailuRecord !== undefined)
    return { admin, server: server.data, mailuRecord, tls, rotation: stored?.data };
  const missing = (["admin", "server", "mailu"] as const).filter(
    (name) => ({ admin, server, mailu: mailuRecord })[name] === undefined,
  );
  await requireNotDeleted(vault, tenant, missing);
  throw new RunbookError(`Vault has no ${missing.join(", no ")} record for tenant ${tenant}`, {
    exit: "usage",
    next:
      missing.join() === "server"
        ? `pulumi up --stack tenant-${tenant}   # it never had a host`
        : "vault kv list smtp   # is the id right?",
  });
}
