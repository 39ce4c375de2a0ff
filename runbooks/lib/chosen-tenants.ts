// Which tenants a run is about: one, several, those in a file, or all that Vault has. Whatever is wrong with the
// choice is told before anything changes.
import { readFileSync } from "node:fs";
import { z } from "zod";
import { KV_MOUNT, type TenantId, tenantIdProblem } from "../../stacks/names.ts";
import { messageOf, RunbookError } from "./errors.ts";
import { usage } from "./flags.ts";
import { inParallel } from "./parallel.ts";
import type { Vault } from "./vault.ts";

/** The four flags, for a runbook's schema. */
export const tenantChoice = {
  tenant: z.string().optional().describe("one tenant"),
  tenants: z.string().optional().describe("several tenants, separated by commas"),
  file: z.string().optional().describe("a file with a tenant a line; # begins a comment"),
  all: z.boolean().default(false).describe("every tenant that Vault has"),
};

interface Choice {
  readonly tenant?: string | undefined;
  readonly tenants?: string | undefined;
  readonly file?: string | undefined;
  readonly all: boolean;
}

/** The ids named by the flags; `all` for --all. Throws usage (2) for none, for more than one of the flags, or a bad id. */
export function namedTenants(choice: Choice): TenantId[] | "all" {
  const given = [choice.tenant, choice.tenants, choice.file].filter((text) => text !== undefined);
  if (given.length + Number(choice.all) !== 1) {
    throw usage("one of --tenant, --tenants, --file and --all says which tenants are meant");
  }
  if (choice.all) return "all";
  const texts =
    choice.file === undefined
      ? (choice.tenant ?? choice.tenants ?? "").split(",")
      : readLines(choice.file).map((line) => line.replace(/#.*/, ""));
  const ids = [...new Set(texts.map((text) => text.trim()).filter((text) => text !== ""))];
  const problems = ids.flatMap((id) => tenantIdProblem(id) ?? []);
  if (ids.length === 0) throw usage("no tenant is named");
  if (problems.length > 0) throw usage(problems.join("; "));
  return ids as TenantId[];
}

/** The tenants meant, each known to Vault. Throws usage (2) that names the ones that aren't. */
export async function chosenTenants(vault: Vault, choice: Choice): Promise<TenantId[]> {
  const named = namedTenants(choice);
  const known = await vault.tenants();
  if (named === "all") {
    const living = await withCredential(vault, known);
    if (living.length > 0) return living;
    throw new RunbookError("Vault has no tenant", { exit: "usage", next: "vault kv list smtp" });
  }
  const unknown = named.filter((tenant) => !known.includes(tenant));
  if (unknown.length === 0) return named;
  throw new RunbookError(`Vault doesn't know ${unknown.join(", ")}`, {
    exit: "usage",
    next: "vault kv list smtp   # are the ids right?",
  });
}

/** Of a tenant that was offboarded the rotation record stays, so that its name is still listed. */
async function withCredential(vault: Vault, tenants: readonly TenantId[]): Promise<TenantId[]> {
  const records = await inParallel(tenants, 64, (tenant) => vault.list(`${KV_MOUNT}/metadata/${tenant}`));
  return tenants.filter((_, index) => records[index]?.includes("admin"));
}

function readLines(file: string): string[] {
  try {
    return readFileSync(file, "utf8").split(/\r?\n/);
  } catch (error) {
    throw usage(`--file can't be read: ${messageOf(error)}`);
  }
}
