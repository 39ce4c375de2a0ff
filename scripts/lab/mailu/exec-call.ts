// How a lab host's docker has the programs in the containers answered by the running mail server: one JSON text each
// way over a Unix socket.
import { connect } from "node:net";
import { text } from "node:stream/consumers";

/** The programs that the mail server answers for. */
export const PROGRAMS: readonly string[] = ["doveadm", "flask"];

/** `docker compose exec SERVICE PROGRAM ARGS`. */
export interface ExecCall {
  service: string;
  program: string;
  args: string[];
  stdin: string;
}

/** How a program ended, and what it printed. */
export interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a program in the mail server that listens at `path`. Rejects if none does. */
export async function askExec(path: string, call: ExecCall): Promise<Ended> {
  const socket = connect(path);
  socket.end(JSON.stringify(call));
  return JSON.parse(await text(socket)) as Ended;
}
