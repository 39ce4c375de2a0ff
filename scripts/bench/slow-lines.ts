// SMTP and IMAP servers that take their time for each answer, and a mail relay: as much of the protocols as a login, a
// logout and a delivery need. No delay comes with the TLS handshake: that is the kernel's and the library's.
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** Whether a server lets somebody in. */
export type Door = (user: string, password: string) => boolean;

/** Speaks SMTP on a connection; ends with it. */
export async function speakSmtp(socket: Socket, latency: number, door: Door): Promise<void> {
  const lines = linesOf(socket);
  const say = (text: string) => answer(socket, latency, text);
  await say("220 mail ESMTP ready");
  for (let line = await lines(); line !== undefined; line = await lines()) {
    const [verb = "", ...rest] = line.split(" ");
    if (verb === "EHLO") await say("250-mail\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN");
    else if (verb === "AUTH") {
      const known = opens(door, rest[1] ?? "");
      await say(
        known ? "235 2.7.0 Authentication successful" : "535 5.7.8 Authentication credentials invalid",
      );
    } else if (verb === "DATA") {
      await say("354 End data with <CR><LF>.<CR><LF>");
      while ((await lines()) !== ".");
      await say("250 2.0.0 Ok: queued");
    } else if (verb === "QUIT") {
      await say("221 2.0.0 Bye");
      socket.end();
    } else await say("250 2.1.0 Ok");
  }
}

/** Speaks IMAP on a connection; ends with it. */
export async function speakImap(socket: Socket, latency: number, door: Door): Promise<void> {
  const lines = linesOf(socket);
  const say = (text: string) => answer(socket, latency, text);
  const can = "CAPABILITY IMAP4rev1 SASL-IR ID AUTH=PLAIN";
  await say(`* OK [${can}] ready`);
  for (let line = await lines(); line !== undefined; line = await lines()) {
    const [tag = "*", verb = "", , plain = ""] = line.split(" ");
    if (verb.toUpperCase() === "AUTHENTICATE") {
      if (plain === "") await say("+ ");
      const known = opens(door, plain || ((await lines()) ?? ""));
      await say(known ? `${tag} OK [${can}] Logged in` : `${tag} NO [AUTHENTICATIONFAILED] no`);
    } else if (verb.toUpperCase() === "LOGOUT") {
      await say(`* BYE Logging out\r\n${tag} OK Logout completed`);
      socket.end();
    } else if (verb.toUpperCase() === "CAPABILITY") await say(`* ${can}\r\n${tag} OK Capability completed`);
    else await say(`${tag} OK ${verb} completed`);
  }
}

function opens(door: Door, plain: string): boolean {
  const [, user = "", password = ""] = Buffer.from(plain, "base64").toString("utf8").split("\0");
  return door(user, password);
}

async function answer(socket: Socket, latency: number, text: string): Promise<void> {
  await sleep(latency);
  socket.write(`${text}\r\n`);
}

/** Asks for the next line; undefined at the end. */
function linesOf(socket: Socket): () => Promise<string | undefined> {
  const chunks: AsyncIterator<Buffer> = socket[Symbol.asyncIterator]();
  let held = "";
  return async () => {
    for (let end = held.indexOf("\r\n"); ; end = held.indexOf("\r\n")) {
      if (end >= 0) {
        const line = held.slice(0, end);
        held = held.slice(end + 2);
        return line;
      }
      const { done, value } = await chunks.next();
      if (done === true) return undefined;
      held += value.toString("utf8");
    }
  };
}
