// The process that a lab lives in when `npm run lab` started it: `daemon.ts FOLDER [bare]`. It reports to its starter
// over IPC and goes on without it once the lab is ready.

import { LabIsRunning } from "./folder.ts";
import { startLab } from "./lab.ts";

/** What the daemon tells its starter. */
export type Report =
  | { kind: "progress"; line: string }
  | { kind: "ready" }
  | { kind: "running"; message: string }
  | { kind: "failed"; message: string };

const dir = process.argv[2];
if (dir === undefined) throw new Error("The lab's folder is missing: run `npm run lab`");

const starting = new AbortController();
let ready = false;
let end = (): void => starting.abort(new Error("The lab was told to end while it was starting"));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => end());
// A starter that dies before the lab is ready (Ctrl-C, a closed terminal) takes it along.
process.on("disconnect", () => {
  if (!ready) end();
});

try {
  const lab = await startLab({
    dir,
    bare: process.argv[3] === "bare",
    signal: starting.signal,
    onProgress: (line) => tell({ kind: "progress", line }),
  });
  ready = true;
  let ending = false;
  end = (): void => {
    if (ending) return;
    ending = true;
    void lab.stop().then(() => process.exit(0));
  };
  if (starting.signal.aborted) end();
  else tell({ kind: "ready" });
  // Nothing else may keep this process alive, and nothing but a signal ends it.
  setInterval(() => {}, 2 ** 30);
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  tell({ kind: error instanceof LabIsRunning ? "running" : "failed", message });
  process.exitCode = 1;
  if (process.connected) process.disconnect();
}

function tell(report: Report): void {
  if (process.connected) process.send?.(report);
}
