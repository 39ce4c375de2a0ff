// `npm run bench -- response`: one response to a compromise of hundreds of tenants, on servers that take their time for
// each answer, beside a shell loop that does the same for a few of them one after the other.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { z } from "zod";
import { AUDIT_BUCKET } from "../../stacks/names.ts";
import type { OpenLab } from "../lab/place.ts";
import { Ground, type GroundOptions, NAME, type Used } from "./ground.ts";
import type { BenchTenant } from "./many-tenants.ts";
import { PORTS, type Stats } from "./slow-servers.ts";

/** Throughput in multiples of the shell loop's, at least; memory in millions of bytes, less than that. */
export const PROMISED = { throughput: 20, peakMb: 200 };

export interface ResponseOptions extends GroundOptions {
  /** Tenants of the shell loop. */
  readonly sequential: number;
  /** Tenants at the same time; the runbook's own default when left out. */
  readonly atOnce: number | undefined;
}

export interface ResponseReport {
  tenants: number;
  latency: number;
  /** Of the whole runbook process. */
  seconds: number;
  peakMb: number;
  cpuSeconds: number;
  /** Seconds of each tenant of the shell loop. */
  sequential: number[];
  /** Throughput by that of the shell loop. */
  ratio: number;
  load: Stats;
}

/** Measures on a lab whose Vault has no tenants but those of such a measurement. */
export async function benchResponse(
  lab: OpenLab,
  options: ResponseOptions,
  tell: (line: string) => void,
): Promise<ResponseReport> {
  const ground = new Ground(lab, options, tell);
  try {
    await ground.prepare();
    return await measure(ground, options, tell);
  } finally {
    await ground.end();
  }
}

async function measure(
  ground: Ground,
  options: ResponseOptions,
  tell: (line: string) => void,
): Promise<ResponseReport> {
  const { tenants: count, latency, sequential: few } = options;
  tell(`responding to a compromise of ${count} tenants, ${latency} ms for each answer`);
  const whole = await respond(ground, options);
  const load = await ground.stats();
  tell(`the same for ${few} of them by a shell loop`);
  const sequential = await loop(ground, ground.tenants.slice(0, few));
  const perTenant = sequential.reduce((sum, one) => sum + one, 0) / sequential.length;
  const ratio = (count / whole.seconds) * perTenant;
  return { tenants: count, latency, ...whole, sequential, ratio, load };
}

async function respond(ground: Ground, options: ResponseOptions): Promise<Used> {
  const { scratch, atOnce } = options;
  const settings = join(scratch, "recovery.yaml");
  writeFileSync(settings, stringify(settingsOf(ground, scratch)));
  const env = {
    ...ground.slowEnv,
    RECOVERY_CONFIG: settings,
    VAULT_TOKEN: "",
    VAULT_ROLE_ID: ground.lab.systemRoleId,
    VAULT_SECRET_ID: ground.lab.systemSecretId,
  };
  const about = ["--incident", `BENCH-${Date.now()}`, "--details", "benchmark", "--all"];
  const flags = [...(atOnce === undefined ? [] : ["--at-once", `${atOnce}`]), "--yes", "--json"];
  const { done, used } = await ground.runbook(["respond-to-compromise", ...about, ...flags], env);
  const answer = Answer.parse(JSON.parse(done.stdout));
  if (done.code !== 0 || answer.done.length !== options.tenants) {
    const problems = [...answer.failed.flatMap((one) => one.problems), ...answer.outstanding];
    throw new Error(
      `The response ended with ${done.code}: ${problems.join("\n")}\n${done.stderr.slice(-500)}`,
    );
  }
  return used;
}

function settingsOf({ services, identityFile: identity_file }: Ground, scratch: string) {
  const hook = `http://${services}:${PORTS.webhooks}`;
  writeFileSync(join(scratch, "secret"), "for a benchmark\n", { mode: 0o600 });
  writeFileSync(join(scratch, "slack"), `${hook}/slack\n`, { mode: 0o600 });
  return {
    vault: { addr: `http://${services}:${PORTS.vault}` },
    audit: { log: join(scratch, "audit.jsonl"), bucket: AUDIT_BUCKET },
    ssh: { user: "root", identity_file },
    notify: {
      from: "security@penguinmails.example",
      security: ["oncall@people.example"],
      relay: { host: services, port: PORTS.relay, tls: "none" },
      webhooks: [
        { url: `${hook}/generic`, format: "generic", secret_file: "secret" },
        { url_file: "slack", format: "slack" },
      ],
    },
  };
}

async function loop(ground: Ground, tenants: readonly BenchTenant[]): Promise<number[]> {
  const { services } = ground;
  const env = {
    ...ground.slowEnv,
    BUCKET: `http://${services}:${PORTS.cloud}/${AUDIT_BUCKET}`,
    AUTHORIZATION:
      "Authorization: AWS4-HMAC-SHA256 Credential=lab/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
    RELAY: `${services}:${PORTS.relay}`,
    WEBHOOK: `http://${services}:${PORTS.webhooks}/generic`,
    CA: ground.certificateFile,
    NAME,
    SSH_KEY: ground.identityFile,
  };
  const script = join(import.meta.dirname, "shell-loop.sh");
  const { stdout } = await ground.run("bash", [script, ...tenants.map(({ id }) => id)], env);
  return stdout
    .trim()
    .split("\n")
    .map((line) => Number(line.split(" ")[1]) / 1000);
}

const Answer = z.object({
  done: z.array(z.string()).default([]),
  failed: z.array(z.object({ problems: z.array(z.string()) })).default([]),
  outstanding: z.array(z.string()).default([]),
});
