// The stand-in's IMAP: as Mailu's front it answers the login itself; behind it is enough of a mailbox for a
// real client to log in, look at INBOX, wait in IDLE and log out.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { createServer, type Server, type TLSSocket, type TlsOptions } from "node:tls";
import type { Mailu } from "./api-call.ts";
import type { FaultSwitch } from "./faults.ts";
import { ImapReader } from "./imap-reader.ts";

const FOLDERS = ["INBOX", "Drafts", "Junk", "Sent", "Trash"];
const CAPABILITIES = "IMAP4rev1 LITERAL+ SASL-IR ID IDLE AUTH=PLAIN";

/** Port 993: TLS from the first byte. A connection that logged in stays, whatever becomes of the password. */
export function imapServer(mailu: Mailu, faults: FaultSwitch, mailDir: string, tls: TlsOptions): Server {
  const server = createServer(tls, (socket) => {
    socket.on("error", () => socket.destroy());
    converse(mailu, faults, mailDir, socket).catch(() => socket.destroy());
  });
  server.on("tlsClientError", () => {});
  return server;
}

async function converse(
  mailu: Mailu,
  faults: FaultSwitch,
  mailDir: string,
  socket: TLSSocket,
): Promise<void> {
  const say = (line: string) => socket.write(`${line}\r\n`);
  const reader = new ImapReader(socket, say);
  const ip = socket.remoteAddress ?? "";
  let user: string | undefined;

  const logIn = async (tag: string, name: string, password: string) => {
    const verdict =
      (await faults.forLogin("imap")) ?? (await mailu.accounts.login("imap", name, password, ip));
    if (verdict === "cut") socket.destroy();
    else if (verdict === "ok") {
      user = name.toLowerCase();
      const end = () => void socket.end("* BYE Server shutting down.\r\n");
      socket.once("close", mailu.connections.add({ user, protocol: "imap", ip, end }));
      say(`${tag} OK [CAPABILITY ${CAPABILITIES}] Logged in`);
    } else if (verdict === "limited") {
      say(`${tag} NO [LIMIT] Temporary authentication failure (rate-limit)`);
    } else {
      say(`${tag} NO [AUTHENTICATIONFAILED] Authentication credentials invalid`);
    }
  };

  say(`* OK [CAPABILITY ${CAPABILITIES}] IMAP4 ready`);
  for (let words = await reader.command(); words !== undefined; words = await reader.command()) {
    const [tag = "*", verb = "", ...rest] = words;
    const name = verb.toUpperCase();
    if (name === "LOGOUT") {
      say("* BYE Logging out");
      socket.end(`${tag} OK Logout completed\r\n`);
      return;
    } else if (name === "CAPABILITY") {
      say(`* CAPABILITY ${CAPABILITIES}`);
      say(`${tag} OK Capability completed`);
    } else if (name === "ID") {
      say("* ID NIL");
      say(`${tag} OK ID completed`);
    } else if (name === "NOOP") {
      say(`${tag} OK NOOP completed`);
    } else if (name === "LOGIN" && user === undefined) {
      await logIn(tag, rest[0] ?? "", rest[1] ?? "");
    } else if (name === "AUTHENTICATE" && rest[0]?.toUpperCase() === "PLAIN" && user === undefined) {
      if (rest[1] === undefined) say("+ ");
      const [, id = "", password = ""] = decodePlain(rest[1] ?? (await reader.line()) ?? "");
      await logIn(tag, id, password);
    } else if (user === undefined) {
      say(`${tag} BAD Please log in first`);
    } else if (name === "IDLE") {
      say("+ idling");
      await reader.line();
      say(`${tag} OK Idle completed`);
    } else {
      for (const line of mailboxAnswer(join(mailDir, user), tag, name, rest)) say(line);
    }
  }
}

const decodePlain = (text: string): string[] => Buffer.from(text, "base64").toString("utf8").split("\0");

function mailboxAnswer(box: string, tag: string, name: string, rest: string[]): string[] {
  if (name === "LIST" && rest[1] === "") {
    return ['* LIST (\\Noselect) "." ""', `${tag} OK LIST completed`];
  }
  if (name === "LIST" || name === "LSUB") {
    return [...FOLDERS.map((folder) => `* ${name} () "." "${folder}"`), `${tag} OK ${name} completed`];
  }
  const folder = (rest[0] ?? "").toUpperCase();
  const known = FOLDERS.some((one) => one.toUpperCase() === folder);
  const count = folder === "INBOX" ? mails(box) : 0;
  if ((name === "SELECT" || name === "EXAMINE") && known) {
    const access = name === "SELECT" ? "READ-WRITE" : "READ-ONLY";
    const flags = "(\\Answered \\Flagged \\Deleted \\Seen \\Draft)";
    return [
      `* FLAGS ${flags}`,
      `* ${count} EXISTS`,
      "* 0 RECENT",
      "* OK [UIDVALIDITY 1] UIDs valid",
      `* OK [UIDNEXT ${count + 1}] Predicted next UID`,
      `${tag} OK [${access}] ${name} completed`,
    ];
  }
  if (name === "STATUS" && known) {
    const values = `MESSAGES ${count} RECENT 0 UIDNEXT ${count + 1} UIDVALIDITY 1 UNSEEN ${count}`;
    return [`* STATUS "${rest[0]}" (${values})`, `${tag} OK Status completed`];
  }
  if (["CLOSE", "UNSELECT", "CHECK", "SUBSCRIBE", "UNSUBSCRIBE"].includes(name))
    return [`${tag} OK ${name} completed`];
  if (["SELECT", "EXAMINE", "STATUS"].includes(name))
    return [`${tag} NO [NONEXISTENT] Mailbox doesn't exist`];
  return [`${tag} BAD Unknown command`];
}

function mails(box: string): number {
  try {
    return readdirSync(join(box, "new")).length + readdirSync(join(box, "cur")).length;
  } catch {
    return 0;
  }
}
