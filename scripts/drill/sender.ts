// A program of the tenant's that submits mail without pause, as a ticket system or a shop does: it reads the credential
// from Vault with the tenant's own token, and reads it again when it is refused or cut off. Two of them run side by
// side, one with a new connection for each message, one that keeps its connection as long as it lasts.

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import SMTPConnection from "nodemailer/lib/smtp-connection";
import { z } from "zod";
import { adminAddress, recordPath, SMTP_PORT, TRANSIT_MOUNT, transitKey } from "../../stacks/names.ts";
import type { LabTenant } from "../lab/tenants.ts";
import { vaultCall } from "../lab/vault.ts";
import { tls } from "./doors.ts";
import type { Submitted } from "./tally.ts";

/** Milliseconds between two messages: without any, the lab's processor would be measured and not the rotation. */
const PACE_MS = 20;
/** Milliseconds before a message is tried again. */
const RETRY_MS = 50;
/** Milliseconds after which a message that nobody takes is given up, and counts as lost. */
const PATIENCE_MS = 60_000;

export interface Mailbox {
  /** The mail host's address. */
  address: string;
  tenant: LabTenant;
  vaultAddr: string;
  /** A token that may do what `tenant-{id}` may. */
  token: string;
}

interface Credential {
  user: string;
  pass: string;
}

export class Sender {
  /** Every message has a header of this name, whose value is this sender's id and the message's number. */
  static readonly HEADER = "X-Drill";
  readonly id = randomUUID();
  readonly #mailbox: Mailbox;
  readonly #submitted: Submitted[] = [];
  readonly #clients: Promise<void>[];
  #stopping = false;
  #retries = 0;

  /** Begins at once, and must be stopped. Throws when the credential can't be read. */
  static async start(mailbox: Mailbox): Promise<Sender> {
    return new Sender(mailbox, await currentCredential(mailbox));
  }

  private constructor(mailbox: Mailbox, credential: Credential) {
    this.#mailbox = mailbox;
    this.#clients = [this.#submitAll("new", credential), this.#submitAll("kept", credential)];
  }

  /** Resolves once each client has had this many more messages accepted; throws when that takes a minute. */
  async accepts(count: number): Promise<void> {
    const before = this.#submitted.length;
    const end = performance.now() + PATIENCE_MS;
    const enough = (client: Submitted["client"]) =>
      this.#submitted.slice(before).filter((one) => one.client === client && one.accepted !== undefined)
        .length >= count;
    while (!enough("new") || !enough("kept")) {
      if (performance.now() > end) throw new Error("The server takes no mail with the password in Vault");
      await sleep(10);
    }
  }

  /** Ends both clients after the message that each is at. `retries`: how often one was refused or cut off. */
  async stop(): Promise<{ submitted: Submitted[]; retries: number }> {
    this.#stopping = true;
    await Promise.all(this.#clients);
    return { submitted: this.#submitted, retries: this.#retries };
  }

  /** The numbers of this sender's messages, from the headers of a mailbox. */
  numbersIn(headers: string): number[] {
    const own = new RegExp(`^${Sender.HEADER}: ${this.id} (\\d+)`, "gm");
    return [...headers.matchAll(own)].map((match) => Number(match[1]));
  }

  async #submitAll(client: Submitted["client"], first: Credential): Promise<void> {
    let credential = first;
    let connection: SMTPConnection | undefined;
    while (!this.#stopping) {
      const message: Submitted = { number: this.#submitted.length + 1, client, began: performance.now() };
      this.#submitted.push(message);
      while (message.accepted === undefined) {
        try {
          connection ??= await logIn(this.#mailbox, credential);
          await submit(this.#mailbox, connection, `${this.id} ${message.number}`);
          message.accepted = performance.now();
        } catch {
          connection?.close();
          connection = undefined;
          this.#retries += 1;
          if (performance.now() - message.began > PATIENCE_MS) return;
          await sleep(RETRY_MS);
          // Vault may be out of reach for a moment as well: the next try is made with what is known.
          credential = await currentCredential(this.#mailbox).catch(() => credential);
        }
      }
      if (client === "new") {
        connection?.quit();
        connection = undefined;
      }
      await sleep(PACE_MS);
    }
    connection?.quit();
  }
}

const Admin = z.object({
  data: z.object({ data: z.object({ username: z.string(), password: z.string() }) }),
});
const Plain = z.object({ data: z.object({ plaintext: z.string() }) });

async function currentCredential({ vaultAddr, token, tenant }: Mailbox): Promise<Credential> {
  const stored = Admin.parse(await vaultCall(vaultAddr, token, "GET", recordPath(tenant.id, "admin")));
  const { username: user, password: ciphertext } = stored.data.data;
  const path = `${TRANSIT_MOUNT}/decrypt/${transitKey(tenant.id)}`;
  const opened = Plain.parse(await vaultCall(vaultAddr, token, "POST", path, { ciphertext }));
  return { user, pass: Buffer.from(opened.data.plaintext, "base64").toString("utf8") };
}

async function logIn({ address, tenant }: Mailbox, credential: Credential): Promise<SMTPConnection> {
  const connection = new SMTPConnection({
    host: address,
    port: SMTP_PORT,
    secure: true,
    tls: tls(tenant),
    connectionTimeout: 10_000,
    greetingTimeout: 10_000,
    socketTimeout: 10_000,
  });
  // A kept connection may be cut between two messages, when nobody waits for anything.
  connection.on("error", () => {});
  try {
    await answer(connection, (done) => connection.connect(done));
    await answer(connection, (done) => connection.login(credential, done));
    return connection;
  } catch (error) {
    connection.close();
    throw error;
  }
}

async function submit({ tenant }: Mailbox, connection: SMTPConnection, which: string): Promise<void> {
  const self = adminAddress(tenant.domain);
  const headers = [
    `From: ${self}`,
    `To: ${self}`,
    "Subject: A drill",
    `${Sender.HEADER}: ${which}`,
    `Message-ID: <${randomUUID()}@${tenant.domain}>`,
    `Date: ${new Date().toUTCString()}`,
  ];
  const mail = `${headers.join("\r\n")}\r\n\r\nThis is a drill.\r\n`;
  await answer(connection, (done) => connection.send({ from: self, to: [self] }, mail, done));
}

/** One exchange with the server. Throws also when the connection ends without an answer. */
async function answer(
  connection: SMTPConnection,
  ask: (done: (error?: Error | null) => void) => void,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const cut = (error?: Error): void => reject(error ?? new Error("The server closed the connection"));
  connection.once("error", cut).once("end", cut);
  ask((error) => (error ? reject(error) : resolve()));
  await promise.finally(() => connection.off("error", cut).off("end", cut));
}
