// A running lab as others see it: what `lab -- env` prints, and what tests and the drill are given, is read from its
// folder and from nowhere else.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { REPOSITORY, toolchainBin } from "../toolchain/paths.ts";
import { labEnvironment, labVariables, type Place } from "./environment.ts";

const Description = z.object({ vaultAddr: z.string(), awsEndpoint: z.string(), ready: z.boolean() });

/** A lab that is up. */
export interface OpenLab {
  place: Place;
  rootToken: string;
  /** Of a person who is platform-admin, stack-operator and tenant-deployer. */
  operatorToken: string;
  /** Of a person who is key-shredder and nothing else. */
  shredderToken: string;
  /** Of a person who is vault-restorer and nothing else. */
  restorerToken: string;
  /** What automation logs in with as `system`; empty in a bare lab, where no stack has made the AppRole. */
  systemRoleId: string;
  systemSecretId: string;
  /** The same for `backup-operator`. */
  backupRoleId: string;
  backupSecretId: string;
  /** The lab's own variables. */
  variables: Record<string, string>;
  /** A whole environment with the person's token. */
  env: NodeJS.ProcessEnv;
  /** The same with the root token as VAULT_TOKEN. */
  rootEnv: NodeJS.ProcessEnv;
}

/** Notes in the lab's folder where its servers are. */
export async function describeLab(
  dir: string,
  description: { vaultAddr: string; awsEndpoint: string; ready: boolean },
): Promise<void> {
  await writeFile(join(dir, "lab.json"), `${JSON.stringify(description, undefined, 2)}\n`);
}

/** Whether the lab in `dir` has finished starting. */
export async function isReady(dir: string): Promise<boolean> {
  const text = await readFile(join(dir, "lab.json"), "utf8").catch(() => undefined);
  return text !== undefined && Description.parse(JSON.parse(text)).ready;
}

/** Reads the lab in `dir`. Throws if there is none, or if it isn't far enough to be used. */
export async function openLab(dir: string): Promise<OpenLab> {
  const read = async (name: string): Promise<string> => {
    try {
      return (await readFile(join(dir, name), "utf8")).trim();
    } catch (cause) {
      throw new Error(`No lab is up in ${dir}: run \`npm run lab\``, { cause });
    }
  };
  const { vaultAddr, awsEndpoint } = Description.parse(JSON.parse(await read("lab.json")));
  const place: Place = {
    dir,
    repo: REPOSITORY.replace(/\/$/, ""),
    toolchain: toolchainBin(),
    vaultAddr,
    awsEndpoint,
  };
  const [rootToken, operatorToken] = [await read("root-token"), await read("operator-token")];
  const [shredderToken, restorerToken] = [await read("shredder-token"), await read("restorer-token")];
  const [systemRoleId, systemSecretId, backupRoleId, backupSecretId] = (await Promise.all(
    ["system-role-id", "system-secret-id", "backup-role-id", "backup-secret-id"].map((name) =>
      read(name).catch(() => ""),
    ),
  )) as [string, string, string, string];
  const variables = labVariables(place, {
    operator: operatorToken,
    root: rootToken,
    shredder: shredderToken,
    restorer: restorerToken,
    systemRoleId,
    systemSecretId,
    backupRoleId,
    backupSecretId,
  });
  const env = labEnvironment(place, variables);
  return {
    place,
    rootToken,
    operatorToken,
    shredderToken,
    restorerToken,
    systemRoleId,
    systemSecretId,
    backupRoleId,
    backupSecretId,
    variables,
    env,
    rootEnv: { ...env, VAULT_TOKEN: rootToken },
  };
}

/** Keeps a secret in the lab's folder, for its owner alone. */
export const writeSecret = (dir: string, name: string, value: string): Promise<void> =>
  writeFile(join(dir, name), `${value}\n`, { mode: 0o600 });
