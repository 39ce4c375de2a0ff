// Runs a script over ssh as the official plugin does: no configuration file of the operator's, keys from the
// agent, and the host key checked only if it's given.
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { needed, number, text } from "../protocol/props.ts";
import type { Context } from "../protocol/resource.ts";
import type { Props } from "../protocol/values.ts";
import { type Outcome, type Run, run } from "./run.ts";

/** OpenSSH's exit code for its own failures; a script may end with it too. */
const SSH_FAILED = 255;

/** Fields of `connection` that the lab's provider doesn't know how to honour. */
export const UNSUPPORTED: readonly string[] = ["password", "privateKeyPassword", "proxy"];

/**
 * Runs `script` on the host of `connection`. Connecting is tried again while it fails, `dialErrorLimit`
 * times (10; -1 for ever) with `perDialTimeout` seconds each (15); a script that has begun never is.
 */
export async function overSsh(
  connection: Props,
  script: string,
  input: { stdin?: string; show: Run["show"] },
  context: Context,
): Promise<Outcome> {
  await using agent = await agentFor(connection);
  const limit = number(connection, "dialErrorLimit") ?? 10;
  for (let failures = 1; ; failures++) {
    const begun = `connected-${randomUUID()}`;
    const outcome = await run(
      {
        program: "ssh",
        args: [...options(connection, begun), "--", needed(connection, "host"), script],
        env: { ...process.env, ...(agent.socket ? { SSH_AUTH_SOCK: agent.socket } : {}) },
        ...input,
        show: input.show,
      },
      { ...context, status: (line) => line.includes(begun) || context.status(line) },
    );
    if (outcome.stderr.includes(begun)) return without(outcome, `${begun}\n`);
    const reason = reasonOf(outcome);
    // Waiting doesn't change a host's key.
    const hopeless = reason === OTHER_KEY;
    if (outcome.code !== SSH_FAILED || hopeless || (limit >= 0 && failures > limit)) {
      const attempts = failures === 1 ? "" : ` (${failures} attempts)`;
      throw new Error(`could not connect to ${needed(connection, "host")} over ssh${attempts}: ${reason}`);
    }
    await sleep(Math.min(100 * 1.5 ** failures, 5_000), undefined, { signal: context.signal });
  }
}

const OTHER_KEY = "the host shows another key than connection.hostKey";

function reasonOf({ stderr, code, signal }: Outcome): string {
  if (stderr.includes("Host key verification failed")) return OTHER_KEY;
  return stderr.trim() || `ssh ended with ${code ?? signal}`;
}

function options(connection: Props, begun: string): string[] {
  const hostKey = text(connection, "hostKey");
  const settings = {
    BatchMode: "yes",
    ConnectTimeout: number(connection, "perDialTimeout") ?? 15,
    Port: number(connection, "port") ?? 22,
    User: text(connection, "user") ?? "root",
    LogLevel: "ERROR",
    UserKnownHostsFile: "/dev/null",
    GlobalKnownHostsFile: "/dev/null",
    // Says on standard error that the connection stands, which is how a failed connection is told from a
    // script that failed with the same code.
    PermitLocalCommand: "yes",
    LocalCommand: `echo ${begun} >&2`,
    ...(hostKey === undefined
      ? { StrictHostKeyChecking: "no" }
      : {
          StrictHostKeyChecking: "yes",
          KnownHostsCommand: `/bin/echo %H ${keyOnly(hostKey)}`,
        }),
  };
  return [
    "-F",
    "/dev/null",
    ...Object.entries(settings).flatMap(([key, value]) => ["-o", `${key}=${value}`]),
  ];
}

/** Type and key of a public key line, without its comment. Throws if it isn't one. */
function keyOnly(line: string): string {
  const [key] = /^[a-z0-9@.-]+ [A-Za-z0-9+/=]+/.exec(line.trim()) ?? [];
  if (key === undefined) throw new Error("'hostKey' must be a public key line such as 'ssh-ed25519 AAAA…'");
  return key;
}

interface Agent extends AsyncDisposable {
  socket: string | undefined;
}

/** The agent to ask: one made for this connection if it brings a key (which never touches a disk), else the operator's. */
async function agentFor(connection: Props): Promise<Agent> {
  const key = text(connection, "privateKey");
  if (key === undefined) {
    return { socket: text(connection, "agentSocketPath"), [Symbol.asyncDispose]: async () => {} };
  }
  const folder = await mkdtemp(join(tmpdir(), "ssh-agent-"));
  const socket = join(folder, "socket");
  const agent = spawn("ssh-agent", ["-D", "-a", socket], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve, reject) => agent.stdout.once("data", resolve).once("end", reject));
  const add = spawn("ssh-add", ["-q", "-"], {
    stdio: ["pipe", "ignore", "pipe"],
    env: { ...process.env, SSH_AUTH_SOCK: socket },
  });
  add.stdin.end(key.endsWith("\n") ? key : `${key}\n`);
  const code = await exit(add);
  const dispose = async () => {
    agent.kill();
    await rm(folder, { recursive: true, force: true });
  };
  if (code !== 0) {
    await dispose();
    throw new Error("'privateKey' is not a private key that ssh-add takes (it must have no passphrase)");
  }
  return { socket, [Symbol.asyncDispose]: dispose };
}

const exit = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => child.on("close", resolve));

const without = (outcome: Outcome, line: string): Outcome => ({
  ...outcome,
  stderr: outcome.stderr.replace(line, ""),
  both: outcome.both.replace(line, ""),
});
