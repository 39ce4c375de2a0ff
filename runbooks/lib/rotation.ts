// The rotation record: everything that sets a Mailu password takes it first, so that two never set one at the
// same time and nothing that was begun is forgotten. It is a write-ahead record: the new password lies in it,
// encrypted, before any server hears of it, so no password is ever unknown.
import type { TenantId } from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import { thisHolder } from "./holder.ts";
import { Admin, isBefore, isPending, Rotation, type State } from "./records.ts";
import { requireAbandoned } from "./take-over.ts";
import { CasConflict, fingerprint, type Stored, type Vault } from "./vault.ts";

/** What a new rotation is for; `prepare` is asked for a password only when no rotation is pending. */
export interface RotationRequest {
  readonly kind: Rotation["kind"];
  readonly run: string;
  readonly reason: string;
  readonly details: Record<string, unknown>;
  /** Decides on the password to install, given the current one: its ciphertext, and whether it is new. */
  readonly prepare: (admin: Stored<Admin>) => Promise<{ password: string; rotates: boolean }>;
  /** Take over from a holder that can't be seen from here without watching it for a minute. */
  readonly takeOver?: boolean;
}

/** Milliseconds between a holder's signs of life. */
const HEARTBEAT_MS = 15_000;

/** A rotation record that this process holds. Every write is compare-and-set over the version last seen. */
export class Rotating {
  readonly tenant: TenantId;
  readonly #vault: Vault;
  readonly #run: string;
  #record: Rotation;
  #version: number;
  #beat: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  private constructor(
    vault: Vault,
    tenant: TenantId,
    run: string,
    held: { record: Rotation; version: number },
  ) {
    this.tenant = tenant;
    this.#vault = vault;
    this.#run = run;
    this.#record = held.record;
    this.#version = held.version;
    this.#beat = setInterval(() => void this.#write({}).catch(() => {}), HEARTBEAT_MS).unref();
  }

  /**
   * Takes the tenant's rotation: adopts a pending one whose holder is gone, else begins the requested one.
   * Throws refused (4) that names the holder and since when, if one is at work.
   */
  static async take(vault: Vault, tenant: TenantId, request: RotationRequest): Promise<Rotating> {
    for (let attempt = 0; attempt < 5; attempt++) {
      const stored = await vault.record(tenant, "rotation", Rotation);
      const pending = stored !== undefined && isPending(stored.data.state) ? stored : undefined;
      if (pending !== undefined) await requireAbandoned(vault, tenant, pending, request.takeOver ?? false);
      const holder = thisHolder(request.run, vault.user);
      const record =
        pending === undefined
          ? await begin(vault, tenant, stored, request)
          : await resume(vault, tenant, pending.data, request);
      try {
        const held = { ...record, holder };
        const version = await vault.writeRecord(tenant, "rotation", held, stored?.version ?? 0);
        return new Rotating(vault, tenant, request.run, { record: held, version });
      } catch (error) {
        if (!(error instanceof CasConflict)) throw error;
      }
    }
    throw overtaken(tenant, "others keep writing its rotation record");
  }

  get record(): Readonly<Rotation> {
    return this.#record;
  }

  /**
   * Looks again at Vault, just before and just after a password is set: throws refused (4) when somebody took
   * over, and brings the record up to date when `admin` was written meanwhile, since Vault's current password
   * is the one that must log in. Returns the ciphertext to install.
   */
  async confirm(): Promise<string> {
    const [stored, admin] = await Promise.all([
      this.#vault.record(this.tenant, "rotation", Rotation),
      this.#vault.record(this.tenant, "admin", Admin),
    ]);
    if (stored?.data.holder?.run !== this.#run) {
      throw overtaken(this.tenant, `${stored?.data.holder?.user ?? "somebody"} took over its rotation`);
    }
    if (admin === undefined) throw overtaken(this.tenant, "its credential was removed from Vault");
    if (admin.version !== this.#record.base_version && admin.data.password !== this.#record.password) {
      const base = { base_version: admin.version, base_sha256: fingerprint(admin.data.password) };
      await this.#write(
        this.#record.rotates && this.#committed() === false
          ? base
          : { ...base, password: admin.data.password },
      );
    }
    return this.#record.password;
  }

  /**
   * The ciphertext of the password that must log in now, whoever holds the record: the pending one's, else the
   * tenant's current one. Undefined where the tenant has none.
   */
  async due(): Promise<string | undefined> {
    const [stored, admin] = await Promise.all([
      this.#vault.record(this.tenant, "rotation", Rotation),
      this.#vault.record(this.tenant, "admin", Admin),
    ]);
    return stored !== undefined && isPending(stored.data.state) ? stored.data.password : admin?.data.password;
  }

  /** Stores that `state` was reached; never goes back. */
  async advance(state: State): Promise<void> {
    if (isBefore(this.#record.state, state)) await this.#write({ state });
  }

  /**
   * Makes the new password the tenant's current one and keeps all other fields; nothing to do where the
   * rotation brings none or a run before this one got that far. Returns the current version.
   */
  async commit(now: Date): Promise<number> {
    const admin = await this.#vault.record(this.tenant, "admin", Admin);
    if (admin === undefined) throw overtaken(this.tenant, "its credential was removed from Vault");
    if (admin.data.password === this.#record.password) return admin.version;
    const next = { ...admin.data, password: this.#record.password, last_rotated: now.toISOString() };
    try {
      return await this.#vault.writeRecord(this.tenant, "admin", next, this.#record.base_version);
    } catch (error) {
      throw error instanceof CasConflict
        ? overtaken(this.tenant, "somebody else stored a credential")
        : error;
    }
  }

  /** Lets go of the record as it stands, so that the next run needn't wait. Never throws: letting go is a courtesy. */
  async release(): Promise<void> {
    clearInterval(this.#beat);
    await this.#write({ holder: null }).catch(() => {});
  }

  #committed(): boolean {
    return !isBefore(this.#record.state, "COMMITTED");
  }

  /** One write after another: a heartbeat must not collide with a change of state. */
  #write(change: Partial<Rotation>): Promise<void> {
    const write = this.#writing.then(async () => {
      const held = this.#record.holder;
      const holder = held === null ? null : { ...held, heartbeat: new Date().toISOString() };
      const next = { ...this.#record, holder, ...change };
      try {
        this.#version = await this.#vault.writeRecord(this.tenant, "rotation", next, this.#version);
      } catch (error) {
        throw error instanceof CasConflict
          ? overtaken(this.tenant, "somebody took over its rotation")
          : error;
      }
      this.#record = next;
    });
    this.#writing = write.catch(() => {});
    return write;
  }
}

async function begin(
  vault: Vault,
  tenant: TenantId,
  before: Stored<Rotation> | undefined,
  request: RotationRequest,
): Promise<Rotation> {
  const admin = await vault.record(tenant, "admin", Admin);
  if (admin === undefined) throw overtaken(tenant, "its credential is not in Vault");
  return {
    state: "PREPARED",
    kind: request.kind,
    ...(await request.prepare(admin)),
    incident_id: null,
    reason: request.reason,
    details: request.details,
    run: request.run,
    actor: vault.user,
    started: new Date().toISOString(),
    base_version: admin.version,
    base_sha256: fingerprint(admin.data.password),
    displayed: false,
    holder: null,
    history: before?.data.history ?? [],
  };
}

/**
 * A pending rotation as its next run goes on with it. One that brings no new password decides again: the current
 * one may have been marked compromised since.
 */
async function resume(
  vault: Vault,
  tenant: TenantId,
  pending: Rotation,
  request: RotationRequest,
): Promise<Rotation> {
  const admin = await vault.record(tenant, "admin", Admin);
  if (admin === undefined || pending.rotates || pending.kind !== request.kind) return pending;
  const base = { base_version: admin.version, base_sha256: fingerprint(admin.data.password) };
  return { ...pending, ...base, ...(await request.prepare(admin)) };
}

function overtaken(tenant: TenantId, why: string): RunbookError {
  return new RunbookError(`Stopped before changing ${tenant} any further: ${why}`, {
    exit: "refused",
    next: "run this again: it starts from what Vault holds now",
  });
}
