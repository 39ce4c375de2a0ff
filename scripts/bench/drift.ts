// `npm run bench -- drift`: one look at the credentials of many tenants, on servers that take their time for each
// answer, beside a look at one of them. One tenant takes as long as its slowest server lets it: many should take hardly
// longer. Vault is the lab's own and as fast as it is: it is no tenant's server.
import { z } from "zod";
import type { CheckName } from "../../runbooks/lib/findings.ts";
import { type Role, tenantStack } from "../../stacks/names.ts";
import type { OpenLab } from "../lab/place.ts";
import { appRole } from "../lab/vault.ts";
import { Ground, type GroundOptions, type Used } from "./ground.ts";
import type { Stats } from "./slow-servers.ts";

/** Time of the look at all in multiples of that at one, at most. */
export const DRIFT_RATIO = 1.5;

export interface Look extends Used {
  /** Of the check alone, without the start of the process and the questions which tenants there are and what is declared. */
  lookSeconds: number;
}

export interface DriftReport {
  tenants: number;
  latency: number;
  all: Look;
  alone: Look;
  /** The server that a single tenant has to wait for longest, and how long. */
  slowest: { server: string; seconds: number };
  ratio: number;
  load: { server: string; requests: number; most: number }[];
}

/** Measures on a lab whose Vault has no tenants but those of such a measurement. */
export async function benchDrift(
  lab: OpenLab,
  options: GroundOptions,
  tell: (line: string) => void,
): Promise<DriftReport> {
  const ground = new Ground(lab, options, tell);
  try {
    await ground.prepare();
    const [first] = ground.tenants;
    if (first === undefined) throw new Error("There is no tenant to look at");
    const env = await roleEnv(lab, "credential-prober");
    const look = (stack: string[]) => lookAt(ground, env, "credentials", stack);
    // Once for nothing: the files are then in memory for both.
    await look(["--stack", tenantStack(first.id)]);
    const before = await ground.stats();
    tell("looking at one tenant");
    const alone = await look(["--stack", tenantStack(first.id)]);
    const between = await ground.stats();
    tell(`looking at ${options.tenants} tenants, ${options.latency} ms for each answer`);
    const all = await look([]);
    const load = since(between, await ground.stats(), SERVERS);
    for (const { server, requests } of load)
      if (requests < options.tenants) throw new Error(`${server} was asked for ${requests} tenants only`);
    const ratio = all.lookSeconds / alone.lookSeconds;
    return { ...options, all, alone, slowest: slowestOf(since(before, between, SERVERS)), ratio, load };
  } finally {
    await ground.end();
  }
}

const SERVERS = ["Mailu", "SMTP", "IMAP"];

/** The environment of automation's AppRole. */
export async function roleEnv(lab: OpenLab, role: Role): Promise<NodeJS.ProcessEnv> {
  const vault = { addr: lab.place.vaultAddr, rootToken: lab.rootToken };
  const { roleId, secretId } = await appRole(vault, role);
  return { ...lab.env, VAULT_TOKEN: "", VAULT_ROLE_ID: roleId, VAULT_SECRET_ID: secretId };
}

/** Throws unless everything was looked at and nothing found. */
export async function lookAt(
  ground: Ground,
  env: NodeJS.ProcessEnv,
  check: CheckName,
  stack: string[],
): Promise<Look> {
  const args = ["check-drift", "--only", check, ...stack, "--json"];
  const { done, used } = await ground.runbook(args, env);
  if (done.code !== 0)
    throw new Error(
      `check-drift ended with ${done.code}: ${done.stdout.slice(-1500)}\n${done.stderr.slice(-500)}`,
    );
  const { steps } = Answer.parse(JSON.parse(done.stdout));
  const lookSeconds = steps.find(({ title }) => title.startsWith("look at"))?.seconds;
  if (lookSeconds === undefined) throw new Error("check-drift doesn't tell how long it looked");
  return { ...used, lookSeconds };
}

const Answer = z.object({ steps: z.array(z.object({ title: z.string(), seconds: z.number() })) });

/** What the tenants' servers had to do from one moment to another. */
export function since(
  before: Stats,
  after: Stats,
  servers: readonly string[],
): { server: string; requests: number; most: number; seconds: number }[] {
  return servers.map((server) => {
    const [was, is] = [before[server], after[server]];
    return {
      server,
      requests: (is?.requests ?? 0) - (was?.requests ?? 0),
      most: is?.most ?? 0,
      seconds: (is?.seconds ?? 0) - (was?.seconds ?? 0),
    };
  });
}

function slowestOf(load: ReturnType<typeof since>): DriftReport["slowest"] {
  const [slowest] = load.toSorted((one, other) => other.seconds - one.seconds);
  return { server: slowest?.server ?? "none", seconds: slowest?.seconds ?? 0 };
}
