// The ports of a mail host, seen from outside: what is declared must answer, and what listens besides must not.
import { connect } from "node:net";
import { type At, about, unasked } from "./drift-host-looks.ts";
import type { Finding } from "./findings.ts";
import type { Said } from "./host-commands.ts";

/** Milliseconds for a connection. */
const TIMEOUT_MS = 5_000;

/**
 * @param said `ss -Hltn`; @param down a container doesn't run, so that closed ports are no finding of their own.
 */
export async function portFindings(at: At, said: Said, { down }: { down: boolean }): Promise<Finding[]> {
  const { address, ports } = at.declared;
  if (said.code !== 0) throw unasked(at, "what listens on it", said);
  const others = listening(said.text, address).filter((port) => !ports.includes(port));
  const [closed, open] = await Promise.all([
    down ? [] : which(address, ports, false),
    // A firewall may shut what listens: only what can be reached from here is open.
    which(address, others, true),
  ]);
  return [
    ...closed.map((port) => ({
      ...about(at, "port-closed", String(port)),
      what: `port ${port} of ${address} takes no connection from here, though all containers run`,
      declared: "open",
      found: "closed",
      mend: `pulumi up --stack tenant-${at.tenant}   # its firewall; where nothing listens: ${at.ssh} docker compose -f /opt/mailu/docker-compose.yml restart`,
    })),
    ...open.map((port) => ({
      ...about(at, "port-open", String(port)),
      what: `something answers on port ${port} of ${address}, which no stack declares`,
      declared: `open: ${ports.join(", ")}`,
      found: "open",
      mend: `${at.ssh} "ss -ltnp 'sport = :${port}'"   # says which program it is: end it, and keep it from starting again`,
    })),
  ];
}

/** Ports that something listens on for others than the host itself. */
function listening(text: string, address: string): number[] {
  const ports = text.split("\n").flatMap((line) => {
    const local = line.trim().split(/\s+/)[3] ?? "";
    const [, host = "", port = ""] = /^(.*):(\d+)$/.exec(local) ?? [];
    const bare = host.replace(/^\[(?:::ffff:)?|\]$/g, "").replace(/%.*/, "");
    const own = bare === "::1" || (bare.startsWith("127.") && bare !== address);
    return port === "" || own ? [] : [Number(port)];
  });
  return [...new Set(ports)].sort((one, other) => one - other);
}

/** Those of `ports` that are open, or those that aren't. */
async function which(address: string, ports: readonly number[], wanted: boolean): Promise<number[]> {
  const are = await Promise.all(ports.map((port) => isOpen(address, port)));
  return ports.filter((_, index) => are[index] === wanted);
}

function isOpen(host: string, port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect({ host, port });
  // On a busy machine the connection may stand while the clock is looked at first: then it is seen before this ends.
  const deadline = setTimeout(() => setImmediate(() => resolve(false)), TIMEOUT_MS);
  socket.once("connect", () => resolve(true));
  socket.once("error", () => resolve(false));
  return promise.finally(() => {
    clearTimeout(deadline);
    socket.destroy();
  });
}
