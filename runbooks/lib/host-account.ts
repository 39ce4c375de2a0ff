// An account on a mail host, as seen and changed over ssh: what Mailu's API can't show or do, and what still works
// where nobody has its token. The host's own programs are asked, one round trip a call; each may be repeated.
import { z } from "zod";
import { COMPOSE_FILE, MAILU_DATA } from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import { onHostTogether, type Said } from "./host-commands.ts";
import type { Settings } from "./settings.ts";
import { type HostAddress, onHost } from "./ssh.ts";

/** What can act for an account, or on the mail of its domain, without its password. */
export interface HostFindings {
  /** Every open connection was ended; false where that failed or wasn't asked for. */
  readonly ended: boolean;
  /** Sieve scripts of the account: path on the host, SHA-256 in hex, last change in ISO 8601. */
  readonly sieve: readonly { path: string; sha256: string; modified: string }[];
  /** Mailboxes elsewhere that are fetched from, those of every user. */
  readonly fetchmail: readonly { email: string; host: string; username: string; protocol: string }[];
  /** Who may administer a domain besides the administrators of all (Mailu 2024.06 has no working call for it). */
  readonly managers: readonly { email: string; domain: string }[];
}

/**
 * Ends the account's open connections and lists what the API doesn't show. `end: false` only looks.
 * @throws RunbookError failed (1) when something can't be listed; connections have been ended by then.
 */
export async function sweepAccount(
  settings: Settings,
  host: HostAddress,
  username: string,
  options: { end: boolean },
): Promise<HostFindings> {
  const looks = { users: exportOf("user.email user.fetches user.manager_of"), sieve: SIEVE };
  const how = { subject: checked(username), timeoutSeconds: FLASK_SECONDS + 30 };
  const kicked = options.end ? await onHostTogether(settings, host, { ...looks, ...KICKS }, how) : undefined;
  const said = kicked ?? (await onHostTogether(settings, host, looks, how));
  const users = parsed(host, said.users, Users);
  return {
    // 68: nobody by that name is connected.
    ended: kicked !== undefined && kicked.proxied.code === 0 && [0, 68].includes(kicked.mailboxes.code),
    sieve: parsed(host, said.sieve, Sieve),
    fetchmail: users.flatMap(({ email, fetches }) => fetches.map((one) => ({ email, ...one }))),
    managers: users.flatMap(({ email, manager_of }) => manager_of.map((domain) => ({ email, domain }))),
  };
}

/**
 * Shuts the account: no password and no app token logs in any more. It stops being an administrator as well, since a
 * web session outlives that (Mailu's models.py: `is_active = True`) and could enable the account again. Setting a
 * password by the API gives both back. Reads back what was done.
 * @throws RunbookError failed (1) when there is no such account, or it isn't disabled afterwards.
 */
export async function disableAccount(settings: Settings, host: HostAddress, username: string): Promise<void> {
  const change = { user: [{ email: checked(username), enabled: false, global_admin: false }] };
  const script = `${COMPOSE} admin flask mailu config-import -u -q >&2 && ${exportOf(STATE)} </dev/null`;
  const text = await onHost(settings, host, script, {
    stdin: JSON.stringify(change),
    timeoutSeconds: 2 * FLASK_SECONDS,
  });
  const account = parsed(host, { code: 0, text }, States).find(({ email }) => email === username);
  if (account?.enabled !== false || account.global_admin)
    throw failure(host, `keeps ${username} enabled although it took the change`);
}

/** How an account stands on its host. */
export interface AccountState {
  readonly enabled: boolean;
  /** Connections that logged in to it and are still open; undefined where dovecot doesn't tell. */
  readonly connections: number | undefined;
}

/** Looks at an account; undefined where the host's Mailu has none by that name. Throws failed (1) when it can't. */
export async function accountState(
  settings: Settings,
  host: HostAddress,
  username: string,
): Promise<AccountState | undefined> {
  const said = await onHostTogether(
    settings,
    host,
    { users: exportOf(STATE), ...LISTS },
    { subject: checked(username), timeoutSeconds: FLASK_SECONDS + 30 },
  );
  const account = parsed(host, said.users, States).find(({ email }) => email === username);
  if (account === undefined) return undefined;
  const lists = [said.proxied, said.mailboxes];
  const counts = lists.map(
    ({ text }) => text.split("\n").filter((line) => line.split(/\s/)[0] === username).length,
  );
  // A proxied connection to a mailbox is in both lists.
  const connections = lists.every(({ code }) => code === 0) ? Math.max(...counts) : undefined;
  return { enabled: account.enabled, connections };
}

/** Flask takes seconds to start on a small host. */
const FLASK_SECONDS = 60;
const COMPOSE = `docker compose -f ${COMPOSE_FILE} exec -T`;
const STATE = "user.email user.enabled user.global_admin";
const exportOf = (filters: string): string => `${COMPOSE} admin flask mailu config-export -j ${filters}`;

// The front's dovecot logs everybody in and proxies IMAP and submission alike: only `proxy kick` finds those. The imap
// container's has the mailboxes; -f ends a process there also where it serves others too, who then log in again.
const FRONT = `${COMPOSE} front doveadm -c /etc/dovecot/proxy.conf`;
const KICKS = {
  proxied: `${FRONT} proxy kick "$u"`,
  mailboxes: `${COMPOSE} imap doveadm kick -f "$u"`,
};
const LISTS = { proxied: `${FRONT} proxy list`, mailboxes: `${COMPOSE} imap doveadm who -1 "$u"` };

// One script a record, ended by NUL, since a name may hold anything else. No link is followed: it may lead anywhere.
const SIEVE = `d=${MAILU_DATA}/mail/$u; [ ! -d "$d" ] || find "$d" -type f -name '*.sieve' -exec sh -c '
  for f; do printf "%s %s %s\\0" "$(sha256sum <"$f" | cut -d" " -f1)" "$(stat -c %Y "$f")" "$f"; done' sh {} +`;

/** The name stands in a path and among a program's flags. */
function checked(username: string): string {
  if (/^[^\s/@-][^\s/@]*@[^\s/@]+$/.test(username)) return username;
  throw new Error(`'${username}' is no account's name`);
}

/** The JSON document; lines before it are a program's warnings. */
const json = <T>(schema: z.ZodType<T>) =>
  z
    .string()
    .transform((text) => JSON.parse(text.slice(text.indexOf("{"))) as unknown)
    .pipe(z.object({ user: z.array(schema).default([]) }))
    .transform(({ user }) => user);

const Users = json(
  z.object({
    email: z.string(),
    fetches: z.array(z.object({ host: z.string(), username: z.string(), protocol: z.string() })).default([]),
    manager_of: z.array(z.string()).default([]),
  }),
);
const States = json(z.object({ email: z.string(), enabled: z.boolean(), global_admin: z.boolean() }));
const Sieve = z.string().transform((text) =>
  text
    .split("\0")
    .filter((record) => record !== "")
    .map((record) => {
      const [, sha256 = "", seconds = "", path = ""] = /^(\S*) (\S*) (.*)$/s.exec(record) ?? [];
      return { path, sha256, modified: new Date(Number(seconds) * 1000).toISOString() };
    }),
);

function parsed<T>(host: HostAddress, said: Said, schema: z.ZodType<T, string>): T {
  if (said.code !== 0) throw failure(host, `can't be asked: ${said.text.trim()}`);
  try {
    return schema.parse(said.text);
  } catch (cause) {
    throw failure(host, "answered something that is no list of accounts", cause);
  }
}

function failure(host: HostAddress, how: string, cause?: unknown): RunbookError {
  return new RunbookError(`Mailu on ${host.address} ${how}`, {
    exit: "failed",
    next: `ssh root@${host.address} ${exportOf(STATE)}   # mend what it says, then run this again`,
    cause,
  });
}
