// Who may log in to a lab's Vault: people by tokens, automation by AppRoles, each kept in the lab's folder. A restored
// Vault knows none of them any more, so all of them can be had anew.

import { openLab, writeSecret } from "./place.ts";
import { appRole, newRootToken, personToken } from "./vault.ts";

interface Root {
  addr: string;
  rootToken: string;
}

/**
 * Tokens of people: one with just the three roles that day-to-day work takes, so that a missing right shows, one who
 * may destroy keys and nothing else, and one who may restore and nothing else.
 */
export async function writePeople(dir: string, vault: Root): Promise<void> {
  const [operator, shredder, restorer] = await Promise.all([
    personToken(vault, "operator", ["platform-admin", "stack-operator", "tenant-deployer"]),
    personToken(vault, "shredder", ["key-shredder"]),
    personToken(vault, "restorer", ["vault-restorer"]),
  ]);
  await writeSecret(dir, "operator-token", operator);
  await writeSecret(dir, "shredder-token", shredder);
  await writeSecret(dir, "restorer-token", restorer);
}

/** What an operator gives to automation: the AppRoles' two halves. */
export async function writeAppRoles(dir: string, vault: Root): Promise<void> {
  for (const [role, name] of [
    ["system", "system"],
    ["backup-operator", "backup"],
  ] as const) {
    const { roleId, secretId } = await appRole(vault, role);
    await writeSecret(dir, `${name}-role-id`, roleId);
    await writeSecret(dir, `${name}-secret-id`, secretId);
  }
}

/** New tokens and secret ids for everybody, by the key shares: what a restore asks people to do after it. */
export async function renewLogins(dir: string): Promise<void> {
  const { place } = await openLab(dir);
  const vault = { addr: place.vaultAddr, rootToken: await newRootToken(dir, place.vaultAddr) };
  await writePeople(dir, vault);
  await writeAppRoles(dir, vault);
}
