// `npm run bench -- response`: one response to a compromise of hundreds of tenants, on servers that take their time for
// each answer, beside a shell loop that does the same for a few of them one after the other.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { z } from "zod";
import { AUDIT_BUCKET, type TenantId } from "../../stacks/names.ts";
import { type Finished, run, startService } from "../lab/children.ts";
import type { OpenLab } from "../lab/place.ts";
import { claimSubnet } from "../lab/subnet.ts";
import { vaultCall } from "../lab/vault.ts";
import { type BenchTenant, removeTenants, writeTenants } from "./many-tenants.ts";
import { PORTS, type SlowPlan, type Stats } from "./slow-servers.ts";
import { SSH_ADDRESSES, startSlowSsh } from "./slow-ssh.ts";

/** Throughput in multiples of the shell loop's, at least; memory in millions of bytes, less than that. */
export const PROMISED = { throughput: 20, peakMb: 200 };

export interface ResponseOptions {
  readonly tenants: number;
  /** Milliseconds for an answer. */
  readonly latency: number;
  /** Tenants of the shell loop. */
  readonly sequential: number;
  /** Tenants at the same time; the runbook's own default when left out. */
  readonly atOnce: number | undefined;
  /** A folder for files, removed by whoever made it. */
  readonly scratch: string;
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
  const bench = new Bench(lab, options, tell);
  try {
    return await bench.measure();
  } finally {
    await bench.end();
  }
}

class Bench {
  readonly #lab: OpenLab;
  readonly #options: ResponseOptions;
  readonly #tell: (line: string) => void;
  readonly #atEnd: (() => unknown)[] = [];

  constructor(lab: OpenLab, options: ResponseOptions, tell: (line: string) => void) {
    this.#lab = lab;
    this.#options = options;
    this.#tell = tell;
  }

  async measure(): Promise<ResponseReport> {
    const { tenants: count, latency, sequential: few } = this.#options;
    await this.#requireEmptyVault();
    const subnet = await claimSubnet();
    this.#atEnd.push(() => subnet.release());
    const addresses = Array.from({ length: SSH_ADDRESSES }, (_, index) => `${subnet.prefix}.${10 + index}`);
    const { hostKey, identityFile } = await this.#startSsh(addresses);
    const tls = await this.#makeCertificate();
    this.#tell(`writing ${count} tenants into Vault`);
    const hosts = { addresses, hostKey, ...tls };
    const tenants = await writeTenants(this.#root, count, hosts);
    this.#atEnd.push(() =>
      removeTenants(
        this.#root,
        tenants.map(({ id }) => id),
      ),
    );
    await this.#startServers({
      ...{ latency, services: subnet.services, hosts: addresses, accounts: tenants },
      ...{ certificate: tls.certificate, key: tls.privateKey },
      ...{ vault: this.#lab.place.vaultAddr, cloud: this.#lab.place.awsEndpoint },
    });

    this.#tell(`responding to a compromise of ${count} tenants, ${latency} ms for each answer`);
    const whole = await this.#respond(subnet.services, identityFile);
    const load = await statsAt(subnet.services);
    this.#tell(`the same for ${few} of them by a shell loop`);
    const sequential = await this.#loop(tenants.slice(0, few), subnet.services, identityFile);
    const perTenant = sequential.reduce((sum, one) => sum + one, 0) / sequential.length;
    const ratio = (count / whole.seconds) * perTenant;
    return { tenants: count, latency, ...whole, sequential, ratio, load };
  }

  async end(): Promise<void> {
    for (const act of this.#atEnd.reverse()) await act();
  }

  get #root() {
    return { addr: this.#lab.place.vaultAddr, token: this.#lab.rootToken };
  }

  async #requireEmptyVault(): Promise<void> {
    const { addr, token } = this.#root;
    const answer = await vaultCall(addr, token, "GET", "smtp/metadata?list=true").catch(() => undefined);
    const names = Keys.parse(answer)?.data.keys.map((key) => key.replace(/\/$/, "")) ?? [];
    const others = names.filter((name) => !name.startsWith("bench-"));
    if (others.length > 0) throw new Error(`This lab has other tenants: ${others.join(", ")}`);
    await removeTenants(this.#root, names as TenantId[]);
  }

  async #startSsh(addresses: readonly string[]) {
    const { latency, scratch } = this.#options;
    const dir = join(scratch, "ssh");
    mkdirSync(dir);
    const { env, place } = this.#lab;
    const ssh = await startSlowSsh({ dir, lab: place.dir, addresses, latency, env });
    this.#atEnd.push(() => ssh.stop());
    return ssh;
  }

  /** One for all hosts: which one it is doesn't change what it costs. */
  async #makeCertificate(): Promise<{ certificate: string; privateKey: string }> {
    const [key, cert] = [join(this.#options.scratch, "key.pem"), this.#certificateFile];
    const how = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(" ");
    const name = ["-subj", `/CN=${NAME}`, "-addext", `subjectAltName=DNS:${NAME}`];
    await this.#run("openssl", [...how, ...name, "-keyout", key, "-out", cert]);
    return { certificate: readFileSync(cert, "utf8"), privateKey: readFileSync(key, "utf8") };
  }

  get #certificateFile(): string {
    return join(this.#options.scratch, "cert.pem");
  }

  async #startServers(plan: SlowPlan): Promise<void> {
    const { scratch } = this.#options;
    const file = join(scratch, "plan.json");
    writeFileSync(file, JSON.stringify(plan), { mode: 0o600 });
    const script = `exec ${process.execPath} ${join(import.meta.dirname, "slow-servers.ts")} <${file}`;
    const { env, place } = this.#lab;
    const child = startService("sh", ["-c", script], {
      env,
      lab: place.dir,
      log: join(scratch, "servers.log"),
    });
    this.#atEnd.push(() => child.kill("SIGKILL"));
    const end = performance.now() + 60_000;
    while ((await statsAt(plan.services).catch(() => undefined)) === undefined) {
      if (child.exitCode !== null || performance.now() > end)
        throw new Error(
          `The slow servers don't start: ${readFileSync(join(scratch, "servers.log"), "utf8")}`,
        );
      await new Promise((done) => setTimeout(done, 100));
    }
  }

  async #respond(
    services: string,
    identityFile: string,
  ): Promise<{ seconds: number; peakMb: number; cpuSeconds: number }> {
    const { scratch, atOnce } = this.#options;
    const [settings, record] = [join(scratch, "recovery.yaml"), join(scratch, "used")];
    writeFileSync(settings, stringify(this.#settings(services, identityFile)));
    const env = {
      ...this.#slowEnv(services),
      RECOVERY_CONFIG: settings,
      VAULT_TOKEN: "",
      VAULT_ROLE_ID: this.#lab.systemRoleId,
      VAULT_SECRET_ID: this.#lab.systemSecretId,
      NODE_OPTIONS: `--import=${new URL("recorder.mjs", import.meta.url).href}`,
      BENCH_RECORD: record,
    };
    const about = ["--incident", `BENCH-${Date.now()}`, "--details", "benchmark", "--all"];
    const flags = [...(atOnce === undefined ? [] : ["--at-once", `${atOnce}`]), "--yes", "--json"];
    // As an operator does, so that Node gets the flags of its first line.
    const main = join(import.meta.dirname, "..", "..", "runbooks", "main.ts");
    const args = ["respond-to-compromise", ...about, ...flags];
    const done = await run(main, args, { env, lab: this.#lab.place.dir });
    const answer = Answer.parse(JSON.parse(done.stdout));
    if (done.code !== 0 || answer.done.length !== this.#options.tenants) {
      const problems = [...answer.failed.flatMap((one) => one.problems), ...answer.outstanding];
      throw new Error(
        `The response ended with ${done.code}: ${problems.join("\n")}\n${done.stderr.slice(-500)}`,
      );
    }
    const last = readFileSync(record, "utf8").trim().split("\n").at(-1) ?? "";
    const { peakKib, cpuSeconds } = Used.parse(JSON.parse(last));
    return { seconds: done.ms / 1000, peakMb: (peakKib * 1024) / 1e6, cpuSeconds };
  }

  #settings(services: string, identity_file: string) {
    const { scratch } = this.#options;
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

  async #loop(tenants: readonly BenchTenant[], services: string, SSH_KEY: string): Promise<number[]> {
    const env = {
      ...this.#slowEnv(services),
      BUCKET: `http://${services}:${PORTS.cloud}/${AUDIT_BUCKET}`,
      AUTHORIZATION:
        "Authorization: AWS4-HMAC-SHA256 Credential=lab/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
      RELAY: `${services}:${PORTS.relay}`,
      WEBHOOK: `http://${services}:${PORTS.webhooks}/generic`,
      CA: this.#certificateFile,
      NAME,
      SSH_KEY,
    };
    const script = join(import.meta.dirname, "shell-loop.sh");
    const { stdout } = await this.#run("bash", [script, ...tenants.map(({ id }) => id)], env);
    return stdout
      .trim()
      .split("\n")
      .map((line) => Number(line.split(" ")[1]) / 1000);
  }

  #slowEnv(services: string): NodeJS.ProcessEnv {
    const VAULT_ADDR = `http://${services}:${PORTS.vault}`;
    return { ...this.#lab.env, VAULT_ADDR, AWS_ENDPOINT_URL: `http://${services}:${PORTS.cloud}` };
  }

  async #run(command: string, args: string[], env: NodeJS.ProcessEnv = this.#lab.env): Promise<Finished> {
    const done = await run(command, args, { env, lab: this.#lab.place.dir });
    if (done.code === 0) return done;
    throw new Error(
      `${[command, ...args].slice(0, 3).join(" ")} ended with ${done.code}:\n${(done.stdout + done.stderr).slice(-4000)}`,
    );
  }
}

const NAME = "mail.bench.example";
const Keys = z.object({ data: z.object({ keys: z.array(z.string()) }) }).optional();
const Answer = z.object({
  done: z.array(z.string()).default([]),
  failed: z.array(z.object({ problems: z.array(z.string()) })).default([]),
  outstanding: z.array(z.string()).default([]),
});
const Used = z.object({ peakKib: z.number(), cpuSeconds: z.number() });

async function statsAt(services: string): Promise<Stats> {
  return (await (await fetch(`http://${services}:${PORTS.stats}/`)).json()) as Stats;
}
