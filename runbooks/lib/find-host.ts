// Where a tenant's mail host is and how to know it, without Vault: from the stack's outputs, or from the operator.
import { z } from "zod";
import {
  adminAddress,
  domainProblem,
  MAILU_ENV_FILE,
  type TenantId,
  tenantStack,
} from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import { knownHostKey } from "./known-hosts.ts";
import { pulumi } from "./pulumi.ts";
import type { Settings } from "./settings.ts";
import { type HostAddress, onHost } from "./ssh.ts";

/** What an operator can tell; one of tenant and host. */
export interface Given {
  tenant?: TenantId | undefined;
  /** IPv4 address. */
  host?: string | undefined;
  domain?: string | undefined;
  hostKey?: string | undefined;
}

/** A mail host, and the domain that is meant by it. */
export interface Place {
  host: HostAddress;
  /** As told; undefined: the host is asked. */
  domain: string | undefined;
}

/**
 * Takes address and key from the tenant's stack, or the key of a given address from the operator's known_hosts.
 * @throws RunbookError refused (4) when nobody knows the key, failed (1) when the stack says nothing.
 */
export async function findHost(given: Given, settings: Settings): Promise<Place> {
  if (given.tenant !== undefined) {
    const stack = await stackOutputs(settings, given.tenant);
    const host = { address: stack.address, hostKey: given.hostKey ?? stack.hostKey };
    return { host, domain: given.domain ?? stack.domain };
  }
  const address = given.host ?? "";
  const hostKey = given.hostKey ?? (await knownHostKey(address));
  if (hostKey !== undefined) return { host: { address, hostKey }, domain: given.domain };
  throw new RunbookError(
    `Nobody knows the SSH key of ${address}: not you by --host-key, nor your known_hosts`,
    {
      exit: "refused",
      next: `read it on the host's console (cat /etc/ssh/ssh_host_ed25519_key.pub), then add --host-key 'ssh-ed25519 AAAA…'`,
    },
  );
}

const Outputs = z.object({ address: z.ipv4(), hostKey: z.string().min(1), domain: z.string().min(1) });

async function stackOutputs(settings: Settings, tenant: TenantId): Promise<z.output<typeof Outputs>> {
  const stack = tenantStack(tenant);
  try {
    const text = await pulumi(settings, ["stack", "output", "--json", "--stack", stack]);
    return Outputs.parse(JSON.parse(text));
  } catch (cause) {
    const why = cause instanceof RunbookError ? cause.message : "it has no address, hostKey and domain yet";
    throw new RunbookError(`Stack ${stack} can't say where ${tenant}'s host is: ${why}`, {
      exit: "failed",
      next: "use --host ADDRESS in place of --tenant; MX of the tenant's domain leads to it",
      cause,
    });
  }
}

/** The name of the host's administrator. Throws refused (4) when the host is the Mailu of another domain. */
export async function administratorOf(settings: Settings, { host, domain }: Place): Promise<string> {
  const command = `sed -n 's/^DOMAIN=//p' ${MAILU_ENV_FILE}`;
  const served = (await onHost(settings, host, command)).trim();
  if (domainProblem(served) !== undefined) {
    throw new RunbookError(`${MAILU_ENV_FILE} on ${host.address} names no domain`, {
      exit: "failed",
      next: `ssh ${settings.ssh.user}@${host.address} cat ${MAILU_ENV_FILE}   # is this the tenant's mail host?`,
    });
  }
  if (domain === undefined || domain === served) return adminAddress(served);
  throw new RunbookError(`${host.address} is the Mailu of ${served}, not of ${domain}`, {
    exit: "refused",
    next: "check the address; MX of the tenant's domain leads to the right host",
  });
}
