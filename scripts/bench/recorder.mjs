// Loaded before a program (`NODE_OPTIONS=--import`): notes what it connects to and starts, and what it has used up when
// it ends, a JSON line each, in the file that BENCH_RECORD names. Plain JavaScript and one write at the end, so that it
// costs next to nothing.
import { subscribe } from "node:diagnostics_channel";
import { appendFileSync, readFileSync } from "node:fs";

const file = process.env.BENCH_RECORD;
const notes = [];
const note = (what) => void notes.push(`${JSON.stringify(what)}\n`);

subscribe("net.client.socket", ({ socket }) =>
  socket.once("connect", () => note({ connected: socket.remoteAddress, port: socket.remotePort })),
);
// The arguments are known once the constructor has returned.
subscribe("child_process", ({ process: child }) => setImmediate(() => note({ started: child.spawnargs })));

process.once("exit", () => {
  const [, peak] = /VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
  const { user, system } = process.cpuUsage();
  note({ peakKib: Number(peak), cpuSeconds: (user + system) / 1e6 });
  if (file) appendFileSync(file, notes.join(""));
});
