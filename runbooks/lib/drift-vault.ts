// Vault where no stack declares: what is there beside the declared, each tenant's records and key, rotations that nobody
// finishes, marks on what is in use. What is declared was compared by the engine. No ciphertext is asked for but the
// rotation's record, which has its state in the same place; and none can be opened by the role that looks.
import { z } from "zod";
import { PLATFORM_STACK, tenantStack } from "../../stacks/names.ts";
import type { DriftContext } from "./drift-context.ts";
import { lookAtStack } from "./drift-engine.ts";
import { strayKeys } from "./drift-key.ts";
import type { Resource } from "./drift-plan.ts";
import { tenantFindings } from "./drift-tenant.ts";
import type { Finding } from "./findings.ts";
import { inParallel } from "./parallel.ts";
import type { Vault } from "./vault.ts";

/** Tenants at a time. */
const AT_ONCE = 16;

export async function checkVault(c: DriftContext): Promise<void> {
  const { report } = c;
  const declared = c.platform
    ? report.look("vault", PLATFORM_STACK, async () => {
        const { findings } = await lookAtStack(c, PLATFORM_STACK);
        return findings.filter(({ check }) => check === "vault");
      })
    : undefined;
  // Said once, and not of each tenant, where it can't be asked at all.
  await report.look("vault", "vault", async () => {
    const vault = await c.vault();
    await Promise.all([c.platform ? besideTheDeclared(c, vault) : undefined, everyTenant(c, vault)]);
    return [];
  });
  await declared;
}

async function besideTheDeclared(c: DriftContext, vault: Vault): Promise<void> {
  await c.report.look("vault", "undeclared", () => undeclared(c, vault));
  await c.report.look("vault", "keys", () => strayKeys(vault));
}

async function everyTenant(c: DriftContext, vault: Vault): Promise<void> {
  let done = 0;
  // What only the stacks know is theirs to tell.
  const known = c.tenants.filter((tenant) => c.inVault?.has(tenant) ?? true);
  await inParallel(known, AT_ONCE, async (tenant) => {
    c.signal.throwIfAborted();
    // One that has no host yet has no records of one; that no stack would make it one is told by `infra`.
    const hosted = c.stacks?.includes(tenantStack(tenant)) ?? true;
    await c.report.look("vault", tenant, () => tenantFindings(vault, tenant, hosted));
    c.progress(`vault: ${++done} of ${known.length} tenants`);
  });
}

/** A kind of thing that Vault lists and a stack declares. */
interface Listed {
  noun: string;
  /** Types of Pulumi that declare one, and the input that names it. */
  types: readonly string[];
  input: string;
  names(vault: Vault): Promise<string[]>;
  /** Those of Vault's own. */
  own: ReadonlySet<string>;
  mend(name: string): string;
}

const Table = z.object({ data: z.record(z.string(), z.unknown()) });
const inTable = (path: string) => async (vault: Vault) =>
  Object.keys((await vault.read(path, Table))?.data ?? {}).map((name) => name.replace(/\/$/, ""));

const LISTED: readonly Listed[] = [
  {
    noun: "policy",
    types: ["vault:index/policy:Policy"],
    input: "name",
    names: (vault) => vault.list("sys/policies/acl"),
    own: new Set(["root", "default"]),
    mend: (name) => `vault policy delete ${name}`,
  },
  {
    noun: "mount",
    types: ["vault:index/mount:Mount"],
    input: "path",
    names: inTable("sys/mounts"),
    own: new Set(["cubbyhole", "identity", "sys", "agent-registry"]),
    mend: (name) => `vault secrets disable ${name}   # destroys all that is in it: look first`,
  },
  {
    noun: "login",
    types: ["vault:index/authBackend:AuthBackend", "vault:jwt/authBackend:AuthBackend"],
    input: "path",
    names: inTable("sys/auth"),
    own: new Set(["token"]),
    mend: (name) => `vault auth disable ${name}`,
  },
  {
    noun: "audit-device",
    types: ["vault:index/audit:Audit"],
    input: "path",
    names: inTable("sys/audit"),
    own: new Set(),
    mend: (name) => `vault audit disable ${name}`,
  },
  ...["approle", "people", "ci"].map(
    (backend): Listed => ({
      noun: `${backend}-role`,
      types: ["vault:appRole/authBackendRole:AuthBackendRole", "vault:jwt/authBackendRole:AuthBackendRole"],
      input: "roleName",
      names: (vault) => vault.list(`auth/${backend}/role`),
      own: new Set(),
      mend: (name) => `vault delete auth/${backend}/role/${name}`,
    }),
  ),
];

async function undeclared(c: DriftContext, vault: Vault): Promise<Finding[]> {
  const { recorded } = await lookAtStack(c, PLATFORM_STACK);
  const found = await Promise.all(
    LISTED.map(async (listed) => {
      const declared = declaredNames(listed, recorded);
      const names = await listed.names(vault);
      return names
        .filter((name) => !declared.has(name) && !listed.own.has(name))
        .map((name) => ({ listed, name }));
    }),
  );
  return found.flat().map(
    ({ listed: { noun, mend }, name }): Finding => ({
      check: "vault",
      kind: "undeclared",
      about: PLATFORM_STACK,
      which: `${noun} ${name}`,
      what: `Vault has the ${noun.replace("-", " ")} ${name}, which no stack declares`,
      mend: `${mend(name)}   # or declare it`,
    }),
  );
}

function declaredNames({ types, input, noun }: Listed, recorded: readonly Resource[]): Set<string> {
  const backend = noun.endsWith("-role") ? noun.slice(0, -"-role".length) : undefined;
  const all = recorded.filter(
    ({ type, inputs }) => types.includes(type) && (backend === undefined || inputs.backend === backend),
  );
  return new Set(all.map(({ inputs, outputs }) => String(inputs[input] ?? outputs[input])));
}
