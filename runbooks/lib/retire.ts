// Retiring old versions of a tenant's key once a new password is in use: whatever still lies under an older version is
// rewrapped, everything current is seen to decrypt, and only then the minimums rise. The old password's ciphertext,
// also one that was copied, is of no use to anybody afterwards; for good once a key-shredder has trimmed the key.
import { z } from "zod";
import { KV_MOUNT, type RecordName, type TenantId, TRANSIT_MOUNT, transitKey } from "../../stacks/names.ts";
import { messageOf, RunbookError } from "./errors.ts";
import { Ciphertext } from "./records.ts";
import { readKey, rewrap, setMinimums, type TransitKey, undecryptable, versionOf } from "./transit.ts";
import type { Vault } from "./vault.ts";

/** Every ciphertext that a tenant's records hold, but for the rotation's, which is old as soon as that is over. */
export const SEALED = [
  { record: "admin", field: "password" },
  { record: "mailu", field: "api_token" },
  { record: "dkim", field: "private_key" },
  { record: "tls", field: "private_key" },
] as const satisfies { record: RecordName; field: string }[];
type Sealed = (typeof SEALED)[number];

/** A current ciphertext and where it lies. */
interface Current {
  readonly at: Sealed;
  readonly ciphertext: string;
  /** Whether this run wrote it. */
  readonly fresh: boolean;
}

/** How often to begin again when somebody adds a version to the key meanwhile. */
const ATTEMPTS = 3;

/**
 * Rewraps the tenant's other ciphertexts to the key's newest version, sees all of them decrypt, and raises both minimums
 * to the oldest version that is still in use. May be repeated, and by two machines at once. The rotation's own
 * password isn't looked at: after a reset it is the credential's.
 * Throws incomplete (5) that names every field that can't be rewrapped or decrypted; nothing is raised then.
 */
export async function retireOldKeyVersions(
  vault: Vault,
  tenant: TenantId,
): Promise<{ version: number; rewrapped: string[] }> {
  const rewrapped = new Set<string>();
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const reading = readKey(vault, tenant).then((found) => found ?? noKey(tenant));
    const [{ current, failures }, key] = await Promise.all([renewAll(vault, tenant, reading), reading]);
    for (const { at, fresh } of current) if (fresh) rewrapped.add(`${at.record}.${at.field}`);
    const version = Math.min(...current.map(({ ciphertext }) => versionOf(ciphertext)));
    const done = { version, rewrapped: [...rewrapped] };
    if (failures.length === 0 && atLeast(key, version) && current.every(({ fresh }) => !fresh)) return done;

    const [problems, before] = await Promise.all([
      failures.length > 0 ? failures.map(messageOf) : whatIsUndecryptable(vault, tenant, current),
      readKey(vault, tenant),
    ]);
    // Somebody else got further meanwhile: what failed here was read too early, and their minimum stays.
    if (before === undefined || moved(key, before)) continue;
    if (problems.length > 0) throw incomplete(tenant, problems, failures[0]);
    const raised = Math.max(version, before.min_decryption_version, before.min_encryption_version);
    const after = await setMinimums(vault, tenant, raised);
    if (after?.latest_version === key.latest_version && atLeast(after, version)) return done;
  }
  throw incomplete(tenant, ["somebody keeps rotating or retiring its key"], undefined);
}

/** Vault's minimum for encryption is 0 at first, which means the newest: a key of one version has nothing to retire. */
const atLeast = (key: TransitKey, version: number): boolean =>
  key.min_decryption_version >= version && (key.min_encryption_version >= version || version === 1);

const moved = (before: TransitKey, now: TransitKey): boolean =>
  before.latest_version !== now.latest_version ||
  before.min_decryption_version !== now.min_decryption_version;

/** One that fails holds up no other. */
async function renewAll(
  vault: Vault,
  tenant: TenantId,
  key: Promise<TransitKey>,
): Promise<{ current: Current[]; failures: unknown[] }> {
  const settled = await Promise.allSettled(SEALED.map((at) => renew(vault, tenant, at, key)));
  const failures = settled.flatMap((one) => (one.status === "rejected" ? [one.reason as unknown] : []));
  const other = failures.find((error) => !(error instanceof RunbookError && error.exitCode === 1));
  if (other !== undefined) throw other;
  const current = settled.flatMap((one) =>
    one.status === "fulfilled" && one.value !== undefined ? [one.value] : [],
  );
  return { current, failures };
}

/** Brings one ciphertext to the newest version of the key; undefined for a record that needn't be there. */
async function renew(
  vault: Vault,
  tenant: TenantId,
  at: Sealed,
  key: Promise<TransitKey>,
): Promise<Current | undefined> {
  const what = `${KV_MOUNT}/${tenant}/${at.record}`;
  // Only this field is looked at, and only this one is written: a rest that isn't as it should be stays as it is.
  const schema = z.looseObject({ [at.field]: Ciphertext });
  let current: Current | undefined;
  await vault.updateRecord(tenant, at.record, schema, async (stored) => {
    const { latest_version } = await key;
    const ciphertext = Ciphertext.safeParse(stored?.data[at.field]).data;
    current = ciphertext === undefined ? undefined : { at, ciphertext, fresh: false };
    if (stored === undefined || ciphertext === undefined || versionOf(ciphertext) >= latest_version) return;
    // The credential stays the version that it is: marks, a rotation's compare-and-set and its display are about it.
    // After a reset only another reset, begun at the same moment, has made the key newer than it.
    if (at.record === "admin") return;
    const renewed = await rewrap(vault, tenant, ciphertext, `${what} ${at.field}`);
    current = { at, ciphertext: renewed, fresh: true };
    return { ...stored.data, [at.field]: renewed };
  });
  if (current !== undefined || at.record === "tls") return current;
  throw new RunbookError(`${what} is not there`, { exit: "failed" });
}

async function whatIsUndecryptable(vault: Vault, tenant: TenantId, current: Current[]): Promise<string[]> {
  const all = current.map(({ ciphertext }) => ciphertext);
  return (await undecryptable(vault, tenant, all)).flatMap(({ ciphertext, why }) =>
    current
      .filter((one) => one.ciphertext === ciphertext)
      .map(({ at }) => `${KV_MOUNT}/${tenant}/${at.record} ${at.field} can't be decrypted: ${why}`),
  );
}

function noKey(tenant: TenantId): never {
  throw incomplete(tenant, [`${TRANSIT_MOUNT}/keys/${transitKey(tenant)} is not there`], undefined);
}

function incomplete(tenant: TenantId, problems: string[], cause: unknown): RunbookError {
  const record = SEALED.find(({ record }) =>
    problems[0]?.startsWith(`${KV_MOUNT}/${tenant}/${record} `),
  )?.record;
  return new RunbookError(`Old versions of the key of ${tenant} stay in use: ${problems.join("; ")}`, {
    exit: "incomplete",
    next:
      record === undefined
        ? `vault read ${TRANSIT_MOUNT}/keys/${transitKey(tenant)}   # then: npx runbook resume --all`
        : `vault kv metadata get -mount=${KV_MOUNT} ${tenant}/${record}   # put a version back that decrypts: vault kv rollback -mount=${KV_MOUNT} -version=N ${tenant}/${record}; then: npx runbook resume --all`,
    cause,
  });
}
