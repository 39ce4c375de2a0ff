// From what a person types to a token of Vault's. Nothing of it is stored, and what Vault refuses isn't quoted.
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { RunbookError } from "../lib/errors.ts";
import { assertOwnVault, vaultPlace } from "../lib/settings.ts";
import { Vault } from "../lib/vault.ts";
import type { Console } from "./context.ts";

export interface Credentials {
  readonly token: string;
  /** Of a token that the console got from Vault, and revokes at the end: seconds for which it lives. */
  readonly fetched: number | undefined;
}

/** Service, batch and recovery tokens, of Vault 1.10 on and before; also within a namespace. */
const TOKEN = /^(?:hv[sbr]|[sbr])\.[A-Za-z0-9_.-]{20,}$/;

/** Vault renders a path that it is given as a template: a name must not be one. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$/;

/** A pasted token. @throws RunbookError (3) for one that Vault doesn't take. */
export async function byToken(console: Console, pasted: string): Promise<Credentials> {
  const token = pasted.trim();
  if (!TOKEN.test(token))
    throw refused("That is no token of Vault's", "paste what `vault print token` prints");
  // Tried before it counts as a secret: whoever only guesses must not fill the list of them.
  const vault = await vaultFor(console, token);
  await vault.read("auth/token/lookup-self", z.unknown()).catch((error: unknown) => {
    if (error instanceof RunbookError && error.exitCode === 3) {
      throw refused(
        "Vault doesn't accept this token: it is wrong, expired or revoked",
        "vault login -token-only",
      );
    }
    throw error;
  });
  return { token, fetched: undefined };
}

/** Vault's userpass method. @throws RunbookError (3), the same for a wrong name and a wrong password. */
export async function byPassword(console: Console, name: string, password: string): Promise<Credentials> {
  const wrong = refused("Name or password is wrong, or Vault has no login by password", "use a token");
  if (!NAME.test(name) || password === "") throw wrong;
  const vault = await vaultFor(console, "");
  const path = `auth/userpass/login/${name}`;
  const answer = await vault.write(path, { password }, Login).catch((error: unknown) => {
    throw isRefusal(error) ? wrong : error;
  });
  return fetched(answer);
}

/** Vault's 400 and 403: it was there, and said no. */
const isRefusal = (error: unknown): boolean =>
  error instanceof RunbookError && (error.exitCode === 3 || /\(HTTP 400\)$/.test(error.message));

/** The Vault of the settings with this token, or with none where it is "". */
export async function vaultFor({ settings, env }: Console, token: string): Promise<Vault> {
  const { addr = settings.vault.addr, namespace, caCert } = vaultPlace(env);
  assertOwnVault(settings, addr);
  const ca = caCert === undefined ? undefined : await readFile(caCert);
  return Vault.withToken({ addr, token, namespace, ca });
}

const refused = (message: string, next: string): RunbookError =>
  new RunbookError(message, { exit: "permission", next });

export const Login = z.object({
  auth: z.object({ client_token: z.string().min(1), lease_duration: z.number() }),
});

export const fetched = ({ auth }: z.output<typeof Login>): Credentials => ({
  token: auth.client_token,
  fetched: auth.lease_duration,
});
