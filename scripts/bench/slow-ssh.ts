// An sshd for many mail hosts: it takes its time, then runs what it was told with programs that know what they are told.
import { once } from "node:events";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { run, startService } from "../lab/children.ts";

/** More addresses one sshd doesn't take. */
export const SSH_ADDRESSES = 10;

export interface SlowSsh {
  /** As in a record of Vault's. */
  readonly hostKey: string;
  /** File with the private key that it lets in. */
  readonly identityFile: string;
  stop(): void;
}

/** Starts it on port 22 of the addresses. It can't outlive this process. */
export async function startSlowSsh(options: {
  /** A folder of its own. */
  dir: string;
  /** The lab's folder, by which the process is found again. */
  lab: string;
  addresses: readonly string[];
  /** Milliseconds before a command begins. */
  latency: number;
  /**
   * Shell scripts by name; without them a docker that knows of nothing. They say the same each time, so that a command
   * is run once for all hosts: in the world each has processors of its own, which would be the measured one's here.
   */
  programs?: Readonly<Record<string, string>>;
  env: NodeJS.ProcessEnv;
}): Promise<SlowSsh> {
  const { dir, lab, addresses, latency, env } = options;
  mkdirSync(join(dir, "bin"), { recursive: true });
  const [hostKey, identityFile] = await Promise.all(
    ["host_key", "id_ed25519"].map((name) => makeKey(join(dir, name), options)),
  );
  for (const [name, script] of Object.entries(options.programs ?? { docker: DOCKER }))
    write(join(dir, "bin", name), script);
  const answer = options.programs === undefined ? RUN : SAY_AGAIN;
  write(join(dir, "answer"), `sleep ${latency / 1000}\nPATH=${dir}/bin:$PATH\n${answer(dir)}`);
  write(join(dir, "authorized_keys"), readFileSync(`${identityFile}.pub`, "utf8"));
  write(join(dir, "sshd_config"), configuration(dir, addresses));
  // Its privilege separation needs a folder in /run, which is of its own here. A plain shell, and none that begins with
  // what this machine's people want of theirs; with -r it doesn't start itself anew for each connection.
  const shell = readFileSync("/etc/passwd", "utf8").replace(/^(root:.*:)[^:]*$/m, "$1/bin/sh");
  writeFileSync(join(dir, "passwd"), shell);
  const start = [
    "mount -t tmpfs bench-run /run",
    "mkdir /run/sshd",
    `mount --bind ${dir}/passwd /etc/passwd`,
    `exec /usr/sbin/sshd -D -r -e -f ${dir}/sshd_config`,
  ].join(" && ");
  const child = startService("unshare", ["--mount", "sh", "-c", start], { env, lab, log: join(dir, "log") });
  await answering(addresses.at(-1) ?? "", () => child.exitCode === null);
  return {
    hostKey: readFileSync(`${hostKey}.pub`, "utf8").split(" ").slice(0, 2).join(" "),
    identityFile: identityFile ?? "",
    stop: () => void child.kill("SIGTERM"),
  };
}

const RUN = () => 'exec sh -c "$SSH_ORIGINAL_COMMAND"\n';
/** Tenants' names, and with them commands about the same, are all as long as each other. */
const SAY_AGAIN = (dir: string) => `said=${dir}/said-\${#SSH_ORIGINAL_COMMAND}
[ -e "$said" ] || { sh -c "$SSH_ORIGINAL_COMMAND" >"$said.$$" && mv "$said.$$" "$said"; } || exit
exec /bin/cat "$said"
`;

/** No connections, no users: what a host says of which nothing is to be told. */
const DOCKER = `#!/bin/sh
case "$*" in *config-export*) echo '{"user": []}' ;; esac
`;

const configuration = (dir: string, addresses: readonly string[]): string => `Port 22
${addresses.map((address) => `ListenAddress ${address}`).join("\n")}
HostKey ${dir}/host_key
AuthorizedKeysFile ${dir}/authorized_keys
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
MaxStartups 1000
PidFile none
LogLevel ERROR
ForceCommand sh ${dir}/answer
`;

async function makeKey(file: string, { env, lab }: { env: NodeJS.ProcessEnv; lab: string }): Promise<string> {
  const made = await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file], { env, lab });
  if (made.code !== 0) throw new Error(`ssh-keygen: ${made.stderr}`);
  return file;
}

function write(file: string, content: string): void {
  writeFileSync(file, content);
  chmodSync(file, 0o700);
}

async function answering(address: string, lives: () => boolean): Promise<void> {
  const end = performance.now() + 30_000;
  while (performance.now() < end && lives()) {
    const socket = connect(22, address);
    const said = await Promise.race([once(socket, "data").then(() => true), sleep(1_000, false)]).catch(
      () => false,
    );
    socket.destroy();
    if (said) return;
    await sleep(100);
  }
  throw new Error(`sshd doesn't answer at ${address}`);
}
