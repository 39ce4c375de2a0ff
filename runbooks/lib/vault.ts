// The one way to Vault: a connection in somebody's name, and records of the KV mount with compare-and-set on top of it.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
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
import { assertOwnVault, type Settings, vaultEnvironment } from "./settings.ts";
import { explain, statusOf } from "./vault-error.ts";
import { VaultIdentity } from "./vault-identity.ts";
import type { VaultAccess } from "./vault-wire.ts";

/** A record as read: its fields, its version (1 and up) and the custom metadata of its key. */
export interface Stored<T> {
  readonly data: T;
  readonly version: number;
  readonly customMetadata: Readonly<Record<string, string>>;
}

/** Somebody else wrote the record since it was read: nothing was written. */
export class CasConflict extends Error {}

export class Vault extends VaultIdentity {
  /**
   * Connects with the token or AppRole of `env`, which is a run's own: one process may run for several people. Throws:
   * refused (4) when VAULT_ADDR is not the settings' Vault, when Vault is sealed, or for a root token without
   * `breakGlass`; permission (3) for an invalid token.
   */
  static async connect(
    settings: Settings,
    options: { env: NodeJS.ProcessEnv; breakGlass?: boolean },
  ): Promise<Vault> {
    const env = vaultEnvironment(options.env);
    const addr = env.addr ?? settings.vault.addr;
    assertOwnVault(settings, addr);
    const ca = env.caCert === undefined ? undefined : await readFile(env.caCert);
    const token = "token" in env.login ? env.login.token : undefined;
    const vault = new Vault({ addr, token, namespace: env.namespace, ca });
    if ("roleId" in env.login) await vault.logIn(env.login.roleId, env.login.secretId);
    await vault.lookupSelf(options.breakGlass ?? false);
    return vault;
  }

  /**
   * With a token that was made for this Vault just now, such as one by `generate-root`; nothing is asked yet. `user`
   * names it.
   */
  static withToken(access: VaultAccess, user?: string): Vault {
    return new Vault(access, user);
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
      const answer = KvWrite.parse(await this.ask((vault) => vault.write(path, { data, options: { cas } })));
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
      await this.ask((vault) => vault.read(recordPath(tenant, name)));
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
      await this.ask((vault) => vault.request(request));
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
}

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
