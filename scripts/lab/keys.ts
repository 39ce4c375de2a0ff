// What a real operator keeps elsewhere: the ssh key pair in its agent, and the offline recovery key.

import type { ChildProcess } from "node:child_process";
import { generateKeyPair } from "node:crypto";
import { access, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { run, startService } from "./children.ts";

export interface LabSsh {
  /** One line, as in authorized_keys. */
  publicKey: string;
  agent: ChildProcess;
}

/** Makes the lab's ssh key pair (`id_ed25519`) and an agent (`agent.sock`) that holds it. */
export async function startSsh(dir: string, env: NodeJS.ProcessEnv): Promise<LabSsh> {
  const identity = join(dir, "id_ed25519");
  const socket = join(dir, "agent.sock");
  const agent = startService("ssh-agent", ["-D", "-a", socket], {
    env,
    lab: dir,
    log: join(dir, "logs", "ssh-agent.log"),
  });
  await must(dir, env, "ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", identity]);
  for (let tries = 0; tries < 200 && !(await exists(socket)); tries++) await sleep(10);
  await must(dir, { ...env, SSH_AUTH_SOCK: socket }, "ssh-add", ["-q", identity]);
  return { publicKey: (await readFile(`${identity}.pub`, "utf8")).trim(), agent };
}

/** Makes the offline recovery key: `offline-recovery.pem` (private) and `offline-recovery.pub.pem`. */
export async function makeOfflineKey(dir: string): Promise<void> {
  const pair = await promisify(generateKeyPair)("rsa", {
    modulusLength: 4096,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
  await writeFile(join(dir, "offline-recovery.pub.pem"), pair.publicKey);
  await writeFile(join(dir, "offline-recovery.pem"), pair.privateKey, { mode: 0o600 });
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

async function must(lab: string, env: NodeJS.ProcessEnv, command: string, args: string[]): Promise<void> {
  const done = await run(command, args, { env, lab });
  if (done.code !== 0) throw new Error(`${command} failed (${done.code}): ${done.stderr.trim()}`);
}
