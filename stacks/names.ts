// Every name that a tenant's id or domain gives rise to, in one place. Pure: no import, no I/O, so that
// stacks and runbooks can both use it and can never disagree about where something lies.

/** A tenant's id, already checked: it is safe in a path, a policy name, a stack name and a shell word. */
export type TenantId = string & { readonly __tenantId: never };

/** `canary` is the backup's own record; the others would collide with names that the tool itself uses. */
const RESERVED = new Set(["canary", "platform", "all"]);
const TENANT_ID = /^[a-z](?:[a-z0-9]|-(?=[a-z0-9])){1,30}$/;

/** What is wrong with `text` as a tenant id, or undefined if nothing is. */
export function tenantIdProblem(text: string): string | undefined {
  if (!TENANT_ID.test(text)) {
    return `'${text}' is not a tenant id: 2 to 31 lower-case letters, digits and single hyphens, a letter first`;
  }
  return RESERVED.has(text) ? `'${text}' is reserved and can't be a tenant's id` : undefined;
}

/** Parses a tenant id; throws an Error that says what is wrong with it. */
export function tenantId(text: string): TenantId {
  const problem = tenantIdProblem(text);
  if (problem !== undefined) throw new Error(problem);
  return text as TenantId;
}

const DOMAIN = /^(?=.{4,190}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$/;

/** What is wrong with `text` as a mail domain, or undefined if nothing is. Lower case, at least one dot. */
export function domainProblem(text: string): string | undefined {
  return DOMAIN.test(text)
    ? undefined
    : `'${text}' is not a domain such as acme.example (lower case, no dot at the end)`;
}

// Pulumi stacks.
export const PLATFORM_STACK = "platform";
export const tenantStack = (tenant: TenantId): string => `tenant-${tenant}`;
/** The tenant that a stack's name stands for; undefined for every other stack. */
export function tenantOfStack(stack: string): TenantId | undefined {
  const id = stack.startsWith("tenant-") ? stack.slice("tenant-".length) : "";
  return tenantIdProblem(id) === undefined ? (id as TenantId) : undefined;
}

// Vault.
export const KV_MOUNT = "smtp";
export const TRANSIT_MOUNT = "smtp-transit";
export const CANARY = "canary";
/** Records kept for a tenant under the KV mount: `smtp/{tenant}/{record}`. */
export const RECORDS = ["admin", "server", "mailu", "dkim", "tls", "rotation"] as const;
export type RecordName = (typeof RECORDS)[number];
export const recordPath = (tenant: TenantId | typeof CANARY, record: RecordName): string =>
  `${KV_MOUNT}/data/${tenant}/${record}`;
export const metadataPath = (tenant: TenantId | typeof CANARY, record: RecordName): string =>
  `${KV_MOUNT}/metadata/${tenant}/${record}`;
export const transitKey = (tenant: TenantId): string => tenant;
export const tenantPolicy = (tenant: TenantId): string => `tenant-${tenant}`;

// Mail names.
export const mailHost = (domain: string): string => `mail.${domain}`;
export const adminAddress = (domain: string): string => `admin@${domain}`;
export const webmailUrl = (domain: string): string => `https://${mailHost(domain)}/webmail`;
/**
 * The API is addressed by the host's address and not by its name: right after a rebuild DNS still names
 * the dead host, and two tenants on one Mailu show up as one URL. TLS is checked against `mailHost`.
 */
export const apiUrl = (address: string): string => `https://${address}/api/v1`;
export const SMTP_PORT = 465;
export const IMAP_PORT = 993;
export const DKIM_SELECTOR = "dkim";

// On the mail host. MAILU_DATA is a volume of its own where the provider has volumes; the rest is rebuilt.
export const MAILU_HOME = "/opt/mailu";
export const COMPOSE_FILE = `${MAILU_HOME}/docker-compose.yml`;
export const MAILU_ENV_FILE = `${MAILU_HOME}/mailu.env`;
export const SECRETS_DIR = `${MAILU_HOME}/secrets`;
export const API_TOKEN_FILE = `${SECRETS_DIR}/api_token`;
export const SECRET_KEY_FILE = `${SECRETS_DIR}/secret_key`;
export const MAILU_DATA = "/mailu";
export const dkimKeyFile = (domain: string): string => `${MAILU_DATA}/dkim/${domain}.${DKIM_SELECTOR}.key`;
export const CERTIFICATE_FILE = `${MAILU_DATA}/certs/cert.pem`;
export const CERTIFICATE_KEY_FILE = `${MAILU_DATA}/certs/key.pem`;

// Buckets and keys of the platform stack.
export const BACKUP_BUCKET = "penguinmails-vault-backups";
export const AUDIT_BUCKET = "penguinmails-audit";
export const BACKUP_KEY_ALIAS = "alias/penguinmails-backup-wrapping";
export const BUCKET_KEY_ALIAS = "alias/penguinmails-bucket";

// Backups: a folder for each day (UTC) in the backup bucket, `backups/2026-02-28/…`.
export const BACKUPS = "backups/";
/** A day as backups are named by, already checked: one that the calendar has. */
export type BackupDay = string & { readonly __backupDay: never };
export const SNAPSHOT = "vault-snapshot.enc";
export const MANIFEST = "manifest.json";
/** Marks beside a backup: `opened-20260228T020304Z.json`. */
export const MARKS = ["opened", "restored"] as const;
export type Mark = (typeof MARKS)[number];
export const backupKey = (day: BackupDay, object: string): string => `${BACKUPS}${day}/${object}`;
export const markName = (mark: Mark, at: Date): string =>
  `${mark}-${at.toISOString().replaceAll(/[-:]|\.\d+/g, "")}.json`;

/** The day that `text` names; undefined for anything else, 2026-02-30 too. */
export function backupDay(text: string): BackupDay | undefined {
  if (!/^\d{4}-\d\d-\d\d$/.test(text)) return undefined;
  const at = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(at.getTime()) && at.toISOString().startsWith(text) ? (text as BackupDay) : undefined;
}

export const dayOf = (at: Date): BackupDay => at.toISOString().slice(0, 10) as BackupDay;

/** What an object of the bucket is to the backups; undefined for everything foreign. */
export function backupObject(
  key: string,
): { day: BackupDay; kind: "snapshot" | "manifest" | Mark } | undefined {
  const [, folder = "", object = ""] = /^backups\/([^/]+)\/([^/]+)$/.exec(key) ?? [];
  const day = backupDay(folder);
  if (day === undefined) return undefined;
  if (object === SNAPSHOT) return { day, kind: "snapshot" };
  if (object === MANIFEST) return { day, kind: "manifest" };
  const mark = MARKS.find((one) => new RegExp(`^${one}-\\d{8}T\\d{6}Z\\.json$`).test(object));
  return mark === undefined ? undefined : { day, kind: mark };
}

/** Vault roles, which are policies of the same name. `tenant-{id}` comes from `tenantPolicy`. */
export const ROLES = [
  "platform-admin",
  "incident-responder",
  "tenant-deployer",
  "stack-operator",
  "vault-restorer",
  "backup-operator",
  "key-shredder",
  "drift-reader",
  "credential-prober",
] as const;
export type Role = (typeof ROLES)[number];

/** The Pulumi project; its stacks' configuration keys start with it. */
export const PROJECT = "penguinmails-credential-recovery";
export type VpsProvider = "ec2" | "existing";
/**
 * The resource whose replacement (`pulumi up --replace URN`) rebuilds a tenant's host and everything on it.
 * With `existing` there is no machine to make anew: it stands for the host's identity.
 */
export const vpsUrn = (tenant: TenantId, provider: VpsProvider): string =>
  `urn:pulumi:${tenantStack(tenant)}::${PROJECT}::penguinmails:tenant:Vps$${
    provider === "ec2" ? "aws:ec2/instance:Instance" : "command:local:Command"
  }::vps`;

/** Writes Mailu's files anew when it is replaced: the engine itself never looks into a host. */
export const filesUrn = (tenant: TenantId): string =>
  `urn:pulumi:${tenantStack(tenant)}::${PROJECT}::penguinmails:tenant:MailuFiles$command:remote:Command::files`;
/** Brings credentials and DKIM key from Vault to the host, and the key into DNS, when it is replaced. */
export const credentialsUrn = (tenant: TenantId): string =>
  `urn:pulumi:${tenantStack(tenant)}::${PROJECT}::penguinmails:tenant:Credentials$command:local:Command::credentials`;
