// Who is signed in. A person's token is in this process's memory alone, for as long as the session lasts; one that the
// console itself got from Vault is revoked at its end.
import { randomBytes, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { RunbookError } from "../lib/errors.ts";
import { registerSecret } from "../lib/redact.ts";
import type { Settings } from "../lib/settings.ts";
import { Vault } from "../lib/vault.ts";
import { Renewal } from "./renewal.ts";
import type { Credentials } from "./vault-login.ts";

export interface Session {
  /** In the cookie. */
  readonly id: string;
  /** In each form: another site can send a form here, but doesn't know this. */
  readonly csrf: string;
  /** Vault's name for the person. */
  readonly user: string;
  readonly vault: Vault;
  /** The environment for runs of this person. */
  readonly env: NodeJS.ProcessEnv;
  /** Why this person may see nothing here; undefined for everybody who may list the tenants. */
  readonly lacks: RunbookError | undefined;
  /** Aborted when the session ends. */
  readonly ended: AbortSignal;
}

interface Open extends Session {
  readonly controller: AbortController;
  /** For a token that the console got from Vault; one that was pasted in is the person's own, to revoke as well. */
  readonly renewal: Renewal | undefined;
  timer: NodeJS.Timeout | undefined;
}

export class Sessions {
  readonly #open = new Map<string, Open>();
  readonly #settings: Settings;
  readonly #env: NodeJS.ProcessEnv;
  readonly #idleMs: number;
  readonly #revoking = new Set<Promise<void>>();
  /** Resolves once no run needs the session's token any more. */
  readonly #unused: (session: Session) => Promise<void>;

  constructor(
    settings: Settings,
    env: NodeJS.ProcessEnv,
    idleMs: number,
    unused: (session: Session) => Promise<void>,
  ) {
    this.#settings = settings;
    this.#env = env;
    this.#idleMs = idleMs;
    this.#unused = unused;
  }

  /** @throws RunbookError as a runbook with this token: foreign or sealed Vault, a root token, one that isn't valid. */
  async begin({ token, fetched }: Credentials): Promise<Session> {
    registerSecret(token);
    const env = { ...this.#env, VAULT_TOKEN: token };
    const vault = await Vault.connect(this.#settings, { env });
    const lacks = await lacking(vault);
    const controller = new AbortController();
    const session: Open = {
      id: randomBytes(32).toString("base64url"),
      csrf: randomBytes(32).toString("base64url"),
      user: vault.user,
      vault,
      env,
      lacks,
      ended: controller.signal,
      controller,
      renewal: fetched === undefined ? undefined : new Renewal(vault, fetched),
      timer: undefined,
    };
    this.#open.set(session.id, session);
    this.touch(session);
    return session;
  }

  find(id: string | undefined): Session | undefined {
    return id === undefined ? undefined : this.#open.get(id);
  }

  /** The person did something: the session lasts so long again. */
  touch({ id }: Session): void {
    const session = this.#open.get(id);
    if (session === undefined) return;
    void session.renewal?.ifDue();
    clearTimeout(session.timer);
    session.timer = setTimeout(() => this.end(session), this.#idleMs).unref();
  }

  end({ id }: Session): void {
    const session = this.#open.get(id);
    if (session === undefined) return;
    this.#open.delete(id);
    clearTimeout(session.timer);
    session.controller.abort();
    if (session.renewal === undefined) return;
    const revoking = this.#revoke(session).finally(() => this.#revoking.delete(revoking));
    this.#revoking.add(revoking);
  }

  /** Ends them all; resolves once their tokens are revoked. */
  async endAll(): Promise<void> {
    for (const session of [...this.#open.values()]) this.end(session);
    await Promise.all(this.#revoking);
  }

  async #revoke(session: Session): Promise<void> {
    await this.#unused(session);
    // It ends by itself within the hour where Vault can't be reached now.
    await session.vault.write("auth/token/revoke-self", {}, z.unknown()).catch(() => {});
  }
}

/** Whether a form or a script's request comes from a page of this session. */
export function isFromSession({ csrf }: Session, given: unknown): boolean {
  if (typeof given !== "string") return false;
  const [known, told] = [Buffer.from(csrf), Buffer.from(given)];
  return known.length === told.length && timingSafeEqual(known, told);
}

/** Every role of the operators may list the tenants, a tenant's own reader may not: it has no business here. */
async function lacking(vault: Vault): Promise<RunbookError | undefined> {
  try {
    await vault.requireCapabilities({ "smtp/metadata": ["list"] }, "incident-responder");
    return undefined;
  } catch (error) {
    if (error instanceof RunbookError && error.exitCode === 3) return error;
    throw error;
  }
}
