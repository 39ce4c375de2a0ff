// Requests to Vault, whatever their path. Answers are parsed here, so that nothing of unknown shape gets further, and every
// failure leaves as a RunbookError that says which of Vault's many 'no's it was.
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import vaultClient, { type client as NodeVaultClient } from "node-vault";
import { z } from "zod";
import { turnstile } from "./parallel.ts";
import { explain, isHalfDeleted, statusOf } from "./vault-error.ts";
import { download, upload } from "./vault-stream.ts";
import { transport, type VaultAccess } from "./vault-wire.ts";

/** Milliseconds after which an unanswered request to Vault counts as failed. */
const TIMEOUT_MS = 10_000;

/** Requests on their way at a time: what waits its turn here doesn't run into the time limit there. */
const AT_ONCE = 64;

/** Milliseconds to wait for a deletion that is under way: Vault takes a record's data away before its metadata. */
const DELETING_MS = [100, 400, 1_000];

/** Without a token for whoever is yet to log in. */
export type Access = Omit<VaultAccess, "token"> & { token: string | undefined };

export class VaultRequests {
  readonly addr: string;
  readonly #wire: Omit<VaultAccess, "addr" | "token">;
  readonly #client: NodeVaultClient;
  readonly #turn = turnstile(AT_ONCE);

  protected constructor({ addr, token, ...wire }: Access) {
    this.addr = addr;
    this.#wire = wire;
    this.#client = vaultClient({
      endpoint: addr,
      ...(token === undefined ? {} : { token }),
      ...(wire.namespace === undefined ? {} : { namespace: wire.namespace }),
      // Without this, DEBUG=node-vault would print request payloads.
      debug: () => {},
      "request-promise": transport(wire, TIMEOUT_MS),
    });
  }

  /** The token, for a program that is started with it in its environment. */
  get token(): string {
    return this.#client.token;
  }

  protected set token(token: string) {
    this.#client.token = token;
  }

  /** Reads any path; undefined for a 404. */
  async read<T>(path: string, schema: z.ZodType<T>): Promise<T | undefined> {
    for (const pause of [...DELETING_MS, undefined]) {
      try {
        return schema.parse(await this.ask((vault) => vault.read(path)));
      } catch (error) {
        if (statusOf(error) === 404) return undefined;
        if (!isHalfDeleted(error)) throw explain(this.addr, error, "read", path);
      }
      if (pause !== undefined) await sleep(pause);
    }
    // Whoever deleted it died on the way: its data is gone, and with its metadata somebody can go on.
    return undefined;
  }

  /** Writes any path and parses the answer. */
  async write<T>(path: string, body: Record<string, unknown>, schema: z.ZodType<T>): Promise<T> {
    try {
      return schema.parse(await this.ask((vault) => vault.write(path, body)));
    } catch (error) {
      throw explain(this.addr, error, "write", path);
    }
  }

  /** The names below a path; none where there is no such path. */
  async list(path: string): Promise<string[]> {
    try {
      return KeyList.parse(await this.ask((vault) => vault.list(path))).data.keys;
    } catch (error) {
      if (statusOf(error) === 404) return [];
      throw explain(this.addr, error, "list", path);
    }
  }

  /** Deletes what is at a path; nothing to do where there is nothing. */
  async remove(path: string): Promise<void> {
    try {
      await this.ask((vault) => vault.delete(path));
    } catch (error) {
      if (statusOf(error) !== 404) throw explain(this.addr, error, "delete", path);
    }
  }

  /** Lays a secret into Vault's cubbyhole for one reader: the token opens it once, within `seconds`, and needs no other right. */
  async wrap(secret: Record<string, string>, seconds: number): Promise<string> {
    const path = "sys/wrapping/wrap";
    try {
      const headers = { "X-Vault-Wrap-TTL": `${seconds}s` };
      const request = { path: `/${path}`, method: "POST", headers, json: secret };
      return Wrapped.parse(await this.ask((vault) => vault.request(request))).wrap_info.token;
    } catch (error) {
      throw explain(this.addr, error, "write", path);
    }
  }

  /** A stream from Vault, such as a snapshot; see `download`. */
  download(path: string): Promise<Readable> {
    return download({ addr: this.addr, token: this.token, ...this.#wire }, path);
  }

  /** A stream to Vault, such as a snapshot to be restored; see `upload`. */
  upload(path: string, body: Readable): Promise<void> {
    return upload({ addr: this.addr, token: this.token, ...this.#wire }, path, body);
  }

  /** A request of which the caller wants the client's own errors: they tell what Vault answered. */
  protected ask<T>(request: (vault: NodeVaultClient) => Promise<T>): Promise<T> {
    return this.#turn(() => request(this.#client));
  }
}

const KeyList = z.object({ data: z.object({ keys: z.array(z.string()) }) });
const Wrapped = z.object({ wrap_info: z.object({ token: z.string().min(1) }) });
