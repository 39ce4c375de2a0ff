// Mailu's docker-compose.yml and mailu.env. Pure, and without any secret: those lie beside them in files that the
// recovery writes, and Mailu reads them through its `<KEY>_FILE` variables.
import { API_TOKEN_FILE, MAILU_DATA, MAILU_ENV_FILE, mailHost, SECRET_KEY_FILE } from "../names.ts";
import { mailPorts } from "./firewall.ts";

export interface MailuSettings {
  /** The tenant's mail domain. */
  domain: string;
  /** Networks exempt from the limits on failed logins, in CIDR notation. */
  exemptNetworks: readonly string[];
  /** Also answer on port 587. */
  submission: boolean;
  mtaSts: "none" | "testing" | "enforce";
}

const VERSION = "2024.06";
const SUBNET = "192.168.203.0/24";
const RESOLVER = "192.168.203.254";

/** Mailu's settings. `INITIAL_ADMIN_*` stay out: they would bring an old password back at every start. */
export function mailuEnv(settings: MailuSettings): string {
  const { domain } = settings;
  const names = [mailHost(domain), `autoconfig.${domain}`, `autodiscover.${domain}`];
  const lines = {
    COMPOSE_PROJECT_NAME: "mailu",
    DOMAIN: domain,
    // The first is the name in MX and certificate.
    HOSTNAMES: [...names, ...(settings.mtaSts === "none" ? [] : [`mta-sts.${domain}`])].join(","),
    POSTMASTER: "admin",
    SITENAME: domain,
    WEBSITE: `https://${mailHost(domain)}`,
    TLS_FLAVOR: "cert",
    SUBNET,
    ADMIN: "true",
    WEB_ADMIN: "/admin",
    API: "true",
    WEB_API: "/api",
    WEBMAIL: "roundcube",
    WEB_WEBMAIL: "/webmail",
    ANTIVIRUS: "none",
    WEBDAV: "none",
    SCAN_MACROS: "false",
    PORTS: mailPorts(settings.submission).join(","),
    MESSAGE_RATELIMIT: "200/day",
    MESSAGE_SIZE_LIMIT: "50000000",
    AUTH_RATELIMIT_IP: "5/hour",
    AUTH_RATELIMIT_USER: "50/day",
    // Guessing passwords blocks a user everywhere else for a day; ours must still be able to log in and prove.
    AUTH_RATELIMIT_EXEMPTION: settings.exemptNetworks.join(","),
    DISABLE_STATISTICS: "True",
    RECIPIENT_DELIMITER: "+",
    DMARC_RUA: "admin",
    DMARC_RUF: "admin",
    WELCOME: "false",
    LOG_LEVEL: "INFO",
    SECRET_KEY_FILE: "/run/secrets/secret_key",
  };
  return `${Object.entries(lines)
    .map(([key, value]) => `${key}=${value}`)
    .join("\n")}\n`;
}

/** The containers, after Mailu's own set-up for version 2024.06. */
export function composeFile(settings: MailuSettings): string {
  const base = (image: string) => ({
    image: `ghcr.io/mailu/${image}:${VERSION}`,
    restart: "always",
    env_file: MAILU_ENV_FILE,
    secrets: ["secret_key"],
  });
  const resolving = { dns: [RESOLVER] };
  const services = {
    front: {
      ...base("nginx"),
      ports: mailPorts(settings.submission).map((port) => `${port}:${port}`),
      networks: ["default", "webmail"],
      volumes: [data("certs", "/certs"), overrides("nginx")],
      depends_on: ["resolver"],
      ...resolving,
    },
    // Mailu's own: the admin container waits for a resolver that validates DNSSEC.
    resolver: { ...base("unbound"), networks: { default: { ipv4_address: RESOLVER } } },
    redis: {
      image: "redis:7-alpine",
      restart: "always",
      volumes: [data("redis", "/data")],
      depends_on: ["resolver"],
      ...resolving,
    },
    admin: {
      ...base("admin"),
      // Here alone: who has the token rules every mailbox on this host.
      environment: { API_TOKEN_FILE: "/run/secrets/api_token" },
      secrets: ["secret_key", "api_token"],
      volumes: [data("data", "/data"), data("dkim", "/dkim")],
      depends_on: ["redis", "resolver"],
      ...resolving,
    },
    imap: {
      ...base("dovecot"),
      volumes: [data("mail", "/mail"), overrides("dovecot")],
      depends_on: ["front", "resolver"],
      ...resolving,
    },
    smtp: {
      ...base("postfix"),
      volumes: [data("mailqueue", "/queue"), overrides("postfix")],
      depends_on: ["front", "resolver"],
      ...resolving,
    },
    antispam: {
      ...base("rspamd"),
      hostname: "antispam",
      volumes: [data("filter", "/var/lib/rspamd"), overrides("rspamd")],
      depends_on: ["front", "redis", "resolver"],
      ...resolving,
    },
    webmail: {
      ...base("webmail"),
      networks: ["webmail"],
      volumes: [data("webmail", "/data"), overrides("roundcube")],
      depends_on: ["front"],
    },
  };
  const document = {
    services,
    networks: {
      default: { driver: "bridge", ipam: { driver: "default", config: [{ subnet: SUBNET }] } },
      webmail: { driver: "bridge" },
    },
    secrets: { secret_key: { file: SECRET_KEY_FILE }, api_token: { file: API_TOKEN_FILE } },
  };
  // JSON is YAML: Compose reads it, and no library is needed to write it.
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** Image of each container by the name of its service. */
export function composeImages(settings: MailuSettings): Record<string, string> {
  const { services } = JSON.parse(composeFile(settings)) as { services: Record<string, { image: string }> };
  return Object.fromEntries(Object.entries(services).map(([name, { image }]) => [name, image]));
}

const data = (folder: string, mount: string): string => `${MAILU_DATA}/${folder}:${mount}`;
const overrides = (service: string): string => `${MAILU_DATA}/overrides/${service}:/overrides:ro`;
