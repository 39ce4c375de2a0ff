// SET, ACCEPTED and COMMITTED: the password that the rotation record holds becomes the one that the server takes, and
// then Vault's current one.
import type { Account } from "./account.ts";
import { RunbookError } from "./errors.ts";
import { installPassword } from "./install-password.ts";
import { smtpLogin } from "./mail-login.ts";
import { proveAccepted } from "./prove.ts";
import { isBefore } from "./records.ts";
import { containCommand } from "./reset-events.ts";
import type { Rotating } from "./rotation.ts";
import { Undecryptable } from "./transit.ts";

/** How many passwords are made before the server is believed to take none. */
const PASSWORDS = 3;

/** Sets the password. One that is Vault's current one already is set again only if it doesn't log in. */
export async function setPassword(account: Account, rotating: Rotating): Promise<void> {
  if (!isBefore(rotating.record.state, "COMMITTED")) {
    const password = await account.decrypt(rotating.record.password).catch(unlessUndecryptable);
    if (password !== undefined && (await logsIn(account, password))) return;
  }
  await install(account, rotating);
}

/** Logs in with it. One that the server takes and then refuses is made anew; what it said is kept as evidence. */
export async function provePassword(account: Account, rotating: Rotating): Promise<void> {
  for (let made = 1; ; made++) {
    const password = await account.decrypt(rotating.record.password);
    const verdict = await proveAccepted({ ...account.login, password });
    if (verdict.result === "accepted") return rotating.advance("ACCEPTED", { new_proof: "login" });
    if (verdict.result === "limited" && (await hashChanged(account))) {
      return rotating.advance("ACCEPTED", { new_proof: "hash" });
    }
    if (verdict.result !== "refused" || made === PASSWORDS) {
      throw unproven(account, rotating, verdict.said, made);
    }
    await rotating.prepareAnew(await account.sealNewPassword(), verdict.said);
    await install(account, rotating);
  }
}

/**
 * Logs in with a password that was stored already, but proven by its hash alone, or found beside an old one that logged
 * in too. One that is refused was replaced in Mailu by somebody since: it is set again.
 */
export async function provePasswordLate(account: Account, rotating: Rotating): Promise<void> {
  for (const attempt of ["as it is", "set again"]) {
    const { state, password } = rotating.record;
    const verdict = await proveAccepted({ ...account.login, password: await account.decrypt(password) });
    if (verdict.result === "accepted") return rotating.advance(state, { new_proof: "login" });
    if (verdict.result !== "refused") return;
    if (attempt === "set again") throw unproven(account, rotating, verdict.said, 1);
    await install(account, rotating);
  }
}

/** Stores it as Vault's current credential, every other field as it is. Returns the version. */
export async function storePassword(account: Account, rotating: Rotating): Promise<number> {
  const version = await rotating.commit(new Date(), async () => {
    await install(account, rotating);
    await provePassword(account, rotating);
  });
  await rotating.advance("COMMITTED");
  return version;
}

async function install(account: Account, rotating: Rotating): Promise<void> {
  const { mailu, server, decrypt } = account;
  const set = () =>
    installPassword(rotating, {
      decrypt: (ciphertext) => decrypt(ciphertext),
      set: (plaintext) => mailu.setAdminPassword(server.domain, plaintext),
      logsIn: (plaintext) => logsIn(account, plaintext),
    });
  await set().catch(async (error: unknown) => {
    if (!(error instanceof Undecryptable)) throw error;
    await replaceUndecryptable(account, rotating, error);
    await set();
  });
  await rotating.advance("SET");
}

/** A record can outlive its key. A password that nobody can read any more gives way, or no reset would ever end. */
async function replaceUndecryptable(account: Account, rotating: Rotating, why: Error): Promise<void> {
  const due = await rotating.confirm();
  if ((await account.decrypt(due).catch(unlessUndecryptable)) !== undefined) return;
  await rotating.prepareAnew(await account.sealNewPassword(), why.message);
}

function unlessUndecryptable(error: unknown): undefined {
  if (!(error instanceof Undecryptable)) throw error;
}

async function logsIn({ login }: Account, password: string): Promise<boolean> {
  return (await smtpLogin({ ...login, password })).result === "accepted";
}

/** Where a server lets nobody log in, the hash tells whether Mailu did what it said. */
async function hashChanged({ mailu, username, hash }: Account): Promise<boolean> {
  const now = await mailu.passwordHash(username);
  return now !== undefined && now !== hash;
}

function unproven(
  { server, username }: Account,
  { tenant, record }: Rotating,
  said: string,
  made: number,
): RunbookError {
  const what =
    made === PASSWORDS
      ? `Mailu took ${PASSWORDS} new passwords for ${username}, and the server refused each at the login`
      : `The new password of ${username} can't be proven`;
  return new RunbookError(`${what}: ${said}`, {
    exit: "failed",
    next: `ssh root@${server.vps_ip} docker compose -f /opt/mailu/docker-compose.yml logs --tail 50   # then the same command again; is the password in strangers' hands meanwhile: ${containCommand(tenant, record)}`,
  });
}
