// All the servers of a benchmark of many tenants, in one process that isn't the measured one: each takes its time for
// every answer. Its standard input says where; what they had to do is told at `/` of the stats port.
import { once } from "node:events";
import { createServer } from "node:http";
import { createServer as createHttps } from "node:https";
import { createServer as createNet, type Server, type Socket } from "node:net";
import { json } from "node:stream/consumers";
import { createServer as createTls } from "node:tls";
import { IMAP_PORT, SMTP_PORT } from "../../stacks/names.ts";
import type { ZoneEntry } from "./declared.ts";
import { startSlowDns } from "./slow-dns.ts";
import { type Account, Load, slowMailu, slowProxy, slowWebhook } from "./slow-http.ts";
import { type Door, speakImap, speakSmtp } from "./slow-lines.ts";

export interface SlowPlan {
  /** Milliseconds for an answer, but of a mail host. */
  latency: number;
  /** Where Vault, the bucket, the relay, the webhooks and the stats are. */
  services: string;
  /** The mail hosts, each of which serves every account, and their milliseconds for an answer. */
  hosts: { address: string; latency: number }[];
  certificate: string;
  key: string;
  vault: string;
  cloud: string;
  accounts: Account[];
  /** What only a look at hosts and DNS asks. */
  looked?: Looked;
}

export interface Looked {
  /** Where the sshd of all hosts is. */
  sshd: string;
  /** Ports that just answer. */
  ports: number[];
  /** Addresses of the DNS servers. */
  dns: string[];
  records: ZoneEntry[];
}

/** Ports at the services' address. */
export const PORTS = { vault: 8200, cloud: 5000, relay: 2525, webhooks: 8085, stats: 8099 } as const;

/** What each server had to do: requests or connections, the most at a time, the sum of their seconds. */
export type Stats = Record<string, { requests: number; most: number; seconds: number }>;

if (import.meta.main) await serve((await json(process.stdin)) as SlowPlan);

async function serve(plan: SlowPlan): Promise<void> {
  const { latency, services } = plan;
  const loads = new Map<string, Load>();
  const load = (name: string): Load => {
    const made = new Load();
    loads.set(name, made);
    return made;
  };
  const byToken = new Map(plan.accounts.map((one) => [one.token, one]));
  const byEmail = new Map(plan.accounts.map((one) => [one.email, one]));
  const door: Door = (user, password) => byEmail.get(user)?.password === password;
  const talk = (name: string, speak: typeof speakSmtp) => {
    const busy = load(name);
    return (latency: number) => (socket: Socket) => {
      busy.begin();
      socket.once("close", () => busy.end());
      socket.on("error", () => socket.destroy());
      speak(socket, latency, door).catch(() => socket.destroy());
    };
  };
  const [mailu, smtp, imap] = [load("Mailu"), talk("SMTP", speakSmtp), talk("IMAP", speakImap)];
  const tls = { key: plan.key, cert: plan.certificate };
  for (const host of plan.hosts) {
    const api = slowMailu(byToken, host.latency, mailu);
    // As nginx, which is Mailu's front: Node's own five seconds are shorter than a busy run's pauses.
    await listen(createHttps({ ...tls, keepAliveTimeout: 65_000 }, api), 443, host.address);
    await listen(createTls(tls, smtp(host.latency)), SMTP_PORT, host.address);
    await listen(createTls(tls, imap(host.latency)), IMAP_PORT, host.address);
  }
  if (plan.looked !== undefined) {
    const { sshd, ports, dns, records } = plan.looked;
    const ssh = load("ssh");
    for (const host of plan.hosts) {
      await listen(slowProxy(`ssh://${sshd}:22`, host.latency, ssh), 22, host.address);
      for (const port of ports)
        await listen(
          createNet((socket) => void socket.destroy()),
          port,
          host.address,
        );
    }
    await startSlowDns(dns, records, latency, load("DNS"));
  }
  await listen(slowProxy(plan.vault, latency, load("Vault")), PORTS.vault, services);
  await listen(slowProxy(plan.cloud, latency, load("S3")), PORTS.cloud, services);
  await listen(createNet(talk("relay", speakSmtp)(latency)), PORTS.relay, services);
  await listen(slowWebhook(latency, load("webhooks")), PORTS.webhooks, services);
  const stats = createServer((_, response) => response.end(JSON.stringify(statsOf(loads))));
  await listen(stats, PORTS.stats, services);
}

async function listen(server: Server, port: number, address: string): Promise<void> {
  server.listen({ port, host: address, backlog: 1024 });
  await once(server, "listening");
}

const statsOf = (loads: ReadonlyMap<string, Load>): Stats =>
  Object.fromEntries(
    [...loads].map(([name, { requests, most, seconds }]) => [name, { requests, most, seconds }]),
  );
