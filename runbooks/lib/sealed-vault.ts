// A Vault for which there is no token yet: new, sealed, or just overwritten by a snapshot. Until somebody has one, Vault
// is opened by its key shares alone, over requests that no client library has in a form that could be trusted here.
import type { Readable } from "node:stream";
import { json } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { messageOf, RunbookError } from "./errors.ts";
import { opensItself } from "./key-shares.ts";
import { registerSecret } from "./redact.ts";
import { explain } from "./vault-error.ts";
import { upload } from "./vault-stream.ts";
import { requestTo, type VaultAccess } from "./vault-wire.ts";

/** As `sys/seal-status` says it. `t` of `n` shares open it; for auto-unseal that is said of the recovery keys. */
export const SealStatus = z.object({
  type: z.string(),
  initialized: z.boolean(),
  sealed: z.boolean(),
  t: z.number().int(),
  n: z.number().int(),
  progress: z.number().int(),
  version: z.string(),
  storage_type: z.string().default(""),
  /** Empty while it is sealed. */
  cluster_name: z.string().default(""),
  cluster_id: z.string().default(""),
});
export type SealStatus = z.infer<typeof SealStatus>;

export interface Waiting {
  /** Seconds after which it is given up. */
  seconds?: number;
  /** Told what is waited for, about once a second. */
  onProgress?: (text: string) => void;
}

/** Milliseconds for one answer: opening a large storage takes its time. */
const TIMEOUT = 30_000;
const POLL = 200;

export class SealedVault {
  readonly access: Omit<VaultAccess, "token">;

  constructor(access: Omit<VaultAccess, "token">) {
    this.access = access;
  }

  status(): Promise<SealStatus> {
    return this.#ask("GET", "sys/seal-status", SealStatus);
  }

  /** The health page's HTTP code: 200 active, 429 open but standby, 501 not initialised, 503 sealed. */
  async health(): Promise<number> {
    return (await this.#send("GET", "sys/health")).status;
  }

  /** When its active node became that, to the nanosecond: no two Vaults have one in common. Takes an open Vault. */
  async activeSince(): Promise<string> {
    return (await this.#ask("GET", "sys/leader", Leader)).active_time;
  }

  /**
   * Makes a Vault of nothing; both results are registered as secrets. One that opens itself makes recovery keys, which it
   * then takes like key shares. @throws RunbookError (exit 1) for one that has data.
   */
  async init(shares: number, threshold: number): Promise<{ shares: string[]; rootToken: string }> {
    const itself = opensItself({ seal_type: (await this.status()).type });
    const body = itself
      ? { recovery_shares: shares, recovery_threshold: threshold }
      : { secret_shares: shares, secret_threshold: threshold };
    const made = await this.#ask("PUT", "sys/init", Initialised, body);
    const inHex = [...made.keys, ...(made.recovery_keys ?? [])];
    const inBase64 = [...made.keys_base64, ...(made.recovery_keys_base64 ?? [])];
    for (const secret of [...inHex, ...inBase64, made.root_token]) registerSecret(secret);
    return { shares: inBase64, rootToken: made.root_token };
  }

  /**
   * Opens it, from the start: what others have typed before is forgotten. Nothing to do for an open one. One that should
   * have opened itself, and gave up, is told by its recovery keys to try again.
   * @throws RunbookError: refused (4) when these shares don't open it, or it was overwritten by a snapshot with another
   *   number of shares and wasn't restarted since; SealUnreachable (4) when its KMS doesn't open it.
   */
  async unseal(shares: readonly string[]): Promise<void> {
    if (!(await this.status()).sealed) return;
    await this.#ask("PUT", "sys/unseal", SealStatus, { reset: true });
    for (const [index, key] of shares.entries()) {
      const { status, body } = await this.#send("PUT", "sys/unseal", { key });
      if (status !== 200) throw wrongShares(this.access.addr, index, saidIn(body), status);
      if (!SealStatus.parse(body).sealed) return;
    }
    const { t, progress } = await this.status();
    throw new RunbookError(
      `Vault at ${this.access.addr} is still sealed: it has ${progress} of ${t} shares`,
      {
        exit: "refused",
        next: `the same command again, with ${t} shares`,
      },
    );
  }

  /** Until it is sealed: after a restore Vault says 204 first, and seals itself then. @throws RunbookError (exit 1). */
  awaitSealed(how: Waiting = {}): Promise<void> {
    return this.#until("it seals itself", how, async () => (await this.status()).sealed, explainUnsealed);
  }

  /**
   * Until it answers requests. `sealed: false` isn't enough: a Vault that can't use an audit device of its own stays
   * standby. @param auditPaths of the snapshot, for the error. @throws RunbookError (exit 1) that says what it lacks.
   */
  awaitActive(auditPaths: readonly string[] = [], how: Waiting = {}): Promise<void> {
    let code = 0;
    const active = async () => {
      code = await this.health();
      return code === 200;
    };
    return this.#until("it is active", how, active, (addr) => explainInactive(addr, code, auditPaths));
  }

  /**
   * A root token, which the caller revokes. An attempt that is under way is cancelled: a dead run of ours may have left it.
   * Takes an active Vault. @throws RunbookError: refused (4) for shares that aren't its own.
   */
  async generateRoot(shares: readonly string[]): Promise<string> {
    await this.cancelGenerateRoot();
    const { nonce, otp } = await this.#ask("PUT", "sys/generate-root/attempt", Attempt, {});
    registerSecret(otp);
    try {
      for (const [index, key] of shares.entries()) {
        const { status, body } = await this.#send("PUT", "sys/generate-root/update", { key, nonce });
        if (status !== 200) throw wrongShares(this.access.addr, index, saidIn(body), status);
        const { complete, encoded_token } = Progress.parse(body);
        if (!complete) continue;
        const token = decodeToken(encoded_token, otp);
        registerSecret(token);
        return token;
      }
      throw new RunbookError(`Vault at ${this.access.addr} wants more key shares for a root token`, {
        exit: "refused",
        next: "the same command again, with as many shares as its threshold says",
      });
    } catch (error) {
      // What failed is worth more than that it can't be cleaned up.
      await this.cancelGenerateRoot().catch(() => {});
      throw error;
    }
  }

  /** Nothing to do where no attempt is under way. */
  async cancelGenerateRoot(): Promise<void> {
    await this.#ask("DELETE", "sys/generate-root/attempt", z.unknown());
  }

  /**
   * Replaces everything in this Vault, which seals itself then. `token` is a root token of what is replaced.
   * @throws RunbookError (exit 1) for an archive that Vault doesn't take; the stream's own error when that fails.
   */
  restoreSnapshot(token: string, archive: Readable): Promise<void> {
    return upload({ ...this.access, token }, "sys/storage/raft/snapshot-force", archive);
  }

  async #until(
    what: string,
    { seconds = 60, onProgress = () => {} }: Waiting,
    met: () => Promise<boolean>,
    explained: (addr: string, seconds: number) => RunbookError,
  ): Promise<void> {
    const start = performance.now();
    let told = start;
    for (;;) {
      // Between two states it may answer nothing at all.
      let failure: unknown;
      const done = await met().catch((error) => {
        failure = error;
        return false;
      });
      if (done) return;
      const now = performance.now();
      if (now - start > seconds * 1000) throw failure ?? explained(this.access.addr, seconds);
      if (now - told > 1000) {
        told = now;
        onProgress(`  waiting for ${Math.round((now - start) / 1000)} s until ${what}`);
      }
      await sleep(POLL);
    }
  }

  async #ask<T>(method: string, path: string, schema: z.ZodType<T>, body?: unknown): Promise<T> {
    const { status, body: answer } = await this.#send(method, path, body);
    const parsed = schema.safeParse(answer);
    if (status >= 200 && status <= 299 && parsed.success) return parsed.data;
    const said =
      status >= 200 && status <= 299
        ? parsed.error
        : { message: saidIn(answer), response: { statusCode: status } };
    throw explain(this.access.addr, said, method === "GET" ? "read" : "write", path);
  }

  /** Whatever Vault answers. @throws RunbookError when it doesn't. */
  async #send(method: string, path: string, body?: unknown): Promise<{ status: number; body: unknown }> {
    try {
      return await new Promise((resolve, reject) => {
        const request = requestTo(this.access, method, `${this.access.addr}/v1/${path}`, TIMEOUT);
        request.on("timeout", () => request.destroy(new Error(`no answer within ${TIMEOUT / 1000} s`)));
        request.on("error", reject);
        request.once("response", (answer) => {
          const status = answer.statusCode ?? 0;
          if (status === 204) answer.resume().once("end", () => resolve({ status, body: undefined }));
          else json(answer).then((read) => resolve({ status, body: read }), reject);
        });
        request.end(body === undefined ? undefined : JSON.stringify(body));
      });
    } catch (error) {
      throw explain(this.access.addr, new Error(messageOf(error)), method === "GET" ? "read" : "write", path);
    }
  }
}

/** A Vault that opens itself can't: nobody's recovery keys are at fault. */
export class SealUnreachable extends RunbookError {}

function wrongShares(addr: string, index: number, said: string, status: number): RunbookError {
  // All with a 400. Wrong key shares fail at a seal as well, named shamir (seen with 1.21).
  if (/decrypting using seal (?!shamir)/.test(said)) {
    return new SealUnreachable(
      `Vault at ${addr} can't open itself (${said}): it doesn't reach the KMS of its seal, or the key there isn't the one that its storage is sealed by`,
      {
        exit: "refused",
        next: "on Vault's server: see that the KMS answers and the key of `seal` in its configuration is the right one, systemctl restart vault; then the same command again",
      },
    );
  }
  if (said.includes("recovery key")) {
    return new RunbookError(
      `Vault at ${addr} doesn't take these recovery keys (${said}): one of them is wrong, or of another Vault`,
      {
        exit: "refused",
        next: "the same command again, with the recovery keys of the Vault that was backed up",
      },
    );
  }
  if (status >= 500) {
    return new RunbookError(`Vault at ${addr} failed to take key share ${index + 1}: ${said}`, {
      exit: "failed",
      next: "vault status   # and Vault's own log; then run this again",
    });
  }
  const size = said.includes("invalid key size");
  const why = size
    ? `Vault at ${addr} refuses these key shares (${said}): they are of another Vault, or it was overwritten by a snapshot with another number of shares`
    : `Vault at ${addr} isn't opened by these key shares (${said}): one of them is wrong, or of another Vault`;
  return new RunbookError(why, {
    exit: "refused",
    next: size
      ? "restart Vault's process, then the same command again with the shares of the Vault that was backed up"
      : "the same command again, with the shares of the Vault that was backed up",
  });
}

const explainUnsealed = (addr: string, seconds: number): RunbookError =>
  new RunbookError(`Vault at ${addr} took the snapshot, and hasn't sealed itself ${seconds} s later`, {
    exit: "failed",
    next: "vault status   # and Vault's own log; then run this again",
  });

function explainInactive(addr: string, code: number, auditPaths: readonly string[]): RunbookError {
  const next =
    code === 429
      ? `on Vault's server: see that ${auditPaths.join(" and ") || "its audit paths"} can be written; Vault becomes active by itself then, and the same command goes on`
      : "vault status   # and Vault's own log; then run this again";
  const why =
    code === 429
      ? "it is open, but doesn't become active: Vault can use none of the audit devices that it was backed up with"
      : code === 503
        ? "it is sealed again"
        : `its health page answers ${code}`;
  return new RunbookError(`Vault at ${addr} doesn't answer requests: ${why}`, { exit: "failed", next });
}

/** Vault hides the token from whoever overhears the answer: it is XORed with a pad that only the one who began got. */
export function decodeToken(encoded: string, otp: string): string {
  const pad = Buffer.from(otp);
  return Buffer.from(encoded, "base64")
    .map((byte, at) => byte ^ (pad[at] ?? 0))
    .toString();
}

function saidIn(body: unknown): string {
  const errors = z.object({ errors: z.array(z.string()) }).safeParse(body).data?.errors ?? [];
  return errors.join("; ").replaceAll(/\s+/g, " ").trim().slice(0, 300) || "it gives no reason";
}

const Initialised = z.object({
  keys: z.array(z.string()),
  keys_base64: z.array(z.string()),
  recovery_keys: z.array(z.string()).nullish(),
  recovery_keys_base64: z.array(z.string()).nullish(),
  root_token: z.string().min(1),
});
const Leader = z.object({ active_time: z.string().min(1) });
const Attempt = z.object({ nonce: z.string().min(1), otp: z.string().min(1) });
const Progress = z.object({ complete: z.boolean(), encoded_token: z.string().default("") });
