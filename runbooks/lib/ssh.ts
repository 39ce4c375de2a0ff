// Commands on a mail host, by the OpenSSH client, with the host's key pinned. Secrets travel by standard
// input only: arguments can be read by everyone on either machine.
import { setImmediate } from "node:timers/promises";
import { $ } from "zx/core";
import { RunbookError } from "./errors.ts";
import { turnstile } from "./parallel.ts";
import type { Settings } from "./settings.ts";

/** A mail host as ssh needs it. */
export interface HostAddress {
  /** IPv4 address. */
  readonly address: string;
  /** OpenSSH public key line (`ssh-ed25519 AAAA…`); nothing else is accepted as this host. */
  readonly hostKey: string;
}

/** Seconds until an unanswered connection counts as failed; a hung host accepts TCP and stays silent. */
const CONNECT_SECONDS = 10;

/**
 * To start a program holds up everything else for up to a tenth of a second: of many, one a turn, so that what looks
 * at the time between two answers isn't kept from them for seconds.
 */
const starting = turnstile(1);

/**
 * Runs a shell command on the host and returns its standard output.
 * @param options.stdin sent to the command; @param options.timeoutSeconds 60 unless told otherwise;
 * @param options.nothingSecret neither command nor answer is worth keeping for whoever records it.
 * @throws RunbookError refused (4) for another host key, failed (1) for everything else.
 */
export async function onHost(
  settings: Settings,
  host: HostAddress,
  command: string,
  options: { stdin?: string; timeoutSeconds?: number; nothingSecret?: boolean } = {},
): Promise<string> {
  const seconds = options.timeoutSeconds ?? 60;
  const args = [...sshArguments(settings, host), ...(options.nothingSecret ? QUICK : [])];
  await starting(() => setImmediate());
  // Detached from the terminal's process group: Ctrl-C lets a running step finish.
  const result = await $({
    input: options.stdin ?? "",
    quiet: true,
    nothrow: true,
    detached: true,
    timeout: `${seconds}s`,
    verbose: false,
  })`ssh ${args} ${host.address} ${command}`;
  if (result.exitCode === 0) return result.stdout;
  const said = result.stderr.trim().split("\n").slice(-4).join(" ").trim();
  if (
    said.includes("Host key verification failed") ||
    said.includes("REMOTE HOST IDENTIFICATION HAS CHANGED")
  ) {
    throw new RunbookError(
      `${host.address} shows another SSH host key than the one pinned (${host.hostKey.slice(0, 40)}…)`,
      {
        exit: "refused",
        next: `find out why before anything else: ssh-keyscan -t ed25519 ${host.address}   # a rebuilt host gets its new key pinned by 'pulumi up' of its stack`,
      },
    );
  }
  const how =
    result.exitCode === null ? `no answer within ${seconds} s` : said || `exit code ${result.exitCode}`;
  const unreachable = result.exitCode === 255 || result.exitCode === null;
  throw new RunbookError(
    unreachable
      ? `ssh to ${settings.ssh.user}@${host.address} failed: ${how}`
      : `A command on ${host.address} failed: ${how}`,
    {
      exit: "failed",
      next: unreachable
        ? `ssh ${settings.ssh.user}@${host.address} true   # host down? 'npx runbook replace-vps --help'; key refused? check ssh.identity_file in recovery.yaml`
        : `ssh ${settings.ssh.user}@${host.address}   # mend what it says, then run this again`,
    },
  );
}

/**
 * The key exchange that withstands a quantum computer of later years takes OpenSSH 9's client a tenth of a second of a
 * processor: of a hundred hosts, ten seconds. Where a server hasn't this one, another of the usual ones is used.
 */
const QUICK = ["-o", "KexAlgorithms=^curve25519-sha256"];

/** The arguments that pin the host key and forbid every question. */
function sshArguments(settings: Settings, host: HostAddress): string[] {
  return [
    "-o",
    "BatchMode=yes",
    "-o",
    "StrictHostKeyChecking=yes",
    // The pin comes from a command instead of a file: nothing to clean up, and no other file is believed.
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "GlobalKnownHostsFile=/dev/null",
    "-o",
    `KnownHostsCommand=/bin/echo ${host.address} ${host.hostKey}`,
    "-o",
    `HostKeyAlgorithms=${host.hostKey.split(" ")[0]}`,
    "-o",
    `ConnectTimeout=${CONNECT_SECONDS}`,
    "-o",
    "ServerAliveInterval=5",
    "-o",
    "ServerAliveCountMax=3",
    "-o",
    "LogLevel=ERROR",
    "-l",
    settings.ssh.user,
    ...(settings.ssh.identity_file === undefined
      ? []
      : ["-i", settings.ssh.identity_file, "-o", "IdentitiesOnly=yes"]),
  ];
}
