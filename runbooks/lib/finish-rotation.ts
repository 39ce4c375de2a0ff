// The rotation's state machine from PREPARED to RETIRED. Each step may die before it, in it and after it: whoever
// comes next reads the state and goes on. What a step can't do, and what the tenant's safety doesn't hang on, holds
// up nothing else: it is told at the end.
import type { Account } from "./account.ts";
import { Aftermath } from "./aftermath.ts";
import { RunbookError } from "./errors.ts";
import type { ResetTools } from "./reset.ts";
import type { Rotating } from "./rotation.ts";
import { Overtaken } from "./rotation-begin.ts";
import { provePassword, provePasswordLate, setPassword, storePassword } from "./set-password.ts";

export interface Finished {
  /** The credential's version in Vault. */
  readonly version: number;
  /** What is still to be done or to be looked at, in sentences; empty: everything is done. */
  readonly outstanding: readonly string[];
}

/**
 * Finishes a rotation that this run holds; `rotating` is undefined in a dry run. `pending` false: its password is in
 * use already, and only what was left outstanding is done.
 * Throws Overtaken (4) when another run took over, incomplete (5) when it can't go on.
 */
export async function finishRotation(
  tools: ResetTools,
  account: Account,
  rotating: Rotating | undefined,
  pending: boolean,
): Promise<Finished> {
  const rest = new Aftermath(tools, account);
  const step = (title: string, act: (rotating: Rotating) => Promise<void>) =>
    tools.change(title, async () => {
      if (rotating !== undefined) await act(rotating).catch((error: unknown) => stop(rotating, error));
    });
  const kind = rotating?.record.kind ?? (pending ? undefined : account.rotation?.kind);
  const last = (rotating?.record ?? account.rotation)?.history.at(-1)?.version;
  let version = pending ? account.admin.version : (last ?? account.admin.version);

  if (pending) {
    await step(`set the password of ${account.username} in Mailu`, (held) => setPassword(account, held));
    await step("prove the new password: log in over SMTP and IMAP", (held) => provePassword(account, held));
    await step("store it in Vault as the current credential", async (held) => {
      version = await storePassword(account, held);
    });
  } else if (account.rotation?.new_proof === "hash" || account.rotation?.old_proof === "accepted") {
    await step("prove that the new password is the one in use", (held) => provePasswordLate(account, held));
  }
  if (kind !== "recovery") {
    // Side by side: neither hangs on the other, and together they are a third of the whole.
    await bothOf(
      step("prove the old password dead: SMTP answers 535", (held) => rest.refuse(held)),
      step("delete app tokens that nobody sanctioned, end open connections, look for other ways in", (held) =>
        rest.sweep(held),
      ),
    );
    await step("mark the old version compromised", (held) => rest.mark(held));
  }
  if (pending) {
    await step("store the audit events and the notices", (held) => rest.notify(held, version));
    await step("clear the rotation record", (held) => rest.clear(held, version));
  }
  if (kind !== "recovery") {
    await step("retire the old versions of the tenant's key", (held) => rest.retire(held));
  }
  return { version, outstanding: rest.outstanding(rotating) };
}

/** Waits for both, also where one fails: the run must not end under the other. */
async function bothOf(...steps: Promise<unknown>[]): Promise<void> {
  for (const ended of await Promise.allSettled(steps)) if (ended.status === "rejected") throw ended.reason;
}

/** Once the record is held, whatever goes wrong leaves something to resume. */
function stop({ tenant, record }: Rotating, error: unknown): never {
  if (error instanceof Overtaken || !(error instanceof RunbookError)) throw error;
  throw new RunbookError(`${error.message}; the rotation of ${tenant} waits in state ${record.state}`, {
    exit: "incomplete",
    next: error.next ?? "run the same command again: it goes on from there",
    cause: error,
    ...(error.result === undefined ? {} : { result: error.result }),
  });
}
