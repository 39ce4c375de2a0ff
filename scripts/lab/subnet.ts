// Every lab has a loopback /24 of its own, so that several run side by side and each can use the real ports
// (22, 465, 993 …). Which one is free can't be seen from outside: a lab claims its own by a bound guard port,
// which the kernel gives back however the lab ends.

import { createServer, type Server } from "node:net";

const GUARD_HOST = 254;
const GUARD_PORT = 7;
/** Ports that the lab's programs need on addresses of their own; a program listening on 0.0.0.0 takes them all. */
const NEEDED = [22, 25, 53, 80, 443, 465, 993, 2525, 5000, 8085, 8200];

/** A claimed loopback /24. */
export interface Subnet {
  /** The first three bytes, e.g. `127.31.7`. */
  prefix: string;
  /** Vault, the AWS endpoint and the lab's own services. */
  services: string;
  /** Gives the /24 back. */
  release(): Promise<void>;
}

/** Elastic IPs lie in .10 to .99, hosts that no cloud knows in .100 to .199. */
export const ELASTIC = { first: 10, last: 99 };
export const EXISTING = { first: 100, last: 199 };

/** Claims a random free /24 of 127.20.0.0 to 127.250.255.0. Throws if another program holds a needed port everywhere. */
export async function claimSubnet(): Promise<Subnet> {
  for (let attempt = 0; attempt < 50; attempt++) {
    const prefix = `127.${20 + Math.floor(Math.random() * 231)}.${Math.floor(Math.random() * 256)}`;
    const guard = await listen(`${prefix}.${GUARD_HOST}`, GUARD_PORT).catch(() => undefined);
    if (guard === undefined) continue;
    try {
      await needPorts(`${prefix}.1`);
    } catch (error) {
      await close(guard);
      throw error;
    }
    guard.unref();
    return { prefix, services: `${prefix}.1`, release: () => close(guard) };
  }
  throw new Error("No free loopback network: 50 labs can't be running; look at `ss -ltn | grep ':7 '`");
}

/** Throws unless `url` names an address of the loopback: a lab never talks to anything else. */
export function assertLoopback(name: string, url: string): void {
  const host = URL.canParse(url) ? new URL(url).hostname : "";
  if (/^127(\.\d{1,3}){3}$/.test(host)) return;
  throw new Error(
    `${name} is '${url}', which isn't on the loopback: lab and drill refuse to touch anything but their own servers`,
  );
}

async function needPorts(address: string): Promise<void> {
  for (const port of NEEDED) {
    try {
      await close(await listen(address, port));
    } catch (cause) {
      throw new Error(
        `The lab can't listen on ${address}:${port}: another program holds this port on every address ` +
          `(see \`ss -ltnp 'sport = :${port}'\`), or the lab isn't run as root`,
        { cause },
      );
    }
  }
}

function listen(host: string, port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", reject);
    server.listen({ host, port, exclusive: true }, () => resolve(server));
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}
