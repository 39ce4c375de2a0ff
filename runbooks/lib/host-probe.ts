// What is wrong with a mail host, seen from outside: does each service answer, and with the words of its protocol?
// A hung host accepts connections and stays silent, so that a connection alone proves nothing.
import { connect } from "node:net";
import { connect as connectTls } from "node:tls";
import { IMAP_PORT, SMTP_PORT } from "../../stacks/names.ts";

/** Milliseconds for a service's first words. */
const TIMEOUT_MS = 5_000;

/** What each service of the host said; `problem` is undefined where it greeted as it should. */
export interface Finding {
  readonly service: string;
  readonly problem: string | undefined;
}

/** Probes ssh, SMTP, IMAP and HTTPS at once; takes at most five seconds. */
export async function probeHost(address: string): Promise<Finding[]> {
  const services = [
    { service: "ssh", port: 22, tls: false, greeting: /^SSH-2/ },
    { service: "SMTP", port: SMTP_PORT, tls: true, greeting: /^220/ },
    { service: "IMAP", port: IMAP_PORT, tls: true, greeting: /^\* (?:OK|PREAUTH)/ },
    {
      service: "HTTPS",
      port: 443,
      tls: true,
      greeting: /^HTTP\/1/,
      say: "HEAD /webmail HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n",
    },
  ];
  return Promise.all(
    services.map(async (target) => ({ service: target.service, problem: await problemOf(address, target) })),
  );
}

interface Target {
  readonly port: number;
  readonly tls: boolean;
  readonly greeting: RegExp;
  readonly say?: string;
}

function problemOf(address: string, target: Target): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  // Whether anybody lives there is asked here, not who it is: no secret is sent.
  const socket = target.tls
    ? connectTls({ host: address, port: target.port, rejectUnauthorized: false })
    : connect({ host: address, port: target.port });
  socket.setTimeout(TIMEOUT_MS, () =>
    resolve(`port ${target.port} gave no answer within ${TIMEOUT_MS / 1000} s`),
  );
  const deadline = setTimeout(
    () => resolve(`port ${target.port} gave no answer within ${TIMEOUT_MS / 1000} s`),
    TIMEOUT_MS,
  );
  socket.once("error", (error: NodeJS.ErrnoException) =>
    resolve(`port ${target.port}: ${error.code ?? error.message}`),
  );
  socket.once("close", () => resolve(`port ${target.port} closed the connection without a word`));
  socket.once(target.tls ? "secureConnect" : "connect", () => socket.write(target.say ?? ""));
  socket.once("data", (data: Buffer) => {
    const line = data.toString("latin1").split("\r\n")[0] ?? "";
    resolve(target.greeting.test(line) ? undefined : `port ${target.port} answered '${line.slice(0, 60)}'`);
  });
  return promise.finally(() => {
    clearTimeout(deadline);
    socket.destroy();
  });
}
