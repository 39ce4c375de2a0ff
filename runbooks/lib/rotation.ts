// The rotation record: everything that sets a Mailu password takes it first, so that two never set one at the
// same time and nothing that was begun is forgotten. It is a write-ahead record: the new password lies in it,
// encrypted, before any server hears of it, so no password is ever unknown.
import type { TenantId } from "../../stacks/names.ts";
import { thisHolder } from "./holder.ts";
import { Admin, isBefore, isPending, Rotation, type State } from "./records.ts";
import { begin, goesOn, Overtaken, type RotationRequest, readRotation, resume } from "./rotation-begin.ts";
import { requireAbandoned } from "./take-over.ts";
import { CasConflict, fingerprint, type Vault } from "./vault.ts";

/** Milliseconds between a holder's signs of life. */
const HEARTBEAT_MS = 15_000;

/** How often a write is tried again after somebody else's. */
const ATTEMPTS = 5;

/** Incidents that a record remembers. */
const HISTORY = 20;

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
   * Takes the tenant's rotation: goes on with a pending one whose holder is gone, or with a finished one of the same
   * incident, else begins the requested one. Throws Held (4) that names the holder and since when, if one is at work.
   */
  static async take(vault: Vault, tenant: TenantId, request: RotationRequest): Promise<Rotating> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const found = await readRotation(vault, tenant);
      const there =
        found.stored !== undefined && goesOn(found.stored.data, request) ? found.stored : undefined;
      if (there !== undefined) await requireAbandoned(vault, tenant, there, request.takeOver);
      const record =
        there === undefined
          ? await begin(vault, tenant, found.stored?.data, request)
          : await resume(vault, tenant, there.data, request);
      const held = { ...record, holder: thisHolder(request.run, vault.user) };
      try {
        const version = await vault.writeRecord(tenant, "rotation", held, found.version);
        return new Rotating(vault, tenant, request.run, { record: held, version });
      } catch (error) {
        if (!(error instanceof CasConflict)) throw error;
      }
    }
    throw new Overtaken(tenant, "others keep writing its rotation record");
  }

  get record(): Readonly<Rotation> {
    return this.#record;
  }

  /**
   * Looks again at Vault, just before and just after a password is set: throws Overtaken (4) when somebody took
   * over, and brings the record up to date when `admin` was written meanwhile, since Vault's current password
   * is the one that must log in. Returns the ciphertext to install.
   */
  async confirm(): Promise<string> {
    const [stored, admin] = await Promise.all([
      this.#vault.record(this.tenant, "rotation", Rotation),
      this.#vault.record(this.tenant, "admin", Admin),
    ]);
    if (stored?.data.holder?.run !== this.#run) {
      throw new Overtaken(this.tenant, `${stored?.data.holder?.user ?? "somebody"} took over its rotation`);
    }
    if (admin === undefined) throw new Overtaken(this.tenant, "its credential was removed from Vault");
    if (admin.version !== this.#record.base_version && admin.data.password !== this.#record.password) {
      const base = { base_version: admin.version, base_sha256: fingerprint(admin.data.password) };
      const { rotates, state, old_versions } = this.#record;
      await this.#write(
        rotates && isBefore(state, "COMMITTED")
          ? { ...base, old_versions: [...old_versions, admin.version] }
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

  /** Stores that `state` was reached, and what was found out on the way; never goes back. */
  async advance(state: State, found: Partial<Rotation> = {}): Promise<void> {
    if (isBefore(this.#record.state, state)) await this.#write({ ...found, state });
    else if (Object.keys(found).length > 0) await this.#write(found);
  }

  /** Goes back to PREPARED with another password, since this one can't be used: what was said of it is kept. */
  async prepareAnew(password: string, said: string): Promise<void> {
    const { rejected, rotates, old_versions, base_version } = this.#record;
    const unusable = { sha256: fingerprint(this.#record.password), said, at: new Date().toISOString() };
    await this.#write({
      state: "PREPARED",
      password,
      rejected: [...rejected, unusable],
      ...(rotates ? {} : { rotates: true, old_versions: [...old_versions, base_version] }),
    });
  }

  /** Gives the rotation more events to store; one that is finished is opened again for them, its password untouched. */
  async owe(change: Pick<Rotation, "kind" | "reason" | "details" | "events_due">): Promise<void> {
    const { state } = this.#record;
    await this.#write({ ...change, state: isBefore(state, "NOTIFIED") ? state : "MARKED" });
  }

  /**
   * Makes the new password the tenant's current one and keeps all other fields; nothing to do where the
   * rotation brings none or a run before this one got that far. Returns the current version.
   * @param reinstall called when somebody stored another password meanwhile, which may be what the server has now.
   */
  async commit(now: Date, reinstall?: () => Promise<void>): Promise<number> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const admin = await this.#vault.record(this.tenant, "admin", Admin);
      if (admin === undefined) throw new Overtaken(this.tenant, "its credential was removed from Vault");
      const { password, base_version, base_sha256 } = this.#record;
      if (admin.data.password === password) return admin.version;
      const next = { ...admin.data, password, last_rotated: now.toISOString() };
      try {
        return await this.#vault.writeRecord(this.tenant, "admin", next, base_version);
      } catch (error) {
        if (!(error instanceof CasConflict)) throw error;
        if (reinstall === undefined) throw new Overtaken(this.tenant, "somebody else stored a credential");
      }
      await this.confirm();
      if (this.#record.base_sha256 !== base_sha256) await reinstall();
    }
    throw new Overtaken(this.tenant, "others keep storing a credential");
  }

  /** Ends the rotation: the record remembers its incident, and owes nothing more. */
  async clear(version: number): Promise<void> {
    const { incident_id: incident, history } = this.#record;
    const known =
      incident === null || history.some((one) => one.incident === incident && one.version === version);
    const remembered = known ? history : [...history, { incident, version }].slice(-HISTORY);
    await this.advance("CLEARED", { history: remembered, events_due: [] });
  }

  /** Lets go of the record as it stands, so that the next run needn't wait. Never throws: letting go is a courtesy. */
  async release(): Promise<void> {
    clearInterval(this.#beat);
    await this.#write({ holder: null }).catch(() => {});
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
          ? new Overtaken(this.tenant, "somebody took over its rotation")
          : error;
      }
      this.#record = next;
    });
    this.#writing = write.catch(() => {});
    return write;
  }
}
