// doveadm in Mailu's two dovecots (2.3). The front container's logs everybody in and then proxies IMAP and submission
// (core/nginx/dovecot/login.lua answers `proxy=y` for all): its connections are ended by `proxy kick` alone, and its
// own `kick` and `who` find nobody. The imap container's has the mailboxes. Words and exit codes as dovecot 2.3.19
// was seen to use them.
import type { Connection, Connections } from "./connections.ts";
import type { Ended } from "./exec-call.ts";

const CONFIG = { front: "/etc/dovecot/proxy.conf", imap: "/etc/dovecot/dovecot.conf" };
const EX_USAGE = 64;
const EX_NOTFOUND = 68;
const EX_TEMPFAIL = 75;

/** Runs `doveadm ARGS` in one of the containers. */
export function doveadm(connections: Connections, service: "front" | "imap", args: string[]): Ended {
  const words = [...args];
  const config = words[0] === "-c" ? words.splice(0, 2)[1] : undefined;
  // The distribution's own configuration, read without -c, names the same sockets.
  if (config !== undefined && config !== CONFIG[service]) {
    const stderr = `Fatal: Error reading configuration: stat(${config}) failed: No such file or directory\n`;
    return { code: EX_TEMPFAIL, stdout: "", stderr };
  }
  const proxied = service === "front" ? connections.open() : [];
  const mailboxes = (one: Connection) => service === "imap" && one.protocol === "imap";
  const verb = words[0] === "proxy" ? words.splice(0, 2).join(" ") : words.shift();
  const flags = words.filter((word) => word.startsWith("-"));
  const [mask = "", ...more] = words.filter((word) => !word.startsWith("-"));
  if (verb === "who") return who(connections.open(mailboxes), flags.includes("-1"), mask);
  if (verb === "kick" && mask !== "" && more.length === 0) {
    const matches = matching(mask);
    return kicked(connections.end((one) => mailboxes(one) && matches(one.user)));
  }
  if (verb === "proxy list") return proxyList(proxied);
  if (verb === "proxy kick" && mask !== "") {
    const users = [mask, ...more];
    const ended = connections.end((one) => proxied.includes(one) && users.includes(one.user));
    // A login process that serves nobody ends itself, and without any of them nobody is there to count.
    return said(`${proxied.length === 0 ? "(null)" : ended.length} connections kicked\n`);
  }
  return { code: EX_USAGE, stdout: "", stderr: "usage: doveadm [-Dv] [-f <formatter>] <command> [<args>]\n" };
}

const said = (stdout: string, code = 0): Ended => ({ code, stdout, stderr: "" });

function kicked(ended: Connection[]): Ended {
  if (ended.length === 0) return said("no users kicked\n", EX_NOTFOUND);
  const users = [...new Set(ended.map(({ user }) => user))].sort();
  return said(`kicked connections from the following users:\n${users.map((user) => `${user} `).join("")}\n`);
}

function who(open: Connection[], separate: boolean, mask: string): Ended {
  const matches = mask === "" ? () => true : matching(mask);
  const shown = open.filter(({ user }) => matches(user));
  if (separate) {
    const rows = shown.map(({ user, protocol, ip }) => `${user.padEnd(37)} ${protocol.padEnd(5)} 1   ${ip}`);
    return said(`${["username                              proto pid ip", ...rows].join("\n")}\n`);
  }
  const users = [...new Set(shown.map(({ user }) => user))].map((user) => {
    const own = shown.filter((one) => one.user === user);
    const ips = [...new Set(own.map(({ ip }) => ip))].join(" ");
    return `${user} ${own.length} imap (1) (${ips})`;
  });
  return said(`${["username # proto (pids) (ips)", ...users].join("\n")}\n`);
}

function proxyList(proxied: Connection[]): Ended {
  if (proxied.length === 0) return said("");
  const rows = proxied.map(
    ({ user, protocol, ip }) =>
      `${user.padEnd(30)} ${protocol.padEnd(10)} ${ip} 192.168.203.3 ${protocol === "imap" ? 143 : 10025}`,
  );
  return said(`${["username                       proto      src ip dest ip port", ...rows].join("\n")}\n`);
}

/** A mask of `kick` and `who`: `*` and `?` are wildcards, upper and lower case are the same. */
function matching(mask: string): (user: string) => boolean {
  const pattern = mask
    .replace(/[.+^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".");
  const expression = new RegExp(`^${pattern}$`, "i");
  return (user) => expression.test(user);
}
