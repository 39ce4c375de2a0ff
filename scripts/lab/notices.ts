// Who is told of incidents in a lab: a mail relay and a webhook receiver on the lab's own address. What they take is
// kept as files, for tests and for whoever looks, and a file makes them fail.
import { randomBytes } from "node:crypto";
import type { EventEmitter } from "node:events";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";

const RELAY_PORT = 2525;
const WEBHOOK_PORT = 8085;
const SLACK = "/slack";

/** A mail as the relay took it. */
export interface ReceivedMail {
  /** ISO 8601. */
  at: string;
  from: string;
  to: string[];
  /** Headers and body as they came. */
  raw: string;
}

/** A request as a webhook took it. */
export interface ReceivedPost {
  /** ISO 8601. */
  at: string;
  /** `/generic` or `/slack`; what follows in Slack's URL is a secret and isn't kept. */
  path: string;
  headers: IncomingHttpHeaders;
  /** The raw body. */
  body: string;
}

/** What has been received in the lab in `dir`, the first one first. */
export function receivedNotices(dir: string): { mails: ReceivedMail[]; posts: ReceivedPost[] } {
  const read = <T>(folder: string): T[] =>
    readdirSync(join(dir, "notices", folder))
      .filter((name) => name.endsWith(".json"))
      .sort()
      .map((name) => JSON.parse(readFileSync(join(dir, "notices", folder, name), "utf8")) as T);
  return { mails: read("mail"), posts: read("webhooks") };
}

/** How a receiver fails. */
export interface NoticeFault {
  /**
   * A code to answer with; `hang`: no answer ever; `cut`: the connection is closed and nothing kept; `lost`: it is
   * kept, and the connection closed without an answer.
   */
  status: number | "hang" | "cut" | "lost";
  /** Only so many requests; no end when left out. */
  times?: number;
  /** Only requests whose path (webhook) or recipients (smtp) contain this. */
  match?: string;
}

export interface NoticeFaults {
  smtp?: NoticeFault;
  webhook?: NoticeFault;
}

/** For tests: lets the receivers of the lab in `dir` fail so from now on; undefined ends all faults. */
export function setNoticeFaults(dir: string, faults: NoticeFaults | undefined): void {
  const file = faultsFile(dir);
  rmSync(file, { force: true });
  if (faults === undefined) return;
  writeFileSync(`${file}.new`, JSON.stringify(faults));
  renameSync(`${file}.new`, file);
}

const faultsFile = (dir: string): string => join(dir, "notices", "faults.json");

/** The `notify` section of recovery.yaml that leads to the receivers at `address`. */
export const notifySection = (address: string) => ({
  from: "security@penguinmails.example",
  security: ["oncall@people.example"],
  relay: { host: address, port: RELAY_PORT, tls: "none" },
  webhooks: [
    { url: `http://${address}:${WEBHOOK_PORT}/generic`, format: "generic", secret_file: "webhook-secret" },
    { url_file: "slack-url", format: "slack" },
  ],
});

/** Starts both and writes `webhook-secret` and `slack-url` into `dir`. Resolves to what ends them. */
export async function startReceivers(dir: string, address: string): Promise<() => Promise<void>> {
  for (const folder of ["mail", "webhooks"])
    mkdirSync(join(dir, "notices", folder), { recursive: true, mode: 0o700 });
  const slack = `${SLACK}/${randomBytes(18).toString("base64url")}`;
  writeFileSync(join(dir, "webhook-secret"), `${randomBytes(32).toString("base64url")}\n`, { mode: 0o600 });
  writeFileSync(join(dir, "slack-url"), `http://${address}:${WEBHOOK_PORT}${slack}\n`, { mode: 0o600 });
  const stops = await Promise.all([startRelay(dir, address), startWebhooks(dir, address, slack)]);
  return async () => void (await Promise.all(stops.map((stop) => stop())));
}

async function startRelay(dir: string, address: string): Promise<() => Promise<void>> {
  // A tenth of a second that the lab's other parts needn't wait for.
  const { SMTPServer } = await import("smtp-server");
  const fault = faultSwitch(dir, "smtp");
  const keep = keeper(dir, "mail");
  const sockets = new Map<number, Socket>();
  const server = new SMTPServer({
    name: "relay.penguinmails.example",
    disabledCommands: ["AUTH", "STARTTLS"],
    authOptional: true,
    logger: false,
    disableReverseLookup: true,
    closeTimeout: 50,
    onData: async (stream, { envelope, remotePort }, done) => {
      const raw = await text(stream).catch(() => undefined);
      // Whoever sent it died on the way.
      if (raw === undefined) return;
      const to = envelope.rcptTo.map((one) => one.address);
      const from = envelope.mailFrom === false ? "" : envelope.mailFrom.address;
      const status = fault(to.join(" "));
      if (status === "hang") return;
      if (status === undefined || status === "lost") keep({ from, to, raw });
      if (status === "cut" || status === "lost") sockets.get(remotePort)?.destroy();
      else if (status === undefined) done(null, "2.0.0 Ok: queued");
      else done(Object.assign(new Error("told to fail"), { responseCode: status }));
    },
  });
  server.on("error", () => {});
  server.server.on("connection", (socket: Socket) => {
    const port = socket.remotePort ?? 0;
    sockets.set(port, socket);
    socket.once("close", () => sockets.delete(port));
  });
  await listening(server.server, () => server.listen(RELAY_PORT, address));
  return () => new Promise((resolve) => server.close(() => resolve()));
}

async function startWebhooks(dir: string, address: string, slack: string): Promise<() => Promise<void>> {
  const fault = faultSwitch(dir, "webhook");
  const keep = keeper(dir, "webhooks");
  const server = createServer(async (request, response) => {
    const body = await text(request);
    const path = request.url === slack ? SLACK : (request.url ?? "/");
    const known = request.method === "POST" && (request.url === slack || path === "/generic");
    const status = known ? fault(path) : 404;
    if (status === "hang") return;
    if (status === undefined || status === "lost") keep({ path, headers: request.headers, body });
    if (status === "cut" || status === "lost") request.socket.destroy();
    else response.writeHead(status ?? 200, { "content-type": "text/plain" }).end("ok");
  });
  await listening(server, () => server.listen(WEBHOOK_PORT, address));
  return async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
}

function listening(server: EventEmitter, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.once("listening", () => resolve());
    listen();
  });
}

/** Keeps things as numbered files, each whole on the disk before it is acknowledged. */
function keeper(dir: string, folder: string): (what: object) => void {
  let count = 0;
  return (what) => {
    const file = join(dir, "notices", folder, `${String(++count).padStart(6, "0")}.json`);
    writeFileSync(`${file}.new`, JSON.stringify({ at: new Date().toISOString(), ...what }, undefined, 2));
    renameSync(`${file}.new`, file);
  };
}

/** What a request meets; the file is looked at each time, and a new file starts its count anew. */
function faultSwitch(
  dir: string,
  which: keyof NoticeFaults,
): (about: string) => NoticeFault["status"] | undefined {
  let version = "";
  let used = 0;
  return (about) => {
    const stat = statSync(faultsFile(dir), { bigint: true, throwIfNoEntry: false });
    if (stat === undefined) return undefined;
    const now = `${stat.ino} ${stat.mtimeNs}`;
    if (now !== version) used = 0;
    version = now;
    const fault = (JSON.parse(readFileSync(faultsFile(dir), "utf8")) as NoticeFaults)[which];
    if (fault === undefined || !about.includes(fault.match ?? "")) return undefined;
    if (used >= (fault.times ?? Number.POSITIVE_INFINITY)) return undefined;
    used += 1;
    return fault.status;
  };
}
