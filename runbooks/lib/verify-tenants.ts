// Whether a restored Vault has every tenant as it should: each record there and of its form, each ciphertext one that
// the tenant's Transit key decrypts. Vault itself looks at that: no plaintext leaves it.
import { KV_MOUNT, type RecordName, type TenantId } from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import { inParallel } from "./parallel.ts";
import { Admin, Dkim, isPending, Mailu, Rotation, Server, Tls } from "./records.ts";
import { undecryptable } from "./transit.ts";
import type { Vault } from "./vault.ts";

export interface VerifiedTenant {
  tenant: TenantId;
  /** A sentence each, without a secret; none where all is well. */
  problems: string[];
}

const AT_ONCE = 16;

/**
 * In the order of `tenants`. A tenant that was being offboarded has no problems: what is left of it isn't in use.
 * @param onProgress is told how many are done.
 * @throws RunbookError: permission (3) or refused (4), which are about the Vault and no tenant.
 */
export async function verifyTenants(
  vault: Vault,
  tenants: readonly TenantId[],
  onProgress: (done: number) => void = () => {},
): Promise<VerifiedTenant[]> {
  let done = 0;
  return inParallel(tenants, AT_ONCE, async (tenant) => {
    const problems = await problemsOf(vault, tenant);
    onProgress(++done);
    return { tenant, problems };
  });
}

interface Sealed {
  at: string;
  ciphertext: string;
}

async function problemsOf(vault: Vault, tenant: TenantId): Promise<string[]> {
  const problems: string[] = [];
  const sealed: Sealed[] = [];
  /** Undefined for a record that isn't there or can't be used; the latter is a problem, and so is one that must be. */
  const look = async <T>(
    name: RecordName,
    schema: Parameters<typeof vault.record<T>>[2],
    secretOf: (data: T) => [field: string, ciphertext: string] | undefined,
    required = false,
  ): Promise<T | undefined> => {
    const found = await orProblem(problems, () => vault.record(tenant, name, schema));
    if (found === undefined) return undefined;
    if (found.value === undefined && required) problems.push(`${KV_MOUNT}/${tenant}/${name} is not there`);
    if (found.value === undefined) return undefined;
    const [field, ciphertext] = secretOf(found.value.data) ?? [];
    if (field !== undefined && ciphertext !== undefined)
      sealed.push({ at: `${KV_MOUNT}/${tenant}/${name} ${field}`, ciphertext });
    return found.value.data;
  };
  // A rotation that has ended may leave a password behind that is retired.
  const rotation = await look("rotation", Rotation, ({ state, password }) =>
    isPending(state) ? ["password", password] : undefined,
  );
  if (rotation?.offboarded !== undefined) return [];
  await look("admin", Admin, ({ password }) => ["password", password], true);
  await look("mailu", Mailu, ({ api_token }) => ["api_token", api_token], true);
  await look("dkim", Dkim, ({ private_key }) => ["private_key", private_key], true);
  // These two come into being with the first host.
  await look("tls", Tls, ({ private_key }) => ["private_key", private_key]);
  await look("server", Server, () => undefined);
  if (sealed.length === 0) return problems;
  const dead = await orProblem(problems, () =>
    undecryptable(
      vault,
      tenant,
      sealed.map(({ ciphertext }) => ciphertext),
    ),
  );
  for (const { ciphertext, why } of dead?.value ?? []) {
    const at = sealed.filter((one) => one.ciphertext === ciphertext).map((one) => one.at);
    problems.push(`${at.join(" and ")} can't be decrypted: ${why}`);
  }
  return problems;
}

/** What is about this tenant's data is a problem; anything else is the whole Vault's. */
async function orProblem<T>(problems: string[], act: () => Promise<T>): Promise<{ value: T } | undefined> {
  try {
    return { value: await act() };
  } catch (error) {
    if (!(error instanceof RunbookError) || error.exitCode !== 1) throw error;
    problems.push(error.message);
    return undefined;
  }
}
