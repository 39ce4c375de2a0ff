// Loaded before a program (`NODE_OPTIONS=--import`): notes what it connects to and what it starts, a JSON line each, in
// the file that BENCH_RECORD names. Plain JavaScript, so that it costs the program next to nothing.
import { subscribe } from "node:diagnostics_channel";
import { appendFileSync } from "node:fs";

const file = process.env.BENCH_RECORD;
const note = (what) => file && appendFileSync(file, `${JSON.stringify(what)}\n`);

subscribe("net.client.socket", ({ socket }) =>
  socket.once("connect", () => note({ connected: socket.remoteAddress, port: socket.remotePort })),
);
// The arguments are known once the constructor has returned.
subscribe("child_process", ({ process: child }) => setImmediate(() => note({ started: child.spawnargs })));
