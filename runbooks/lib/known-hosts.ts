// The key by which the operator's own ssh knows a host: for whoever has no record of it at hand.
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { $ } from "zx/core";

/** Best first; the kinds that a mail host of ours can have. */
const KINDS = ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "ssh-rsa"];

/** The key line `ssh-ed25519 AAAA…` that known_hosts has for an address; undefined where it has none. */
export async function knownHostKey(address: string): Promise<string | undefined> {
  const files = [join(homedir(), ".ssh", "known_hosts"), "/etc/ssh/ssh_known_hosts"].filter(existsSync);
  const found: string[] = [];
  for (const file of files) {
    // It knows hashed names too. Its exit code says whether there was one.
    const { stdout } = await $({ quiet: true, nothrow: true })`ssh-keygen -F ${address} -f ${file}`;
    found.push(...stdout.split("\n").filter((line) => line !== "" && !line.startsWith("#")));
  }
  const revoked = found.filter((line) => line.startsWith("@revoked ")).map((line) => line.split(/\s+/)[3]);
  const keys = found
    .filter((line) => !line.startsWith("@"))
    .map((line) => line.split(/\s+/))
    .filter(([, kind = "", key]) => KINDS.includes(kind) && !revoked.includes(key))
    .sort(([, one = ""], [, other = ""]) => KINDS.indexOf(one) - KINDS.indexOf(other));
  const [, kind, key] = keys[0] ?? [];
  return key === undefined ? undefined : `${kind} ${key}`;
}
