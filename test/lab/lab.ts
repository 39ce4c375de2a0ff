// What tests on the shared lab have in common: running the project's programs as an operator would, and looking at
// the result through Vault's raw HTTP API.

import { join } from "node:path";
import { inject } from "vitest";
import { z } from "zod";
import { type Finished, run } from "../../scripts/lab/children.ts";
import { type Answer, order, type WayToDie } from "../../scripts/lab/control.ts";
import { type OpenLab, openLab } from "../../scripts/lab/place.ts";
import { vaultCall } from "../../scripts/lab/vault.ts";
import { REPOSITORY } from "../../scripts/toolchain/paths.ts";
import { recordPath, type TenantId } from "../../stacks/names.ts";

/** The shared lab, as its environment describes it. */
export const lab: OpenLab = await openLab(inject("lab"));

interface Options {
  /** Added to, and winning over, the lab's own environment; undefined takes a variable away. */
  env?: Record<string, string | undefined>;
  /** Standard input. */
  input?: string;
  cwd?: string;
  /** Kills the process hard. */
  signal?: AbortSignal;
}

/** Runs `runbook ARGS` with the person's token. Never throws for an exit code. */
export const runbook = (args: string[], options: Options = {}): Promise<Finished> =>
  program(join(REPOSITORY, "runbooks", "main.ts"), args, options);

/** Runs `pulumi ARGS` on the lab's stacks with the person's token. Never throws for an exit code. */
export const pulumi = (args: string[], options: Options = {}): Promise<Finished> =>
  program("pulumi", [...args, "--non-interactive", "--color", "never"], options);

/** Runs any program in the lab's environment. Never throws for an exit code. */
export function program(command: string, args: string[], options: Options = {}): Promise<Finished> {
  const { env, ...rest } = options;
  return run(command, args, { env: { ...lab.env, ...env }, lab: lab.place.dir, ...rest });
}

/** Asks Vault by its HTTP API as root; `path` without `/v1/`. Throws with Vault's words on an error. */
export const vault = (method: string, path: string, body?: unknown): Promise<unknown> =>
  vaultCall(lab.place.vaultAddr, lab.rootToken, method, path, body);

const Record_ = z.object({
  data: z.object({ data: z.record(z.string(), z.unknown()), metadata: z.object({ version: z.number() }) }),
});

/** Reads a tenant's record as Vault holds it, ciphertexts and all. */
export async function record(
  tenant: TenantId,
  name: Parameters<typeof recordPath>[1],
): Promise<{ version: number; fields: Record<string, unknown> }> {
  const { data } = Record_.parse(await vault("GET", recordPath(tenant, name)));
  return { version: data.metadata.version, fields: data.data };
}

/** The address at which a tenant's VPS is, as Vault has it. */
export async function addressOf(tenant: TenantId): Promise<string> {
  return z.string().parse((await record(tenant, "server")).fields.vps_ip);
}

/** Loses a tenant's VPS; with its data volume unless `keepData`. */
export async function killVps(tenant: TenantId, how: WayToDie, keepData = false): Promise<void> {
  await order(lab.place.dir, { order: "kill", address: await addressOf(tenant), how, keepData });
}

/** The lab's hosts. */
export const hosts = async (): Promise<Answer["hosts"]> =>
  (await order(lab.place.dir, { order: "status" })).hosts;
