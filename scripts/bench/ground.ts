// What a measurement with many tenants stands on: their records in the lab's Vault, and servers for all of them that
// take their time for each answer. No host is behind them.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { IMAP_PORT, SMTP_PORT, type TenantId } from "../../stacks/names.ts";
import { type Finished, run, startService } from "../lab/children.ts";
import type { OpenLab } from "../lab/place.ts";
import { claimSubnet } from "../lab/subnet.ts";
import { vaultCall } from "../lab/vault.ts";
import { DECLARED_PORTS, outputsOf, programsOf, States, zoneEntries } from "./declared.ts";
import { type BenchTenant, publicHalf, removeTenants, writeTenants } from "./many-tenants.ts";
import { type Looked, PORTS, type SlowPlan, type Stats } from "./slow-servers.ts";
import { SSH_ADDRESSES, startSlowSsh } from "./slow-ssh.ts";

export interface GroundOptions {
  readonly tenants: number;
  /** Milliseconds for an answer. */
  readonly latency: number;
  /** Milliseconds for an answer of the last tenant's host, which serves nobody else. */
  readonly slowest?: number;
  /** A folder for files, removed by whoever made it. */
  readonly scratch: string;
  /** Hosts and DNS servers answer as stacks declare, which have outputs in a state of their own. */
  readonly declared?: true;
}

/** The name in the certificate that all hosts show: which one it is doesn't change what it costs. */
export const NAME = "mail.bench.example";

/** What a process took. */
export interface Used {
  seconds: number;
  peakMb: number;
  cpuSeconds: number;
}

export class Ground {
  readonly lab: OpenLab;
  /** Where the slow Vault, cloud, relay and webhooks are. */
  services = "";
  /** Slow resolvers, with `declared`. */
  resolvers: string[] = [];
  /** File with the private key that the hosts let in. */
  identityFile = "";
  tenants: BenchTenant[] = [];
  /** Where the stacks have their state, with `declared`. */
  states: States | undefined;
  readonly #options: GroundOptions;
  readonly #tell: (line: string) => void;
  readonly #atEnd: (() => unknown)[] = [];

  constructor(lab: OpenLab, options: GroundOptions, tell: (line: string) => void) {
    this.lab = lab;
    this.#options = options;
    this.#tell = tell;
  }

  /** On a lab whose Vault has no tenants but those of such a measurement. */
  async prepare(): Promise<void> {
    const { tenants: count, latency, slowest } = this.#options;
    await this.#requireEmptyVault();
    const subnet = await claimSubnet();
    this.#atEnd.push(() => subnet.release());
    this.services = subnet.services;
    this.resolvers = RESOLVERS.map((last) => `${subnet.prefix}.${last}`);
    const addresses = Array.from({ length: SSH_ADDRESSES }, (_, index) => `${subnet.prefix}.${10 + index}`);
    const tls = await this.#makeCertificate();
    const any = { certificate: tls.certificate, dkim: publicHalf(tls.privateKey) };
    const { hostKey, identityFile } = await (this.#options.declared
      ? this.#startSsh([sshdAt(subnet.prefix)], programsOf(any))
      : this.#startSsh(addresses));
    this.identityFile = identityFile;
    this.#tell(`writing ${count} tenants into Vault`);
    const slowHosts = addresses.map((address) => ({ address, latency }));
    const last = slowest === undefined ? undefined : `${subnet.prefix}.9`;
    if (slowest !== undefined && last !== undefined) slowHosts.push({ address: last, latency: slowest });
    const hosts = { addresses, last, hostKey, ...tls };
    this.tenants = await writeTenants(this.#root, count, hosts);
    this.#atEnd.push(() =>
      removeTenants(
        this.#root,
        this.tenants.map(({ id }) => id),
      ),
    );
    if (this.#options.declared) {
      this.states = new States(join(this.#options.scratch, "states"));
      for (const one of this.tenants) this.states.write(one.id, outputsOf(one, { ...any, hostKey }));
    }
    await this.#startServers({
      ...(this.#options.declared ? { looked: lookedAt(subnet.prefix, this.tenants, any.dkim) } : {}),
      ...{ latency, services: subnet.services, hosts: slowHosts, accounts: this.tenants },
      ...{ certificate: tls.certificate, key: tls.privateKey },
      ...{ vault: this.lab.place.vaultAddr, cloud: this.lab.place.awsEndpoint },
    });
  }

  async end(): Promise<void> {
    for (const act of this.#atEnd.reverse()) await act();
  }

  get certificateFile(): string {
    return join(this.#options.scratch, "cert.pem");
  }

  /** The lab's environment with the slow Vault and the slow cloud in it. */
  get slowEnv(): NodeJS.ProcessEnv {
    const VAULT_ADDR = `http://${this.services}:${PORTS.vault}`;
    return { ...this.lab.env, VAULT_ADDR, AWS_ENDPOINT_URL: `http://${this.services}:${PORTS.cloud}` };
  }

  /** What the servers had to do so far. */
  async stats(): Promise<Stats> {
    return (await (await fetch(`http://${this.services}:${PORTS.stats}/`)).json()) as Stats;
  }

  /** Runs `runbook ARGS` as an operator does, so that Node gets the flags of its first line, and tells what it took. */
  async runbook(args: string[], env: NodeJS.ProcessEnv): Promise<{ done: Finished; used: Used }> {
    const record = join(this.#options.scratch, "used");
    const main = join(import.meta.dirname, "..", "..", "runbooks", "main.ts");
    const NODE_OPTIONS = `--import=${new URL("recorder.mjs", import.meta.url).href}`;
    const done = await run(main, args, {
      env: { ...env, NODE_OPTIONS, BENCH_RECORD: record },
      lab: this.lab.place.dir,
    });
    const last = readFileSync(record, "utf8").trim().split("\n").at(-1) ?? "";
    const { peakKib, cpuSeconds } = Recorded.parse(JSON.parse(last));
    return { done, used: { seconds: done.ms / 1000, peakMb: (peakKib * 1024) / 1e6, cpuSeconds } };
  }

  /** Runs a program in the lab's environment, or another; throws for a code that isn't 0. */
  async run(command: string, args: string[], env: NodeJS.ProcessEnv = this.lab.env): Promise<Finished> {
    const done = await run(command, args, { env, lab: this.lab.place.dir });
    if (done.code === 0) return done;
    throw new Error(
      `${[command, ...args].slice(0, 3).join(" ")} ended with ${done.code}:\n${(done.stdout + done.stderr).slice(-4000)}`,
    );
  }

  get #root() {
    return { addr: this.lab.place.vaultAddr, token: this.lab.rootToken };
  }

  async #requireEmptyVault(): Promise<void> {
    const { addr, token } = this.#root;
    const answer = await vaultCall(addr, token, "GET", "smtp/metadata?list=true").catch(() => undefined);
    const names = Keys.parse(answer)?.data.keys.map((key) => key.replace(/\/$/, "")) ?? [];
    const others = names.filter((name) => !name.startsWith("bench-"));
    if (others.length > 0) throw new Error(`This lab has other tenants: ${others.join(", ")}`);
    await removeTenants(this.#root, names as TenantId[]);
  }

  async #startSsh(addresses: readonly string[], programs?: Readonly<Record<string, string>>) {
    const { latency, scratch } = this.#options;
    const dir = join(scratch, "ssh");
    mkdirSync(dir);
    const { env, place } = this.lab;
    const ssh = await startSlowSsh({
      ...{ dir, lab: place.dir, addresses, latency, env },
      ...(programs === undefined ? {} : { programs }),
    });
    this.#atEnd.push(() => ssh.stop());
    return ssh;
  }

  async #makeCertificate(): Promise<{ certificate: string; privateKey: string }> {
    const [key, cert] = [join(this.#options.scratch, "key.pem"), this.certificateFile];
    const how = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90".split(" ");
    const name = ["-subj", `/CN=${NAME}`, "-addext", `subjectAltName=DNS:${NAME}`];
    await this.run("openssl", [...how, ...name, "-keyout", key, "-out", cert]);
    return { certificate: readFileSync(cert, "utf8"), privateKey: readFileSync(key, "utf8") };
  }

  async #startServers(plan: SlowPlan): Promise<void> {
    const { scratch } = this.#options;
    const file = join(scratch, "plan.json");
    writeFileSync(file, JSON.stringify(plan), { mode: 0o600 });
    const script = `exec ${process.execPath} ${join(import.meta.dirname, "slow-servers.ts")} <${file}`;
    const { env, place } = this.lab;
    const log = join(scratch, "servers.log");
    const child = startService("sh", ["-c", script], { env, lab: place.dir, log });
    this.#atEnd.push(() => child.kill("SIGKILL"));
    const end = performance.now() + 60_000;
    while ((await this.stats().catch(() => undefined)) === undefined) {
      if (child.exitCode !== null || performance.now() > end)
        throw new Error(`The slow servers don't start: ${readFileSync(log, "utf8")}`);
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}

/** One behind those that pass it on slowly: every answer of the protocol is to take its time, not the commands alone. */
const sshdAt = (prefix: string): string => `${prefix}.2`;
const RESOLVERS = [211, 212];
/** As many as a zone of Route 53 has. */
const NAME_SERVERS = [201, 202, 203, 204];

function lookedAt(prefix: string, tenants: readonly BenchTenant[], dkim: string): Looked {
  const at = (last: number) => `${prefix}.${last}`;
  const servers = Object.fromEntries(NAME_SERVERS.map((last) => [`ns${last}.dns.example`, at(last)]));
  return {
    sshd: sshdAt(prefix),
    ports: DECLARED_PORTS.filter((port) => ![22, 443, SMTP_PORT, IMAP_PORT].includes(port)),
    dns: [...NAME_SERVERS, ...RESOLVERS].map(at),
    records: zoneEntries(tenants, dkim, servers),
  };
}

const Keys = z.object({ data: z.object({ keys: z.array(z.string()) }) }).optional();
const Recorded = z.object({ peakKib: z.number(), cpuSeconds: z.number() });
