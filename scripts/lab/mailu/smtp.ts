// The stand-in's SMTP: submission with AUTH over TLS, and port 25, which takes mail for its own users
// and never authenticates anybody.
import { randomUUID } from "node:crypto";
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import type { SecureContextOptions } from "node:tls";
import {
  SMTPServer,
  type SMTPServerDataStream,
  type SMTPServerOptions,
  type SMTPServerSession,
} from "smtp-server";
import { maySendAs } from "./accounts.ts";
import type { Mailu } from "./api-call.ts";
import type { FaultSwitch } from "./faults.ts";

/** Where accepted mails go: a Maildir per user, and the queue for everybody else. */
export interface MailPaths {
  mail: string;
  queue: string;
}

/** Ports 465 and 587: AUTH only under TLS, from the first byte or by STARTTLS; the sender bound to the login. */
export const submission = (
  mailu: Mailu,
  faults: FaultSwitch,
  paths: MailPaths,
  tls: SecureContextOptions,
  mode: "implicit" | "starttls",
) => {
  const sockets = new WeakMap<SMTPServerSession, Socket>();
  return new SMTPServer({
    ...common(mailu, paths),
    ...tls,
    secure: mode === "implicit",
    authMethods: ["PLAIN", "LOGIN"],
    onSecure: (socket, session, done) => {
      sockets.set(session, socket);
      done();
    },
    onAuth: async ({ username = "", password = "" }, session, done) => {
      const { remoteAddress: ip } = session;
      const socket = sockets.get(session);
      const verdict =
        (await faults.forLogin("smtp")) ?? (await mailu.accounts.login("smtp", username, password ?? "", ip));
      if (verdict === "cut") socket?.destroy();
      else if (verdict === "ok") {
        const user = username.toLowerCase();
        const end = () => void socket?.destroy();
        socket?.once("close", mailu.connections.add({ user, protocol: "submission", ip, end }));
        done(null, { user });
      } else if (verdict === "limited")
        done(reply(451, "4.3.2 Temporary authentication failure (rate-limit)"));
      else done(reply(535, "5.7.8 Authentication credentials invalid"));
    },
    onMailFrom: ({ address }, { user }, done) => {
      const allowed = maySendAs(mailu.store.db, String(user), address);
      done(allowed ? null : reply(553, "5.7.1 Sender address rejected: not owned by user"));
    },
  });
};

/** Port 25: mail for the host's own users; AUTH is answered 502. */
export const incoming = (mailu: Mailu, paths: MailPaths) =>
  new SMTPServer({
    ...common(mailu, paths),
    disabledCommands: ["STARTTLS"],
    allowInsecureAuth: true,
    authOptional: true,
    onAuth: (_auth, _session, done) => done(reply(502, "5.5.1 AUTH not supported")),
    onRcptTo: ({ address }, _session, done) => {
      const { users, domains } = mailu.store.db;
      const known = users[address.toLowerCase()] !== undefined;
      const local = domains[address.toLowerCase().split("@").at(-1) ?? ""] !== undefined;
      if (known) done();
      else if (local)
        done(reply(550, "5.1.1 Recipient address rejected: User unknown in virtual mailbox table"));
      else done(reply(554, "5.7.1 Relay access denied"));
    },
  });

const common = (mailu: Mailu, paths: MailPaths): SMTPServerOptions => ({
  name: mailu.settings("HOSTNAMES").split(",")[0] ?? "localhost",
  banner: "ESMTP ready",
  logger: false,
  disableReverseLookup: true,
  closeTimeout: 100,
  onData: (stream, session, done) => {
    collect(stream)
      .then((mail) => deliver(mailu, paths, session, mail))
      .then((id) => done(null, `2.0.0 Ok: queued as ${id}`))
      .catch(() => done(reply(452, "4.3.1 Insufficient system storage")));
  },
});

const reply = (responseCode: number, message: string): Error =>
  Object.assign(new Error(message), { responseCode });

async function collect(stream: SMTPServerDataStream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** Writes the mail once per recipient before it is acknowledged; returns the queue id. */
function deliver({ store }: Mailu, paths: MailPaths, { envelope }: SMTPServerSession, mail: Buffer): string {
  const id = randomUUID().slice(0, 8);
  for (const { address } of envelope.rcptTo) {
    const user = store.db.users[address.toLowerCase()];
    const box = user === undefined ? paths.queue : join(paths.mail, user.email);
    for (const dir of ["tmp", "new", "cur"]) mkdirSync(join(box, dir), { recursive: true });
    const name = `${Date.now()}.${id}.${randomUUID().slice(0, 8)}`;
    writeFileSync(join(box, "tmp", name), mail);
    renameSync(join(box, "tmp", name), join(box, "new", name));
  }
  return id;
}
