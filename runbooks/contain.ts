// A password has leaked and Vault can't be asked: the account is shut on its host, by ssh alone, so that nobody can use
// it until a reset gives it a new password. Vault is never spoken to.
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { messageOf, RunbookError } from "./lib/errors.ts";
import { administratorOf, findHost } from "./lib/find-host.ts";
import { domainFlag, incidentFlag, sentenceFlag, tenantFlag } from "./lib/flag-types.ts";
import { usage } from "./lib/flags.ts";
import { accountState, disableAccount, type HostFindings, sweepAccount } from "./lib/host-account.ts";
import { defineRunbook } from "./lib/runbook.ts";
import type { Settings } from "./lib/settings.ts";
import type { HostAddress } from "./lib/ssh.ts";

const flags = z.object({
  tenant: tenantFlag.optional().describe("the tenant's id; its stack says where the host is"),
  host: z.ipv4().optional().describe("the host's IPv4 address, in place of the tenant"),
  domain: domainFlag.optional().describe("mail domain (default: as the stack or the host says)"),
  hostKey: z
    .string()
    .regex(/^(?:ssh|ecdsa)-[\w-]+ [A-Za-z0-9+/]+=*$/, "takes one line such as 'ssh-ed25519 AAAA…'")
    .optional()
    .describe("the host's SSH public key (default: as the stack or your known_hosts says)"),
  incident: incidentFlag,
  reason: sentenceFlag.describe("why, in one line; it is audited"),
});
type Flags = z.output<typeof flags>;

export default defineRunbook({
  name: "contain",
  summary: "shut a tenant's account on its host at once while Vault is down; a reset opens it again",
  example:
    'npx runbook contain --tenant acme --incident INC-2024-001 --reason "Laptop stolen, Vault is down"',
  flags,
  run: async (run) => {
    const { tenant, incident, reason } = run.flags;
    if ((tenant === undefined) === (run.flags.host === undefined))
      throw usage("takes one of --tenant and --host");
    const settings = await run.settings();
    const place = await run.check("find the host and its key", () => findHost(run.flags, settings));
    const { host } = place;
    const username = await run.check(`ask ${host.address} which domain it serves`, () =>
      administratorOf(settings, place),
    );
    const before = await run.check(`look at ${username} on ${host.address}`, () =>
      requireAccount(settings, host, username),
    );
    await run.confirm(
      `Disable ${username} on ${host.address}? Nobody can send or read mail with it until an emergency-reset.`,
    );
    await run.change(`disable ${username}, and see that it is`, () =>
      disableAccount(settings, host, username),
    );
    const outstanding: string[] = [];
    const open = (error: unknown): undefined => void outstanding.push(messageOf(error));
    // What fails from here on must not keep the event from being written: the account is shut.
    const found = await run.change("end its open connections", () =>
      sweepAccount(settings, host, username, { end: true }).catch(open),
    );
    await run.change("see that nobody is connected any more", () =>
      requireNobody(settings, host, username).catch(open),
    );
    await run.change("write the audit event", () =>
      run.audit.append({
        event: "smtp_account_contained",
        severity: "critical",
        tenantId: tenant,
        details: {
          incident_id: incident,
          reason,
          username,
          address: host.address,
          was_enabled: before.enabled,
          connections_ended: outstanding.length === 0,
        },
      }),
    );
    const result = {
      ...(tenant === undefined ? {} : { tenant }),
      incident_id: incident,
      address: host.address,
      username,
      enabled: run.dryRun ? before.enabled : false,
      connections_ended: !run.dryRun && outstanding.length === 0,
      look_at: found === undefined ? [] : worthALook(found),
      next: resetCommand(run.flags),
    };
    if (outstanding.length === 0) return result;
    throw new RunbookError(`the account was disabled, but: ${outstanding.join("; ")}`, {
      exit: "incomplete",
      next: "run the same command again: connections that are open may still send",
      result: { ...result, outstanding },
    });
  },
});

async function requireAccount(settings: Settings, host: HostAddress, username: string) {
  const state = await accountState(settings, host, username);
  if (state !== undefined) return state;
  throw new RunbookError(`Mailu on ${host.address} has no account ${username}`, {
    exit: "failed",
    next: `nothing to disable; the host's accounts: ssh ${settings.ssh.user}@${host.address} ls /mailu/mail`,
  });
}

/** Once the account is disabled, whoever is gone can't come back. A process that was told to end takes a moment. */
async function requireNobody(settings: Settings, host: HostAddress, username: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    const { enabled, connections } = await requireAccount(settings, host, username);
    if (!enabled && connections === 0) return;
    if (enabled) throw new Error(`${username} has been enabled again meanwhile`);
    if (connections === undefined) throw new Error("its open connections can't be listed");
    if (tries === 5) throw new Error(`${connections} of its connections are still open`);
    await sleep(500);
  }
}

const worthALook = ({ sieve, fetchmail, managers }: HostFindings): string[] => [
  ...sieve.map(({ path, modified }) => `a Sieve script filters the mail: ${path}, changed ${modified}`),
  ...fetchmail.map(({ email, host, username }) => `mail is fetched for ${email} from ${host} as ${username}`),
  ...managers.map(({ email, domain }) => `${email} manages the domain ${domain}`),
];

/** What is to be typed once Vault is back; --again, since a reset that this incident had before would set nothing. */
function resetCommand({ tenant, incident, reason }: Flags): string {
  const quoted = `'${reason.replaceAll("'", `'\\''`)}'`;
  return `when Vault is back: npx runbook emergency-reset --tenant ${tenant ?? "ID"} --incident ${incident} --reason ${quoted} --again   # enables the account`;
}
