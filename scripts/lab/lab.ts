// A lab: a real Vault, an AWS endpoint, hosts that can be killed, and on it all a provisioned platform with two
// tenants. It lives as long as the process that started it.

import { appendFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import {
  AUDIT_BUCKET,
  BACKUP_BUCKET,
  BACKUP_KEY_ALIAS,
  PLATFORM_STACK,
  tenantStack,
} from "../../stacks/names.ts";
import { REPOSITORY, toolchainBin } from "../toolchain/paths.ts";
import { allOf } from "./all-of.ts";
import { endService, sweep } from "./children.ts";
import { awsEndpoint, startCloud } from "./cloud.ts";
import { serveControl } from "./control.ts";
import { dnsServer, startDns } from "./dns.ts";
import { labEnvironment, labVariables, type Place, withoutForeign } from "./environment.ts";
import { removeFolder, takeFolder } from "./folder.ts";
import { Hypervisor } from "./hypervisor.ts";
import { makeOfflineKey, startSsh } from "./keys.ts";
import { writePeople } from "./logins.ts";
import { notifySection, startReceivers } from "./notices.ts";
import { describeLab, type OpenLab, openLab } from "./place.ts";
import { installPlugins } from "./plugins/install.ts";
import { makeProject, makeStack } from "./project.ts";
import { type Phase, provision } from "./provision.ts";
import { claimSubnet } from "./subnet.ts";
import { type LabTenant, TENANTS } from "./tenants.ts";
import {
  destroyVaultData,
  type LabVault,
  runVault,
  startVault,
  type VaultOptions,
  vaultAddr,
} from "./vault.ts";

export interface LabOptions {
  /** The lab's folder, absolute; made, or taken over from a crashed lab. */
  dir: string;
  /** `two` (the default) provisions acme and globex; `none` ends with the platform stack. */
  tenants?: "none" | "two";
  /** Starts the servers and provisions nothing at all, as an operator finds them on his first day. */
  bare?: boolean;
  /** Called with a sentence whenever something has been done. */
  onProgress?: (line: string) => void;
  /** Ends the start; what runs already is stopped. */
  signal?: AbortSignal;
}

export interface Lab extends OpenLab {
  dir: string;
  tenants: LabTenant[];
  hosts: Hypervisor;
  /** What the start consisted of; parts that ran side by side overlap. */
  phases: { title: string; seconds: number }[];
  /** Ends every process of the lab and removes its folder unless `keep`. Safe to repeat. */
  stop(options?: { keep?: boolean }): Promise<void>;
}

/** Starts a lab. Throws LabIsRunning if one runs in `dir`; after any other failure nothing runs, and logs are kept. */
export async function startLab(options: LabOptions): Promise<Lab> {
  const release = await takeFolder(options.dir);
  const end: (() => Promise<unknown>)[] = [];
  let stopped: Promise<void> | undefined;
  const stop = (how: { keep?: boolean } = {}): Promise<void> => {
    stopped ??= (async () => {
      for (const step of end.reverse()) await step();
      await sweep(options.dir);
      if (how.keep !== true) await removeFolder(options.dir);
      await release();
    })();
    return stopped;
  };
  try {
    return await build(options, stop, (step) => end.push(step));
  } catch (cause) {
    await stop({ keep: options.signal?.aborted !== true });
    throw cause;
  }
}

async function build(
  options: LabOptions,
  stop: Lab["stop"],
  atEnd: (step: () => Promise<unknown>) => void,
): Promise<Lab> {
  const { dir, signal } = options;
  const phases: Lab["phases"] = [];
  const log = (line: string): void =>
    appendFileSync(join(dir, "logs", "lab.log"), `${new Date().toISOString()} ${line}\n`);
  const phase: Phase = async (title, work) => {
    signal?.throwIfAborted();
    const begin = performance.now();
    const result = await work();
    const seconds = (performance.now() - begin) / 1000;
    phases.push({ title, seconds });
    log(`${title}: ${seconds.toFixed(1)} s`);
    options.onProgress?.(`${title} (${seconds.toFixed(1)} s)`);
    return result;
  };

  const tenants = options.tenants === "none" || options.bare ? [] : TENANTS;
  const stacks = options.bare ? [] : [PLATFORM_STACK, ...tenants.map((tenant) => tenantStack(tenant.id))];
  const repo = REPOSITORY.replace(/\/$/, "");
  const toolchain = toolchainBin();
  const env = withoutForeign(process.env);
  const subnet = await claimSubnet();
  atEnd(() => subnet.release());
  const address = subnet.services;

  const place: Place = {
    dir,
    repo,
    toolchain,
    vaultAddr: vaultAddr(address),
    awsEndpoint: awsEndpoint(address),
  };
  const vaultOptions = { dir, address, program: join(toolchain, "vault"), env, signal };
  const [vault, , ssh, dns] = await allOf([
    phase("Vault initialised and unsealed", async () => {
      const started = await startVault(vaultOptions);
      atEnd(() => endService(started.process));
      return started;
    }),
    phase("AWS endpoint answers", async () => {
      const python = join(toolchain, "moto-python");
      const started = await startCloud({ dir, address, prefix: subnet.prefix, python, env, signal });
      atEnd(() => endService(started));
    }),
    phase("ssh key pair in its agent", async () => {
      const started = await startSsh(dir, env);
      atEnd(() => endService(started.agent));
      return started;
    }),
    phase("DNS server", async () => {
      const started = await startDns(place.awsEndpoint, address);
      atEnd(() => started.stop());
      return started;
    }),
    phase("receivers of notices", async () => atEnd(await startReceivers(dir, address))),
    phase("Pulumi project, plugins and empty stacks", async () => {
      await makeProject(dir, repo);
      await installPlugins(join(dir, "pulumi-home"));
      const noTokens = labEnvironment(place, labVariables(place, {}));
      await allOf(stacks.map((stack) => makeStack(dir, noTokens, stack)));
    }),
  ]);

  // It takes a core for a second or more, and nobody needs it before the lab is up.
  const offlineKey = phase("offline recovery key made", () => makeOfflineKey(dir));
  offlineKey.catch(() => {});
  await describeLab(dir, { ...place, ready: false });
  await writeSettings(place, address);
  await writePeople(dir, vault);
  const hosts = new Hypervisor({
    dir,
    prefix: subnet.prefix,
    authorizedKey: ssh.publicKey,
    endpoint: place.awsEndpoint,
    log,
  });
  atEnd(() => hosts.stop());
  hosts.start();
  const control = await serveControl(dir, async (what) => {
    if (what.order === "kill") await hosts.kill(what.address, what.how, what.keepData);
    if (what.order === "follow") await hosts.follow();
    if (what.order === "wake") hosts.wake(what.address);
    if (what.order === "vault") await turnVault(vaultOptions, vault, what.how);
    if (what.order === "boot") return { hosts: [await hosts.bootExisting(what.name, what.address)] };
    return { hosts: hosts.hosts() };
  });
  atEnd(async () => control.close());

  const open = await openLab(dir);
  if (options.bare !== true) await provision(open, hosts, tenants, ssh.publicKey, phase, signal);
  await dns.nameAddresses();
  await offlineKey;
  await describeLab(dir, { ...place, ready: true });
  return { ...(await openLab(dir)), dir, tenants, hosts, phases, stop };
}

/** Ends the Vault hard and, unless it is to stay `stopped`, starts it again: on its data, or on none. */
async function turnVault(
  options: VaultOptions,
  vault: LabVault,
  how: "lost" | "restarted" | "stopped",
): Promise<void> {
  await endService(vault.process, 0);
  if (how === "lost") await destroyVaultData(options.dir);
  if (how === "stopped") return;
  // 501: not initialised; 503: sealed.
  vault.process = await runVault({ ...options, signal: undefined }, how === "lost" ? [501] : [501, 503]);
}

async function writeSettings(place: Place, address: string): Promise<void> {
  const settings = {
    vault: { addr: place.vaultAddr },
    audit: { log: join(place.dir, "audit.jsonl"), bucket: AUDIT_BUCKET },
    ssh: { user: "root", identity_file: join(place.dir, "id_ed25519") },
    pulumi: { project_dir: join(place.dir, "project") },
    notify: notifySection(address),
    backup: {
      bucket: BACKUP_BUCKET,
      kms_key: BACKUP_KEY_ALIAS,
      recovery_public_keys: ["offline-recovery.pub.pem"],
      metrics_file: join("metrics", "vault-backup.prom"),
    },
    dns: { resolvers: [dnsServer(address)], authoritative: [dnsServer(address)] },
  };
  await writeFile(join(place.dir, "recovery.yaml"), stringify(settings));
}
