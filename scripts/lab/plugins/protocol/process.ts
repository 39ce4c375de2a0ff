// The life of a plugin's process: it tells the engine its port, and ends when the engine asks it to or is
// gone. Without the latter an engine that was killed hard would leave plugins, and what they started,
// running for ever: the engine holds the other end of standard input and never writes to it.
import * as grpc from "@grpc/grpc-js";

/** Aborted as soon as this plugin must end. */
export const ending: AbortController = new AbortController();

/** Listens on a free loopback port, prints it for the engine, and ends the process when it's time. */
export function listen(server: grpc.Server): void {
  server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) throw error;
    process.stdout.write(`${port}\n`);
  });
  const end = () => {
    ending.abort(new Error("cancelled"));
    // A turn of the event loop, so that whatever listens to `ending` has killed what it started.
    setImmediate(() => process.exit(0));
  };
  process.on("SIGINT", end);
  process.on("SIGTERM", end);
  process.stdin.on("end", end).on("error", end).resume();
}
