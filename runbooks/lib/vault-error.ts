// Which of Vault's many 'no's an answer was, as an error that an operator can act on.
import { z } from "zod";
import { messageOf, RunbookError } from "./errors.ts";

/**
 * Turns whatever a request to Vault at `addr` threw into a RunbookError: refused (4) when it is sealed, permission
 * (3) for a 403, failed (1) for everything else. `verb` and `path` say what was asked.
 */
export function explain(addr: string, error: unknown, verb: string, path: string): RunbookError {
  if (error instanceof RunbookError) return error;
  const status = statusOf(error);
  const said =
    error instanceof z.ZodError
      ? "an answer of an unknown form"
      : String((error as Error).message ?? error)
          .replaceAll(/\s+/g, " ")
          .trim();
  if (status === 503) {
    return new RunbookError(`Vault at ${addr} is sealed or not active (${said})`, {
      exit: "refused",
      next: "vault operator unseal   # as many times as the threshold says, then run this again",
      cause: error,
    });
  }
  if (status === 403 && path === "auth/token/lookup-self") {
    return new RunbookError(
      `Vault doesn't accept the token: VAULT_TOKEN is wrong, expired or revoked (${said})`,
      {
        exit: "permission",
        next: "vault login   # then: export VAULT_TOKEN=$(vault print token)",
        cause: error,
      },
    );
  }
  if (status === 403) {
    return new RunbookError(`Insufficient permissions: Vault refuses to ${verb} ${path} (${said})`, {
      exit: "permission",
      next: "vault token lookup   # is the token still valid, and has it the role this runbook names in --help?",
      cause: error,
    });
  }
  if (status === undefined && !(error instanceof z.ZodError)) {
    return new RunbookError(`Vault at ${addr} can't be reached: ${said}`, {
      exit: "failed",
      next: `vault status -address=${addr}   # is it running, and is VAULT_ADDR right?`,
      cause: error,
    });
  }
  return new RunbookError(
    `Vault failed to ${verb} ${path}: ${said}${status === undefined ? "" : ` (HTTP ${status})`}`,
    {
      exit: "failed",
      next: "vault status   # and Vault's own log; then run this again",
      cause: error,
    },
  );
}

/** The HTTP status of node-vault's error; undefined when there was no answer. */
export function statusOf(error: unknown): number | undefined {
  const parsed = z.object({ response: z.object({ statusCode: z.number() }) }).safeParse(error);
  return parsed.success ? parsed.data.response.statusCode : undefined;
}

/** A record of which only the metadata is left, for a moment or for ever. */
export const isHalfDeleted = (error: unknown): boolean =>
  statusOf(error) === 500 && /could not find version data/.test(messageOf(error));
