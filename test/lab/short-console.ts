// A console on the lab whose times are short, as a process: `node short-console.ts '{"idleMs": 1000}'`. The runbook has no
// flag for that: nobody but a test should see a password wiped after a second.
import { LIMITS } from "../../runbooks/console/context.ts";
import { startConsole } from "../../runbooks/console/server.ts";
import { loadSettings } from "../../runbooks/lib/settings.ts";

const served = await startConsole({
  settings: loadSettings(process.env),
  env: process.env,
  address: { host: "127.0.0.1", port: 0, tls: undefined },
  tls: undefined,
  limits: { ...LIMITS, ...JSON.parse(process.argv[2] ?? "{}") },
});
console.log(`The console is at ${served.url}`);
process.once("SIGINT", async () => {
  await served.end(async (text) => console.log(text));
  process.exit(0);
});
