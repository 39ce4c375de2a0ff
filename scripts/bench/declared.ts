// What the stacks of a benchmark's tenants declare of hosts and DNS, as outputs in a Pulumi state of their own, and what
// a host says where all is so. No `pulumi up` has made them: what an engine takes for a hundred is not measured.
import { createHash } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { reverseName } from "../../runbooks/lib/dns-server.ts";
import {
  adminAddress,
  CERTIFICATE_FILE,
  COMPOSE_FILE,
  DKIM_SELECTOR,
  IMAP_PORT,
  MAILU_DATA,
  MAILU_ENV_FILE,
  mailHost,
  PROJECT,
  SMTP_PORT,
  type TenantId,
  tenantStack,
} from "../../stacks/names.ts";
import type { BenchTenant } from "./many-tenants.ts";

/** `name` without the dot at its end; TXT as one text. */
export interface ZoneEntry {
  name: string;
  type: "A" | "MX" | "TXT" | "SRV" | "CNAME" | "NS" | "PTR";
  value: string;
}

/** What all hosts have in common. */
interface AnyHost {
  /** PEM. */
  certificate: string;
  /** The public half of the key that signs: DER in base64. */
  dkim: string;
}

/** Ports that answer. */
export const DECLARED_PORTS = [22, 25, 80, 443, SMTP_PORT, IMAP_PORT];
const FILES = [COMPOSE_FILE, MAILU_ENV_FILE, `${MAILU_DATA}/overrides/nginx/mta-sts.conf`];
const SERVICES = ["resolver", "redis", "front", "admin", "imap", "smtp", "antispam", "webmail"];

const digestOf = (path: string): string => createHash("sha256").update(path).digest("hex");
const imageOf = (service: string): string => `registry.example/${service}:1`;

/** The outputs of a tenant's stack; `hostKey` as in a record of Vault's. */
export function outputsOf(
  { address, domain }: BenchTenant,
  { hostKey, dkim }: { hostKey: string; dkim: string },
) {
  return {
    address,
    hostKey,
    domain,
    declared: {
      files: Object.fromEntries(FILES.map((path) => [path, digestOf(path)])),
      images: Object.fromEntries(SERVICES.map((service) => [service, imageOf(service)])),
      ports: DECLARED_PORTS,
      records: recordsOf(domain, address, dkim),
    },
  };
}

function recordsOf(domain: string, address: string, dkim: string): ZoneEntry[] {
  const host = mailHost(domain);
  const at = (name: string) => `${name}.${domain}`;
  const text = (name: string, value: string): ZoneEntry => ({ name, type: "TXT", value });
  const service = (name: string, port: number): ZoneEntry => ({
    ...{ name: at(`_${name}._tcp`), type: "SRV", value: `10 1 ${port} ${host}.` },
  });
  const alias = (name: string): ZoneEntry => ({ name: at(name), type: "CNAME", value: `${host}.` });
  return [
    { name: host, type: "A", value: address },
    { name: domain, type: "MX", value: `10 ${host}.` },
    text(domain, `v=spf1 mx a:${host} ~all`),
    text(at(`${DKIM_SELECTOR}._domainkey`), `v=DKIM1; p=${dkim}`),
    text(at("_dmarc"), `v=DMARC1; p=reject; rua=mailto:${adminAddress(domain)}; adkim=s; aspf=s`),
    ...[service("submissions", SMTP_PORT), service("imaps", IMAP_PORT), service("autodiscover", 443)],
    ...[alias("autoconfig"), alias("autodiscover"), alias("mta-sts")],
    text(at("_mta-sts"), "v=STSv1; id=20260101"),
    text(at("_smtp._tls"), `v=TLSRPTv1; rua=mailto:${adminAddress(domain)}`),
  ];
}

/** What DNS servers know where all is as declared; `servers`: names and addresses of the zones' own. */
export function zoneEntries(
  tenants: readonly BenchTenant[],
  dkim: string,
  servers: Readonly<Record<string, string>>,
): ZoneEntry[] {
  const own = tenants.flatMap(({ address, domain }): ZoneEntry[] => [
    ...recordsOf(domain, address, dkim),
    ...Object.keys(servers).map((name) => ({ name: domain, type: "NS" as const, value: `${name}.` })),
    { name: reverseName(address), type: "PTR", value: `${mailHost(domain)}.` },
  ]);
  return [...own, ...Object.entries(servers).map(([name, value]) => ({ name, type: "A" as const, value }))];
}

/** Programs of a host, by name, as shell scripts: what is asked of each is answered as declared. */
export function programsOf({ certificate, dkim }: AnyHost): Record<string, string> {
  const containers = SERVICES.map((Service) =>
    JSON.stringify({ Service, Image: imageOf(Service), State: "running" }),
  );
  return {
    sha256sum: says(FILES.map((path) => `${digestOf(path)}  ${path}`)),
    docker: says(containers),
    openssl: says([Buffer.from(dkim, "base64")]),
    ss: says(DECLARED_PORTS.map((port) => `LISTEN 0 511 0.0.0.0:${port} 0.0.0.0:*`)),
    cat: `#!/bin/sh\n[ "$1" = ${CERTIFICATE_FILE} ] || exec /bin/cat "$@"\n${says([certificate])}`,
  };
}

/** In base64: it may be anything. */
const says = (lines: (string | Buffer)[]): string =>
  `#!/bin/sh\nbase64 -d <<'END'\n${Buffer.concat(
    lines.map((line) => (typeof line === "string" ? Buffer.from(`${line}\n`) : line)),
  ).toString("base64")}\nEND\n`;

/** Pulumi states in a folder, as the engine's own backend `file://` keeps them. */
export class States {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
    mkdirSync(this.#stacks, { recursive: true });
    writeFileSync(join(dir, ".pulumi", "meta.yaml"), "version: 1\n");
  }

  /** For PULUMI_BACKEND_URL. */
  get url(): string {
    return `file://${this.#dir}?metadata=skip`;
  }

  write(tenant: TenantId, outputs: object): void {
    const stack = tenantStack(tenant);
    const type = "pulumi:pulumi:Stack";
    const urn = `urn:pulumi:${stack}::${PROJECT}::${type}::${PROJECT}-${stack}`;
    const manifest = { time: new Date().toISOString(), magic: "", version: "" };
    const latest = { manifest, resources: [{ urn, custom: false, type, outputs }], metadata: {} };
    const state = { version: 3, checkpoint: { stack: `organization/${PROJECT}/${stack}`, latest } };
    writeFileSync(this.#file(tenant), JSON.stringify(state));
  }

  remove(tenant: TenantId): void {
    rmSync(this.#file(tenant));
  }

  get #stacks(): string {
    return join(this.#dir, ".pulumi", "stacks", PROJECT);
  }

  #file(tenant: TenantId): string {
    return join(this.#stacks, `${tenantStack(tenant)}.json`);
  }
}
