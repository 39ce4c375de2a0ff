// `npm run bench -- drift`: a look at the credentials of many tenants, on servers that take their time for each answer,
// beside a look at the one tenant whose server takes the longest: all should take hardly longer. It is the last one whose
// turn comes. Vault is the lab's own and as fast as it is: it is no tenant's server.
import { z } from "zod";
import type { CheckName } from "../../runbooks/lib/findings.ts";
import { type Role, tenantStack } from "../../stacks/names.ts";
import type { OpenLab } from "../lab/place.ts";
import { appRole } from "../lab/vault.ts";
import { Ground, type GroundOptions, type Used } from "./ground.ts";
import type { Stats } from "./slow-servers.ts";
import { median, medianRatio } from "./statistics.ts";

/** Time of the look at all in multiples of that at the slowest one, at most. */
export const DRIFT_RATIO = 1.5;

export interface Look extends Used {
  /** Of the check alone, without the start of the process and the questions which tenants there are and what is declared. */
  lookSeconds: number;
}

export interface DriftOptions extends GroundOptions {
  readonly slowest: number;
  /** How often each look is taken; the two take turns. */
  readonly turns: number;
}

export interface DriftReport {
  tenants: number;
  latency: number;
  slowest: number;
  turns: Turn[];
  /** The server that the slowest tenant's look has to wait for longest, and how long. */
  conversation: { server: string; seconds: number };
  /** The median of the turns'. */
  ratio: number;
  load: { server: string; requests: number; most: number }[];
}

/** Measures on a lab whose Vault has no tenants but those of such a measurement. */
export async function benchDrift(
  lab: OpenLab,
  options: DriftOptions,
  tell: (line: string) => void,
): Promise<DriftReport> {
  const ground = new Ground(lab, options, tell);
  try {
    await ground.prepare();
    const env = await roleEnv(lab, "credential-prober");
    const look = (stack: string[]) => lookAt(ground, env, "credentials", stack);
    const { turns, before, between, after } = await inTurns(ground, options, look, tell);
    const load = since(between, after, SERVERS);
    for (const { server, requests } of load)
      if (requests < options.tenants) throw new Error(`${server} was asked for ${requests} tenants only`);
    const { tenants, latency, slowest } = options;
    const conversation = slowestOf(since(before, between, SERVERS));
    return { tenants, latency, slowest, turns, conversation, ratio: ratioOf(turns), load };
  } finally {
    await ground.end();
  }
}

const SERVERS = ["Mailu", "SMTP", "IMAP"];

/** A look at the slowest tenant, and one at all of them. */
export interface Turn {
  alone: Look;
  all: Look;
}

/** What the servers had to do is told of the first turn: up to it, after its look at one, and after its look at all. */
export async function inTurns(
  ground: Ground,
  { tenants, latency, slowest, turns: count }: DriftOptions,
  look: (stack: string[]) => Promise<Look>,
  tell: (line: string) => void,
): Promise<{ turns: Turn[]; before: Stats; between: Stats; after: Stats }> {
  const last = ground.tenants.slice(-1).flatMap(({ id }) => ["--stack", tenantStack(id)]);
  // Once for nothing: the files are then in memory for both.
  await look(last);
  const stats: Stats[] = [await ground.stats()];
  const turns: Turn[] = [];
  for (let turn = 1; turn <= count; turn++) {
    tell(`${turn} of ${count}: a look at the one tenant whose host takes ${slowest} ms for each answer`);
    const alone = await look(last);
    stats.push(await ground.stats());
    tell(`${turn} of ${count}: a look at ${tenants} tenants, ${latency} ms for each answer of the others`);
    turns.push({ alone, all: await look([]) });
    stats.push(await ground.stats());
  }
  const [before = {}, between = {}, after = {}] = stats;
  return { turns, before, between, after };
}

export const ratioOf = (turns: readonly Turn[]): number =>
  medianRatio(
    turns.map(({ all }) => all.lookSeconds),
    turns.map(({ alone }) => alone.lookSeconds),
  );

/** The median of what `of` tells of each look. */
export const medianOf = (looks: readonly Look[], of: keyof Look): number =>
  median(looks.map((look) => look[of]));

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

function slowestOf(load: ReturnType<typeof since>): DriftReport["conversation"] {
  const [slowest] = load.toSorted((one, other) => other.seconds - one.seconds);
  return { server: slowest?.server ?? "none", seconds: slowest?.seconds ?? 0 };
}
