// Mailu's administration API. A 200 proves nothing here (an unknown field answers 200 and changes nothing), so
// whoever sets a password logs in with it afterwards.
import { Agent, request } from "node:https";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { adminAddress } from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import { registerSecret } from "./redact.ts";
import type { TlsTrust } from "./tls-trust.ts";

/** Milliseconds after which a silent API counts as hanging. */
const TIMEOUT_MS = 10_000;

/**
 * Milliseconds within which a kept connection shows that the server had closed it meanwhile. What may be repeated is
 * then asked again on another one; later than that, whoever sets a password must look at Vault first.
 */
const STALE_MS = 1_000;

/** What the API answered; `body` is JSON where it could be parsed. */
export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

export class Mailu {
  readonly #url: string;
  readonly #token: string;
  readonly #agent: Agent;

  /**
   * @param apiUrl e.g. `https://192.0.2.7/api/v1`; @param token the API token, in plaintext.
   * @param connections at a time; no limit when left out. Each costs a handshake.
   */
  constructor(apiUrl: string, token: string, trust: TlsTrust, connections?: number) {
    this.#url = apiUrl;
    this.#token = token;
    this.#agent = new Agent({
      ...trust,
      keepAlive: true,
      ...(connections === undefined ? {} : { maxSockets: connections }),
    });
  }

  /**
   * Waits until the API answers and takes the token, to be asked before anything is changed. A host that just
   * started refuses connections or answers 502 to 504 for a while; every other failure is final at once, above
   * all 403, since five of them block the right token too.
   * @param seconds how long to wait for a Mailu that is still starting.
   */
  async waitUntilReady(domain: string, seconds: number): Promise<void> {
    const until = performance.now() + seconds * 1000;
    for (;;) {
      const answer = await this.#send("GET", `/domain/${domain}`, undefined).catch((error: unknown) => error);
      const starting =
        answer instanceof Error
          ? isRefusedConnection(answer.cause)
          : [502, 503, 504].includes((answer as Answer).status);
      if (!starting || performance.now() > until) {
        if (answer instanceof Error) throw answer;
        if (![200, 404].includes((answer as Answer).status))
          throw refusal(`GET /domain/${domain}`, this.#url, answer as Answer);
        return;
      }
      await sleep(500);
    }
  }

  /** Makes the domain unless it is there. */
  async ensureDomain(domain: string): Promise<void> {
    await this.ask("POST", "/domain", { name: domain }, [200, 409]);
  }

  /**
   * Makes sure that the domain's administrator exists, is enabled, may administer, and has this password.
   * Needs no old password, so it may be repeated.
   */
  async setAdminPassword(domain: string, password: string): Promise<void> {
    const email = adminAddress(domain);
    const rights = {
      raw_password: password,
      enabled: true,
      global_admin: true,
      change_pw_next_login: false,
      enable_imap: true,
    };
    const changed = await this.ask("PATCH", `/user/${email}`, rights, [200, 404]);
    if (changed.status === 404) await this.ask("POST", "/user", { email, ...rights }, [200]);
  }

  /**
   * The hash of a user's password; undefined where there is no such user. Tells whether a password was changed, where
   * nobody can log in to see. Registered for redaction.
   */
  async passwordHash(email: string): Promise<string | undefined> {
    const answer = await this.ask("GET", `/user/${email}`, undefined, [200, 404]);
    const hash = z.object({ password: z.string() }).safeParse(answer.body).data?.password;
    if (hash !== undefined) registerSecret(hash);
    return answer.status === 404 ? undefined : hash;
  }

  /** Ends kept-alive connections, which would hold the process open. */
  close(): void {
    this.#agent.destroy();
  }

  /** One call; `body` undefined sends none. Throws failed (1) for an answer that isn't among `expected`. */
  async ask(method: string, path: string, body: unknown, expected: readonly number[]): Promise<Answer> {
    const answer = await this.#send(method, path, body);
    if (expected.includes(answer.status)) return answer;
    throw refusal(`${method} ${path}`, this.#url, answer);
  }

  #send(method: string, path: string, body: unknown): Promise<Answer> {
    const url = new URL(this.#url + path);
    const begun = performance.now();
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const fail = (error: Error): void => reject(unanswered(`${method} ${path}`, url.hostname, error));
    const call = request(
      url,
      {
        method,
        agent: this.#agent,
        signal: AbortSignal.timeout(TIMEOUT_MS),
        headers: { Authorization: `Bearer ${this.#token}`, "Content-Type": "application/json" },
      },
      (response) => {
        text(response).then(
          (content) => resolve({ status: response.statusCode ?? 0, body: parse(content) }),
          fail,
        );
      },
    );
    call.on("error", (error: NodeJS.ErrnoException) => {
      const stale = call.reusedSocket && error.code === "ECONNRESET" && performance.now() - begun < STALE_MS;
      if (stale && method !== "POST") resolve(this.#send(method, path, body));
      else fail(error);
    });
    call.end(body === undefined ? undefined : JSON.stringify(body));
    return promise;
  }
}

const isRefusedConnection = (error: unknown): boolean =>
  ["ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH"].includes(
    (error as NodeJS.ErrnoException | undefined)?.code ?? "",
  );

function refusal(what: string, url: string, answer: Answer): RunbookError {
  const host = new URL(url).hostname;
  const advice: Record<number, string> = {
    401: "is the front proxy passing Authorization on? docker compose logs front admin   (on the host)",
    403: "the API token on the host is not the one in Vault: run recover-credentials, which puts it back. Don't retry: five wrong tokens an hour block the right one too",
    429: "Mailu blocks this network after failed tries: wait an hour, or put it into AUTH_RATELIMIT_EXEMPTION (stack config 'exemptNetworks') and run pulumi up",
  };
  const message =
    typeof answer.body === "object" && answer.body !== null && "message" in answer.body
      ? `: ${String(answer.body.message)}`
      : "";
  return new RunbookError(`Mailu on ${host} answered ${answer.status} to ${what}${message}`, {
    exit: "failed",
    next:
      advice[answer.status] ??
      `ssh root@${host} docker compose -f /opt/mailu/docker-compose.yml logs --tail 50 admin   # then run this again`,
  });
}

function unanswered(what: string, host: string, error: Error): RunbookError {
  const how =
    (error.cause as Error | undefined)?.name === "TimeoutError"
      ? `gave no answer to ${what} within ${TIMEOUT_MS / 1000} s`
      : `can't be asked (${what}): ${error.message}`;
  return new RunbookError(`Mailu on ${host} ${how}`, {
    exit: "failed",
    next: `ssh root@${host} docker compose -f /opt/mailu/docker-compose.yml ps   # then run this again`,
    cause: error,
  });
}

function parse(content: string): unknown {
  try {
    return JSON.parse(content);
  } catch {
    return content;
  }
}
