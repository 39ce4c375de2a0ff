// Who runs a lab may have VAULT_ADDR and AWS keys of production in his shell. None of it may reach what lab and
// drill start, and `lab -- env` clears it before it sets the lab's own.

import { delimiter, join } from "node:path";
import { assertLoopback } from "./subnet.ts";

const FOREIGN =
  /^(?:VAULT_|AWS_|PULUMI_|RECOVERY_CONFIG$|LAB_(?:(?:ROOT|SHREDDER|RESTORER)_TOKEN|(?:SYSTEM|BACKUP)_(?:ROLE_ID|SECRET_ID))$)/;

/** The names in `env` that point at somebody's Vault, cloud account, state or settings. */
export const foreignNames = (env: NodeJS.ProcessEnv): string[] =>
  Object.keys(env).filter((name) => FOREIGN.test(name));

/** `env` without anything foreign. */
export function withoutForeign(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !FOREIGN.test(name)));
}

/** Where a lab's parts are; all that its environment is made of. */
export interface Place {
  /** The lab's folder, absolute. */
  dir: string;
  /** The repository, absolute. */
  repo: string;
  /** The folder with pulumi, vault and moto-python. */
  toolchain: string;
  vaultAddr: string;
  awsEndpoint: string;
}

/** Who may log in to a lab's Vault; what isn't there yet is left out or empty. */
export interface Identities {
  operator?: string;
  root?: string;
  shredder?: string;
  restorer?: string;
  systemRoleId?: string;
  systemSecretId?: string;
  backupRoleId?: string;
  backupSecretId?: string;
}

/** The variables with which runbooks, `pulumi` and `vault` work on a lab. Throws on an endpoint off the loopback. */
export function labVariables(place: Place, identities: Identities): Record<string, string> {
  assertLoopback("VAULT_ADDR", place.vaultAddr);
  assertLoopback("AWS_ENDPOINT_URL", place.awsEndpoint);
  const others = Object.fromEntries(
    [
      ["LAB_ROOT_TOKEN", identities.root],
      ["LAB_SHREDDER_TOKEN", identities.shredder],
      ["LAB_RESTORER_TOKEN", identities.restorer],
      ["LAB_SYSTEM_ROLE_ID", identities.systemRoleId],
      ["LAB_SYSTEM_SECRET_ID", identities.systemSecretId],
      ["LAB_BACKUP_ROLE_ID", identities.backupRoleId],
      ["LAB_BACKUP_SECRET_ID", identities.backupSecretId],
    ].filter((entry): entry is [string, string] => Boolean(entry[1])),
  );
  return {
    VAULT_ADDR: place.vaultAddr,
    VAULT_TOKEN: identities.operator ?? "",
    ...others,
    AWS_ENDPOINT_URL: place.awsEndpoint,
    AWS_REGION: "us-east-1",
    AWS_DEFAULT_REGION: "us-east-1",
    AWS_ACCESS_KEY_ID: "lab",
    AWS_SECRET_ACCESS_KEY: "lab",
    // Profiles, role files and the metadata service of the machine would win over some of the above.
    AWS_CONFIG_FILE: "/dev/null",
    AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
    AWS_EC2_METADATA_DISABLED: "true",
    PULUMI_HOME: join(place.dir, "pulumi-home"),
    // Without `skip` the engine keeps a second file beside each state, and one that is killed while it writes that leaves
    // it empty: then no command reads the state any more ("failed to load checkpoint: EOF"). No other backend has it.
    PULUMI_BACKEND_URL: `file://${join(place.dir, "state")}?metadata=skip`,
    PULUMI_CONFIG_PASSPHRASE_FILE: join(place.dir, "passphrase"),
    // So that `pulumi up -s tenant-acme` works from any folder, with the lab's own stack configuration.
    PULUMI_OPTION_CWD: join(place.dir, "project"),
    PULUMI_SKIP_UPDATE_CHECK: "true",
    PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
    RECOVERY_CONFIG: join(place.dir, "recovery.yaml"),
    SSH_AUTH_SOCK: join(place.dir, "agent.sock"),
  };
}

/** The lab's own folder holds `runbook`, so that it can be called from anywhere, without npx. */
const pathEntries = (place: Place): string[] => [
  join(place.dir, "bin"),
  join(place.repo, "node_modules", ".bin"),
  place.toolchain,
];

/** A whole environment for a process of the lab: what was inherited, less the foreign, plus the lab's own. */
export function labEnvironment(place: Place, variables: Record<string, string>): NodeJS.ProcessEnv {
  const inherited = withoutForeign(process.env);
  const path = [...pathEntries(place), inherited.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin"].join(delimiter);
  return { ...inherited, ...variables, PATH: path };
}

/** Shell lines for `eval`: clears what is foreign in `inherited`, then exports the lab's. */
export function shellExports(
  place: Place,
  variables: Record<string, string>,
  inherited: NodeJS.ProcessEnv,
): string {
  const foreign = foreignNames(inherited).filter((name) => !(name in variables));
  const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
  return [
    ...(foreign.length > 0 ? [`unset ${foreign.join(" ")}`] : []),
    ...Object.entries(variables).map(([name, value]) => `export ${name}=${quote(value)}`),
    `export PATH=${quote(pathEntries(place).join(delimiter))}:"$PATH"`,
  ].join("\n");
}
