// The programs in the containers that act on the running mail server: dovecot's doveadm and Mailu's flask. A lab
// host's docker asks for them over a Unix socket, since the server alone knows its connections and keeps its
// database in memory.
import { chmodSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import type { Mailu } from "./api-call.ts";
import { doveadm } from "./doveadm.ts";
import type { Ended, ExecCall } from "./exec-call.ts";
import type { FaultSwitch } from "./faults.ts";
import { flask } from "./flask.ts";

/** Answers calls on the socket at `path`; resolves once it listens. */
export async function serveExec(mailu: Mailu, faults: FaultSwitch, path: string): Promise<void> {
  rmSync(path, { force: true });
  const server = createServer({ allowHalfOpen: true }, async (socket) => {
    socket.on("error", () => socket.destroy());
    try {
      const call = JSON.parse(await text(socket)) as ExecCall;
      socket.end(JSON.stringify(await run(mailu, faults, call)));
    } catch (error) {
      // What ends a Python program: its trace goes to standard error.
      socket.end(JSON.stringify({ code: 1, stdout: "", stderr: `${error}\n` } satisfies Ended));
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => resolve());
  });
  chmodSync(path, 0o600);
}

async function run(mailu: Mailu, faults: FaultSwitch, call: ExecCall): Promise<Ended> {
  const { service, program, args } = call;
  const fault = faults.forExec([service, program, ...args].join(" "));
  if (fault?.delay !== undefined) await sleep(fault.delay);
  if (fault?.hang) await new Promise(() => {});
  if (fault?.code !== undefined) return { code: fault.code, stdout: "", stderr: "Error: told to fail\n" };
  if (program === "doveadm" && (service === "front" || service === "imap"))
    return doveadm(mailu.connections, service, args);
  if (program === "flask" && service === "admin") return flask(mailu, args, call.stdin);
  return {
    code: 127,
    stdout: "",
    stderr: `OCI runtime exec failed: exec failed: unable to start container process: exec: "${program}": executable file not found in $PATH\n`,
  };
}
