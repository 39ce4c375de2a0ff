// recovery.yaml and the few standard variables: read once at the edge, wrong nowhere else. No secret is in the file.
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseDocument } from "yaml";
import { z } from "zod";
import { type Backup, BackupSection, backupOf } from "./backup-settings.ts";
import { type Dns, DnsSection, dnsOf } from "./dns-settings.ts";
import { messageOf, RunbookError } from "./errors.ts";
import { type Notify, NotifySection, notifyOf } from "./notify-settings.ts";
import { registerSecret } from "./redact.ts";
import { settingsProblems } from "./settings-problems.ts";

/** Of a server; without a slash at its end. */
export const serviceUrl = z
  .string()
  .refine(isServiceUrl, { error: "takes a URL such as https://vault.example:8200, without a password in it" })
  .transform((text) => text.replace(/\/+$/, ""));
const text = z.string().min(1, { error: "takes a text that isn't empty" });

const File = z.strictObject({
  vault: z.strictObject({ addr: serviceUrl }),
  audit: z.strictObject({ log: text.optional(), bucket: text.optional() }).default({}),
  ssh: z
    .strictObject({ user: text.default("root"), identity_file: text.optional() })
    .default({ user: "root" }),
  pulumi: z.strictObject({ project_dir: text.optional() }).default({}),
  notify: NotifySection.optional(),
  backup: BackupSection.default({ recovery_public_keys: [] }),
  drills: text.optional(),
  dns: DnsSection.default({}),
});

/** Every path is absolute. */
export interface Settings {
  /** The file that was read. */
  file: string;
  /** The one Vault that these settings belong to; no slash at its end. */
  vault: { addr: string };
  audit: { log: string; bucket: string | undefined };
  ssh: { user: string; identity_file: string | undefined };
  pulumi: { project_dir: string };
  /** Who is told of incidents; undefined: nobody. */
  notify: Notify | undefined;
  backup: Backup;
  /** The folder where reports of drills are kept. */
  drills: string;
  dns: Dns;
}

/**
 * Reads `RECOVERY_CONFIG`, or else recovery.yaml in the working directory.
 * @throws RunbookError (exit 2) naming each wrong key, what it got and what it takes.
 */
export function loadSettings(env: NodeJS.ProcessEnv = process.env): Settings {
  const file = resolve(env.RECOVERY_CONFIG || "recovery.yaml");
  const content = parseYaml(file, readText(file)) ?? {};
  const checked = File.safeParse(content);
  if (!checked.success) throw bad(file, settingsProblems(File, checked.error, content).join("; "));
  const { vault, audit, ssh, pulumi, notify, backup, drills, dns } = checked.data;
  const path = (text: string) =>
    text.startsWith("~/") ? join(homedir(), text.slice(2)) : resolve(dirname(file), text);
  return {
    file,
    vault,
    audit: { log: audit.log === undefined ? defaultLog(env) : path(audit.log), bucket: audit.bucket },
    ssh: {
      user: ssh.user,
      identity_file: ssh.identity_file === undefined ? undefined : path(ssh.identity_file),
    },
    pulumi: { project_dir: pulumi.project_dir === undefined ? REPOSITORY : path(pulumi.project_dir) },
    notify: notify === undefined ? undefined : notifyOf(notify, path),
    backup: backupOf(backup, path),
    drills: drills === undefined ? drillsFolder(env) : path(drills),
    dns: dnsOf(dns),
  };
}

const Environment = z.object({
  VAULT_ADDR: serviceUrl.optional(),
  VAULT_TOKEN: text.optional(),
  VAULT_ROLE_ID: text.optional(),
  VAULT_SECRET_ID: text.optional(),
  VAULT_CACERT: text.optional(),
  VAULT_NAMESPACE: text.optional(),
});

export interface VaultEnvironment {
  /** VAULT_ADDR, no slash at its end; undefined means: the settings' own. */
  addr: string | undefined;
  /** VAULT_TOKEN goes before an AppRole, as with Vault's own command line. */
  login: { token: string } | { roleId: string; secretId: string };
  /** A file with the PEM certificates to trust. */
  caCert: string | undefined;
  namespace: string | undefined;
}

/**
 * The standard variables; an empty one counts as unset. The token and the secret id are registered as secrets.
 * @throws RunbookError (exit 2) when a variable is malformed, or neither a token nor an AppRole is there.
 */
export function vaultEnvironment(env: NodeJS.ProcessEnv): VaultEnvironment {
  const { VAULT_TOKEN, VAULT_ROLE_ID, VAULT_SECRET_ID, ...place } = checkedEnvironment(env);
  const rest = placeOf(place);
  if (VAULT_TOKEN !== undefined) return { ...rest, login: { token: VAULT_TOKEN } };
  if (VAULT_ROLE_ID !== undefined && VAULT_SECRET_ID !== undefined) {
    return { ...rest, login: { roleId: VAULT_ROLE_ID, secretId: VAULT_SECRET_ID } };
  }
  throw new RunbookError(
    "no login for Vault: neither VAULT_TOKEN nor VAULT_ROLE_ID and VAULT_SECRET_ID are set",
    {
      exit: "usage",
      next: "export VAULT_TOKEN=$(vault login -token-only -method=oidc), or set the AppRole's two variables",
    },
  );
}

/** The same for a Vault that may be lost: nobody can have a login for it. @throws RunbookError (exit 2). */
export function vaultPlace(env: NodeJS.ProcessEnv): Omit<VaultEnvironment, "login"> & { hasLogin: boolean } {
  const given = checkedEnvironment(env);
  const { VAULT_TOKEN, VAULT_ROLE_ID, VAULT_SECRET_ID } = given;
  const hasAppRole = VAULT_ROLE_ID !== undefined && VAULT_SECRET_ID !== undefined;
  return { ...placeOf(given), hasLogin: VAULT_TOKEN !== undefined || hasAppRole };
}

type Given = z.output<typeof Environment>;

const placeOf = ({ VAULT_ADDR, VAULT_CACERT, VAULT_NAMESPACE }: Given) => ({
  addr: VAULT_ADDR,
  caCert: VAULT_CACERT,
  namespace: VAULT_NAMESPACE,
});

function checkedEnvironment(env: NodeJS.ProcessEnv): Given {
  const given = Object.keys(Environment.shape).flatMap((key) => (env[key] ? [[key, env[key]]] : []));
  const checked = Environment.safeParse(Object.fromEntries(given));
  if (!checked.success) {
    const problems = checked.error.issues.map((issue) => `${issue.path.join(".")} ${issue.message}`);
    throw new RunbookError(problems.join("; "), {
      exit: "usage",
      next: "correct the variable and export it again",
    });
  }
  const { VAULT_TOKEN, VAULT_SECRET_ID } = checked.data;
  for (const secret of [VAULT_TOKEN, VAULT_SECRET_ID]) if (secret !== undefined) registerSecret(secret);
  return checked.data;
}

/**
 * A lab's or a throwaway's Vault must never drive a production mail server, nor the other way round.
 * @throws RunbookError (exit 4) when `addr` is another Vault than the one that the settings belong to.
 */
export function assertOwnVault(settings: Settings, addr: string): void {
  if (new URL(addr).href.replace(/\/+$/, "") === new URL(settings.vault.addr).href.replace(/\/+$/, ""))
    return;
  throw new RunbookError(
    `VAULT_ADDR is ${addr}, but ${settings.file} belongs to ${settings.vault.addr}: nothing is written with one Vault's credentials to another's hosts`,
    { exit: "refused", next: "unset VAULT_ADDR, or set RECOVERY_CONFIG to the settings of that Vault" },
  );
}

const REPOSITORY = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

function isServiceUrl(text: string): boolean {
  const parsed = URL.parse(text);
  return (
    parsed !== null && /^https?:$/.test(parsed.protocol) && parsed.username === "" && parsed.password === ""
  );
}

/** Where this machine keeps what is neither settings nor cache. */
const stateFolder = (env: NodeJS.ProcessEnv): string =>
  join(env.XDG_STATE_HOME || join(homedir(), ".local", "state"), "penguinmails-recovery");

/** Where drills leave their reports unless told otherwise. */
export const drillsFolder = (env: NodeJS.ProcessEnv): string => join(stateFolder(env), "drills");

const defaultLog = (env: NodeJS.ProcessEnv): string => join(stateFolder(env), "audit.jsonl");

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    const absent = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    throw new RunbookError(
      absent ? `there are no settings: ${file} doesn't exist` : `settings: ${messageOf(cause)}`,
      {
        exit: "usage",
        next: "set RECOVERY_CONFIG to your recovery.yaml, or write one with `vault: {addr: https://…}`",
        cause,
      },
    );
  }
}

/** The parser's own message quotes the line; a line of a settings file may hold what doesn't belong there. */
function parseYaml(file: string, text: string): unknown {
  const document = parseDocument(text, { prettyErrors: true });
  const error = document.errors[0];
  if (error === undefined) return document.toJS() as unknown;
  throw bad(file, `line ${error.linePos?.[0].line ?? "?"} is not YAML (${error.code})`);
}

function bad(file: string, problem: string): RunbookError {
  return new RunbookError(`${file}: ${problem}`, {
    exit: "usage",
    next: `correct ${file} and run the same command again`,
  });
}
