// What a new password doesn't end: app tokens, open connections, forwards, other administrators, Sieve scripts,
// fetchmail accounts. Tokens that nobody sanctioned and connections go; the rest is told to people.
import type { Account } from "./account.ts";
import { messageOf } from "./errors.ts";
import { type HostFindings, sweepAccount } from "./host-account.ts";
import { deleteToken, doorsInWords, findOpenDoors } from "./open-doors.ts";
import type { Findings } from "./records.ts";
import { loadSdk } from "./s3-client.ts";
import type { Settings } from "./settings.ts";

const SSH_IS_UNDER_WAY_MS = 50;

/**
 * Closes what it can and lists the rest; what couldn't be looked at is in `unknown`.
 * @param before what an earlier run found; @param remember is called with the tokens before they are deleted, since
 * whoever resumes must still be able to name them.
 */
export async function sweepOpenDoors(
  settings: Settings,
  { mailu, server, sanctionedTokens, username }: Account,
  before: Findings | null,
  remember: (found: Findings) => Promise<void>,
): Promise<Findings> {
  const doors = await findOpenDoors(mailu, server.domain, sanctionedTokens);
  const { tokens, unknown } = doors;
  const reported = doorsInWords(doors, server.domain);
  const named = before?.tokens_deleted ?? [];
  const tokens_deleted = [...named, ...tokens.filter(({ id }) => !named.some((one) => one.id === id))];
  const findings: Findings = { tokens_deleted, reported, unknown };
  if (tokens.length > 0) await remember(findings);
  await Promise.all(tokens.map(({ id }) => deleteToken(mailu, id)));
  // After the tokens: whoever is cut off must not come back by one of them.
  const host = { address: server.vps_ip, hostKey: server.host_key };
  const sweeping = sweepAccount(settings, host, username, { end: true }).catch(messageOf);
  // Once ssh is under way this process has nothing to do; the events are stored next.
  if (settings.audit.bucket !== undefined) setTimeout(loadSdk, SSH_IS_UNDER_WAY_MS).unref();
  return withHost(findings, await sweeping);
}

function withHost(findings: Findings, host: HostFindings | string): Findings {
  if (typeof host === "string") {
    const what = `open connections, Sieve scripts and fetchmail accounts: ${host}`;
    return { ...findings, unknown: [...findings.unknown, what] };
  }
  const sieve = host.sieve.map(
    ({ path, modified }) => `a Sieve script filters the mail: ${path}, changed ${modified}`,
  );
  const fetchmail = host.fetchmail.map(
    ({ email, host: from, username }) => `mail is fetched for ${email} from ${from} as ${username}`,
  );
  const managers = host.managers.map(({ email, domain }) => `${email} manages the domain ${domain}`);
  const connections = host.ended ? [] : ["whether the open connections were ended"];
  return {
    ...findings,
    reported: [...findings.reported, ...managers, ...sieve, ...fetchmail],
    unknown: [...findings.unknown, ...connections],
  };
}
