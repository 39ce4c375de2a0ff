// The one way to Vault: records of the KV mount with compare-and-set, and whatever else a runbook reads or
// writes. Answers are parsed here, so that nothing of unknown shape gets further, and every failure leaves
// as a RunbookError that says which of Vault's many 'no's it was.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import vaultClient, { type client as NodeVaultClient } from "node-vault";
import { z } from "zod";
import {
  type CANARY,
  KV_MOUNT,
  metadataPath,
  type RecordName,
  recordPath,
  type TenantId,
  tenantIdProblem,
} from "../../stacks/names.ts";
import { canonicalJson } from "./audit-chain.ts";
import { RunbookError } from "./errors.ts";
import { inParallel, turnstile } from "./parallel.ts";
import { registerSecret } from "./redact.ts";
import { assertOwnVault, type Settings, vaultEnvironment } from "./settings.ts";
import { explain, isHalfDeleted, statusOf } from "./vault-error.ts";
import { download, upload } from "./vault-stream.ts";
import { transport, type VaultAccess } from "./vault-wire.ts";

/** A record as read: its fields, its version (1 and up) and the custom metadata of its key. */
export interface Stored<T> {
  readonly data: T;
  readonly version: number;
  readonly customMetadata: Readonly<Record<string, string>>;
}

/** Somebody else wrote the record since it was read: nothing was written. */
export class CasConflict extends Error {}

/** Milliseconds after which an unanswered request to Vault counts as failed. */
const TIMEOUT_MS = 10_000;

/** Requests on their way at a time: what waits its turn here doesn't run into the time limit there. */
const AT_ONCE = 64;

/** Milliseconds to wait for a deletion that is under way: Vault takes a record's data away before its metadata. */
const DELETING_MS = [100, 400, 1_000];

/** Paths asked about in one request: each takes Vault 3 ms of its processor, and hundreds would take it too long. */
const PATHS = 40;

export class Vault {
  readonly addr: string;
  readonly #client: NodeVaultClient;
  readonly #turn = turnstile(AT_ONCE);
  readonly #wire: Wire;
  #user: string | undefined;
  #entity: string | undefined;
  #isRoot = false;
  #mail: Promise<string> | undefined;

  private constructor(addr: string, client: NodeVaultClient, wire: Wire) {
    this.addr = addr;
    this.#client = client;
    this.#wire = wire;
  }

  /**
   * Connects with the token or AppRole of `env`, which is a run's own: one process may run for several people. Throws: refused (4) when VAULT_ADDR is not the settings'
   * Vault, when Vault is sealed, or for a root token without `breakGlass`; permission (3) for an invalid token.
   */
  static async connect(
    settings: Settings,
    options: { env: NodeJS.ProcessEnv; breakGlass?: boolean },
  ): Promise<Vault> {
    const env = vaultEnvironment(options.env);
    const addr = env.addr ?? settings.vault.addr;
    assertOwnVault(settings, addr);
    const ca = env.caCert === undefined ? undefined : await readFile(env.caCert);
    const wire = { namespace: env.namespace, ca };
    const token = "token" in env.login ? env.login.token : undefined;
    const vault = new Vault(addr, clientOf(addr, wire, token), wire);
    if ("roleId" in env.login) await vault.#logIn(env.login.roleId, env.login.secretId);
    await vault.#lookupSelf(options.breakGlass ?? false);
    return vault;
  }

  /** With a token that was made for this Vault just now, such as one by `generate-root`; nothing is asked yet. `user` names it. */
  static withToken({ addr, token, ...wire }: VaultAccess, user?: string): Vault {
    const vault = new Vault(addr, clientOf(addr, wire, token), wire);
    vault.#user = user;
    return vault;
  }

  /** Vault's name for whoever runs this: an AppRole's name, or the display name of the token; for the audit log. */
  get user(): string {
    return this.#user ?? "unknown";
  }

  /** The token, for a program that is started with it in its environment. */
  get token(): string {
    return this.#client.token;
  }

  /** Whether it may do everything and leaves no trace of who acts; as of `connect`. */
  get isRoot(): boolean {
    return this.#isRoot;
  }

  /** The e-mail address that Vault knows of whoever runs this; where it knows none, the name. Asked once. */
  userMail(): Promise<string> {
    this.#mail ??= this.#readMail().catch(() => this.user);
    return this.#mail;
  }

  /**
   * Reads a record's newest version, or the one asked for; undefined where there is none, or where it was deleted.
   * Throws failed (1) naming a field that is wrong.
   */
  async record<T>(
    tenant: TenantId | typeof CANARY,
    name: RecordName,
    schema: z.ZodType<T>,
    version?: number,
  ): Promise<Stored<T> | undefined> {
    const path = recordPath(tenant, name);
    const answer = await this.read(version === undefined ? path : `${path}?version=${version}`, KvRead);
    if (answer === undefined || answer.data.data === null) return undefined;
    const parsed = schema.safeParse(answer.data.data);
    if (!parsed.success) {
      const problem = parsed.error.issues.map(
        (issue) => `${issue.path.join(".") || "the record"}: ${issue.message}`,
      );
      throw new RunbookError(`${KV_MOUNT}/${tenant}/${name} in Vault is not usable: ${problem.join("; ")}`, {
        exit: "failed",
        next: `vault kv get ${KV_MOUNT}/${tenant}/${name}   # then restore the field, or the version before with: vault kv rollback`,
      });
    }
    const { version: found, custom_metadata } = answer.data.metadata;
    return { data: parsed.data, version: found, customMetadata: custom_metadata ?? {} };
  }

  /**
   * Writes a record over exactly `cas` (0: only if there is none) and returns the new version. Throws CasConflict
   * when somebody was faster. An answer of 5xx or none leaves open whether it was written: the record is read
   * back and compared, so that a lost answer is not taken for a failure.
   */
  async writeRecord(
    tenant: TenantId | typeof CANARY,
    name: RecordName,
    data: Record<string, unknown>,
    cas: number,
  ): Promise<number> {
    const path = recordPath(tenant, name);
    try {
      const answer = KvWrite.parse(await this.#ask((vault) => vault.write(path, { data, options: { cas } })));
      return answer.data.version;
    } catch (error) {
      if (statusOf(error) === 400 && String(error).includes("check-and-set"))
        throw new CasConflict(path, { cause: error });
      const status = statusOf(error);
      if (status !== undefined && status < 500) throw explain(this.addr, error, "write", path);
      const now = await this.read(path, KvRead).catch(() => undefined);
      const found = now?.data.metadata.version === cas + 1 ? now.data.data : null;
      if (found !== null && canonicalJson(found) === canonicalJson(data)) return cas + 1;
      throw explain(this.addr, error, "write", path);
    }
  }

  /**
   * Changes a record on top of whatever it holds by then: `change` is asked again when somebody else was faster.
   * It gets undefined where there is no record, and returns undefined to leave things as they are. Returns
   * whether anything was written.
   */
  async updateRecord<T>(
    tenant: TenantId,
    name: RecordName,
    schema: z.ZodType<T>,
    change: (
      stored: Stored<T> | undefined,
    ) => Promise<Record<string, unknown> | undefined> | Record<string, unknown> | undefined,
  ): Promise<boolean> {
    for (let attempt = 1; ; attempt++) {
      const stored = await this.record(tenant, name, schema);
      const next = await change(stored);
      if (next === undefined) return false;
      try {
        await this.writeRecord(tenant, name, next, stored?.version ?? 0);
        return true;
      } catch (error) {
        if (!(error instanceof CasConflict)) throw error;
        if (attempt < 5) continue;
        throw new RunbookError(`Others keep writing ${KV_MOUNT}/${tenant}/${name}`, {
          exit: "refused",
          next: "wait for them to end, then run this again",
          cause: error,
        });
      }
    }
  }

  /** The version of a record that was deleted and can still be brought back; undefined for every other record. */
  async deletedVersion(tenant: TenantId, name: RecordName): Promise<number | undefined> {
    const gone = await this.#gone(tenant, name);
    return gone?.destroyed === false ? gone.version : undefined;
  }

  /** The version that a record has which was deleted or even destroyed: a new one is written over that. 0 for none. */
  async goneVersion(tenant: TenantId, name: RecordName): Promise<number> {
    return (await this.#gone(tenant, name))?.version ?? 0;
  }

  async #gone(
    tenant: TenantId,
    name: RecordName,
  ): Promise<{ version: number; destroyed: boolean } | undefined> {
    try {
      await this.#ask((vault) => vault.read(recordPath(tenant, name)));
      return undefined;
    } catch (error) {
      // Vault's 404 for a deleted version tells its number; the rights on the metadata aren't needed.
      return KvDeleted.safeParse(error).data?.response.body.data.metadata;
    }
  }

  /** Patches custom metadata: keys not named here stay. Values are at most 512 bytes. */
  async patchMetadata(
    tenant: TenantId | typeof CANARY,
    name: RecordName,
    customMetadata: Record<string, string>,
  ): Promise<void> {
    const path = metadataPath(tenant, name);
    try {
      const request = {
        path: `/${path}`,
        method: "PATCH",
        headers: { "Content-Type": "application/merge-patch+json" },
        json: { custom_metadata: customMetadata },
      };
      await this.#ask((vault) => vault.request(request));
    } catch (error) {
      throw explain(this.addr, error, "patch", path);
    }
  }

  /** The ids of all tenants that have records, in order; the canary and foreign names are left out. */
  async tenants(): Promise<TenantId[]> {
    const keys = await this.list(`${KV_MOUNT}/metadata`);
    const names = keys.filter((key) => key.endsWith("/")).map((key) => key.slice(0, -1));
    return names.filter((name): name is TenantId => tenantIdProblem(name) === undefined).sort();
  }

  /** The names below a path; none where there is no such path. */
  async list(path: string): Promise<string[]> {
    try {
      return KeyList.parse(await this.#ask((vault) => vault.list(path))).data.keys;
    } catch (error) {
      if (statusOf(error) === 404) return [];
      throw explain(this.addr, error, "list", path);
    }
  }

  /** Deletes what is at a path; nothing to do where there is nothing. */
  async remove(path: string): Promise<void> {
    try {
      await this.#ask((vault) => vault.delete(path));
    } catch (error) {
      if (statusOf(error) !== 404) throw explain(this.addr, error, "delete", path);
    }
  }

  /** Reads any path; undefined for a 404. */
  async read<T>(path: string, schema: z.ZodType<T>): Promise<T | undefined> {
    for (const pause of [...DELETING_MS, undefined]) {
      try {
        return schema.parse(await this.#ask((vault) => vault.read(path)));
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
      return schema.parse(await this.#ask((vault) => vault.write(path, body)));
    } catch (error) {
      throw explain(this.addr, error, "write", path);
    }
  }

  /** A stream from Vault, such as a snapshot; see `download`. */
  download(path: string): Promise<Readable> {
    return download({ addr: this.addr, token: this.#client.token, ...this.#wire }, path);
  }

  /** A stream to Vault, such as a snapshot to be restored; see `upload`. */
  upload(path: string, body: Readable): Promise<void> {
    return upload({ addr: this.addr, token: this.#client.token, ...this.#wire }, path, body);
  }

  /** Lays a secret into Vault's cubbyhole for one reader: the token opens it once, within `seconds`, and needs no other right. */
  async wrap(secret: Record<string, string>, seconds: number): Promise<string> {
    const path = "sys/wrapping/wrap";
    try {
      const headers = { "X-Vault-Wrap-TTL": `${seconds}s` };
      const request = { path: `/${path}`, method: "POST", headers, json: secret };
      return Wrapped.parse(await this.#ask((vault) => vault.request(request))).wrap_info.token;
    } catch (error) {
      throw explain(this.addr, error, "write", path);
    }
  }

  /**
   * Asks Vault what this token really may do. Throws permission (3) that names every missing right; token
   * policies alone would mislead, since they leave out identity policies and still name deleted ones.
   * @param needs Vault paths with the capabilities that the run needs on them.
   */
  async requireCapabilities(needs: Record<string, readonly string[]>, role: string): Promise<void> {
    // Hundreds of tenants are tens of thousands of answers: none is kept that lacks nothing.
    const lacking = await inParallel(portions(Object.keys(needs), PATHS), 4, async (paths) => {
      const { data } = await this.write("sys/capabilities-self", { paths }, Capabilities);
      return paths.flatMap((path) => {
        const granted = data[path] ?? [];
        const lacks = granted.includes("root")
          ? []
          : (needs[path] ?? []).filter((capability) => !granted.includes(capability));
        return lacks.length === 0 ? [] : [`${lacks.join(", ")} on ${path}`];
      });
    });
    const missing = lacking.flat();
    if (missing.length > 0) {
      throw new RunbookError(`Insufficient permissions: ${this.user} lacks ${missing.join("; ")}`, {
        exit: "permission",
        next: `log in to Vault with the policy '${role}' and set VAULT_TOKEN, then run this again`,
      });
    }
  }

  #ask<T>(request: (vault: NodeVaultClient) => Promise<T>): Promise<T> {
    return this.#turn(() => request(this.#client));
  }

  async #logIn(roleId: string, secretId: string): Promise<void> {
    const answer = await this.write("auth/approle/login", { role_id: roleId, secret_id: secretId }, Login);
    registerSecret(answer.auth.client_token);
    this.#client.token = answer.auth.client_token;
  }

  async #readMail(): Promise<string> {
    if (!this.#entity) return this.user;
    const entity = (await this.read(`identity/entity/id/${this.#entity}`, Entity))?.data;
    const names = [entity?.metadata?.email, ...(entity?.aliases ?? []).map(({ name }) => name)];
    return names.find((name) => name?.includes("@")) ?? this.user;
  }

  async #lookupSelf(breakGlass: boolean): Promise<void> {
    const self = await this.read("auth/token/lookup-self", TokenSelf);
    // All AppRoles share one display name; their role's name is in the metadata.
    this.#user = self?.data.meta?.role_name ?? self?.data.display_name ?? "unknown";
    this.#entity = self?.data.entity_id;
    this.#isRoot = self?.data.policies.includes("root") ?? false;
    if (this.#isRoot && !breakGlass) {
      throw new RunbookError("VAULT_TOKEN is a root token, which leaves no trace of who acted", {
        exit: "refused",
        next: "use your own token; if there is no other way, the same command with --break-glass (it is audited)",
      });
    }
  }
}

type Wire = Omit<VaultAccess, "addr" | "token">;

function clientOf(addr: string, { namespace, ca, socket }: Wire, token: string | undefined): NodeVaultClient {
  return vaultClient({
    endpoint: addr,
    ...(token === undefined ? {} : { token }),
    ...(namespace === undefined ? {} : { namespace }),
    // Without this, DEBUG=node-vault would print request payloads.
    debug: () => {},
    "request-promise": transport({ ca, socket }, TIMEOUT_MS),
  });
}

const portions = <T>(items: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, at) => items.slice(at * size, (at + 1) * size));

/** SHA-256 (hex) of a ciphertext: names a version beyond doubt, since a restored Vault uses numbers again. */
export const fingerprint = (ciphertext: string): string =>
  createHash("sha256").update(ciphertext).digest("hex");

const CustomMetadata = z.record(z.string(), z.string()).nullish();
const KvRead = z.object({
  data: z.object({
    data: z.record(z.string(), z.unknown()).nullable(),
    metadata: z.object({ version: z.number().int(), custom_metadata: CustomMetadata }),
  }),
});
const KvDeleted = z.object({
  response: z.object({
    statusCode: z.literal(404),
    body: z.object({
      data: z.object({ metadata: z.object({ version: z.number().int(), destroyed: z.boolean() }) }),
    }),
  }),
});
const KvWrite = z.object({ data: z.object({ version: z.number().int() }) });
const KeyList = z.object({ data: z.object({ keys: z.array(z.string()) }) });
const Wrapped = z.object({ wrap_info: z.object({ token: z.string().min(1) }) });
const Login = z.object({ auth: z.object({ client_token: z.string().min(1) }) });
const Capabilities = z.object({ data: z.record(z.string(), z.unknown()) }).transform(({ data }) => ({
  data: Object.fromEntries(
    Object.entries(data).map(([path, caps]) => [path, z.array(z.string()).catch([]).parse(caps)]),
  ),
}));
const TokenSelf = z.object({
  data: z.object({
    display_name: z.string(),
    policies: z.array(z.string()).default([]),
    entity_id: z.string().optional(),
    meta: z.object({ role_name: z.string().optional() }).nullish(),
  }),
});
const Entity = z.object({
  data: z.object({
    metadata: z.object({ email: z.string().optional() }).nullish(),
    aliases: z.array(z.object({ name: z.string() })).nullish(),
  }),
});
