// `npm run bench -- drift-hosts`: a look at the hosts and the DNS records of many tenants, on servers that take their
// time for each answer, beside a look at the one whose host takes the longest. What the stacks declare is asked of the
// Pulumi engine first, a process for each: that is a step of its own, and no part of what is compared.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import type { OpenLab } from "../lab/place.ts";
import {
  type DriftOptions,
  inTurns,
  type Look,
  lookAt,
  ratioOf,
  roleEnv,
  since,
  type Turn,
} from "./drift.ts";
import { Ground } from "./ground.ts";
import { removeTenants } from "./many-tenants.ts";

/** The role that a check has in production, and the server that it waits for. */
const LOOKS = [
  { check: "host", role: "credential-prober", server: "ssh" },
  { check: "dns", role: "drift-reader", server: "DNS" },
] as const;

export interface HostsReport {
  tenants: number;
  latency: number;
  slowest: number;
  /** How many the third look was at, by which memory's growth is told. */
  few: number;
  checks: {
    check: string;
    turns: Turn[];
    few: Look;
    ratio: number;
    load: { server: string; requests: number; most: number };
  }[];
}

/** Measures on a lab whose Vault has no tenants but those of such a measurement. */
export async function benchHosts(
  lab: OpenLab,
  options: DriftOptions,
  tell: (line: string) => void,
): Promise<HostsReport> {
  const ground = new Ground(lab, { ...options, declared: true }, tell);
  const { tenants: count, latency, slowest } = options;
  const few = Math.ceil(count / 4);
  try {
    await ground.prepare();
    const settings = writeSettings(ground, options.scratch);
    const looks = LOOKS.map(({ check, role, server }) => ({
      check,
      server,
      at: async (stack: string[]) => {
        const env = { ...(await roleEnv(lab, role)), ...settings };
        return lookAt(ground, env, check, stack);
      },
    }));
    const measured: Omit<HostsReport["checks"][number], "few">[] = [];
    for (const { check, server, at } of looks) {
      const { turns, between, after } = await inTurns(ground, options, at, (line) =>
        tell(`${check}, ${line}`),
      );
      const [load] = since(between, after, [server]);
      if (load === undefined || load.requests < count)
        throw new Error(`${server} was asked for ${load?.requests} tenants only`);
      measured.push({ check, turns, ratio: ratioOf(turns), load });
    }
    const others = ground.tenants.slice(few).map(({ id }) => id);
    for (const id of others) ground.states?.remove(id);
    await removeTenants({ addr: lab.place.vaultAddr, token: lab.rootToken }, others);
    const checks: HostsReport["checks"] = [];
    for (const [index, { check, at }] of looks.entries()) {
      tell(`${check}: looking at ${few} of them`);
      const is = measured[index];
      if (is !== undefined) checks.push({ ...is, few: await at([]) });
    }
    return { tenants: count, latency, slowest, few, checks };
  } finally {
    await ground.end();
  }
}

/** The lab's settings with the slow servers in them: variables that lead to them, and to the states. */
function writeSettings({ lab, identityFile, resolvers, states }: Ground, scratch: string) {
  const RECOVERY_CONFIG = join(scratch, "recovery.yaml");
  const own = Object(parse(readFileSync(join(lab.place.dir, "recovery.yaml"), "utf8"))) as object;
  // Not `authoritative`: the zones' own servers are found, as where nothing is set.
  const settings = {
    ...own,
    ssh: { user: "root", identity_file: identityFile },
    dns: { resolvers },
    audit: undefined,
    notify: undefined,
    backup: undefined,
  };
  writeFileSync(RECOVERY_CONFIG, stringify(settings));
  return { RECOVERY_CONFIG, PULUMI_BACKEND_URL: states?.url };
}
