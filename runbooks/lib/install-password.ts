// Setting a Mailu password under the rotation record. Mailu knows nothing of that record, so a run that was held up
// (stopped, cut off, asleep) could set a password that somebody who took over has replaced: hence a look at Vault
// just before, and another just after that puts right what came too late.
import { RunbookError } from "./errors.ts";
import type { Rotating } from "./rotation.ts";
import { Overtaken } from "./rotation-begin.ts";

/** The server and the tenant's key, as far as they are needed here. */
export interface PasswordServer {
  /** The plaintext of a ciphertext of the tenant's. */
  readonly decrypt: (ciphertext: string) => Promise<string>;
  /** Sets the administrator's password; may be repeated. */
  readonly set: (plaintext: string) => Promise<void>;
  /** Whether this password is accepted now. */
  readonly logsIn: (plaintext: string) => Promise<boolean>;
}

/** Milliseconds for which a look at Vault counts: what was seen before may no longer be true. */
const FRESH_MS = 2_000;

/** How often the password may change, or a look take too long, before the run gives up. */
const ATTEMPTS = 5;

/**
 * Sets the password that the rotation record holds, again if Vault got another one meanwhile, and returns it.
 * Throws Overtaken (4) when somebody else took over the rotation; the server then has the password of theirs.
 */
export async function installPassword(rotating: Rotating, server: PasswordServer): Promise<string> {
  let wanted = rotating.record.password;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const plaintext = await server.decrypt(wanted);
    const looked = performance.now();
    const before = await rotating.confirm();
    if (before === wanted && performance.now() - looked < FRESH_MS) {
      // An answer that doesn't come leaves open whether it was set, and then when.
      const failed = await server.set(plaintext).then(
        () => undefined,
        (error: unknown) => ({ error }),
      );
      const after = await rotating.confirm().catch(async (error: unknown) => {
        if (!(error instanceof Overtaken)) throw failed?.error ?? error;
        await yieldTo(rotating, server);
        throw error;
      });
      if (failed !== undefined) throw failed.error;
      if (after === wanted) return plaintext;
      wanted = after;
    } else wanted = before;
  }
  throw new RunbookError(`Vault is too slow, or the password of ${rotating.tenant} keeps changing there`, {
    exit: "failed",
    next: "vault status   # then run this again: it goes on from here",
  });
}

/** Sees to it that the password of whoever took over is the one that logs in, until nobody changes it any more. */
async function yieldTo(rotating: Rotating, server: PasswordServer): Promise<void> {
  let seen: string | undefined;
  for (;;) {
    const theirs = await rotating.due();
    if (theirs === undefined || theirs === seen) return;
    seen = theirs;
    const plaintext = await server.decrypt(theirs);
    if (!(await server.logsIn(plaintext))) await server.set(plaintext);
  }
}
