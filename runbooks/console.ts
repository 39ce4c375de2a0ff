// The incident console: a web page on this machine from which a person resets, responds and sees how everything stands,
// with his own token. It starts the very runbooks, in this process.
import { z } from "zod";
import type { ServerAddress } from "./console/listen.ts";
import { isLoopback, readTls } from "./console/listen.ts";
import { usage } from "./lib/flags.ts";
import { defineRunbook, type Run } from "./lib/runbook.ts";

/** Fixed, so that a bookmark and an identity provider's list of redirect URIs know it. */
const PORT = 8423;

const flags = z.object({
  host: z.string().min(1).default("127.0.0.1").describe("the address or name to listen on"),
  port: z.number().int().min(0).max(65_535).default(PORT).describe("0 takes any that is free"),
  tlsCert: z
    .string()
    .optional()
    .describe("PEM file with the certificate; needed on any address but this machine's own"),
  tlsKey: z.string().optional().describe("PEM file with its private key"),
});

export default defineRunbook({
  name: "console",
  summary: "serve the incident console: a web page that resets, responds and shows how everything stands",
  example: "npx runbook console",
  flags,
  run: async (run) => {
    const address = addressOf(run.flags);
    const settings = await run.check("read the settings", () => run.settings());
    const tls = await run.check("read the certificate", () => readTls(address));
    const served = await run.change(`listen on ${address.host}`, async () => {
      const { startConsole } = await import("./console/server.ts");
      return startConsole({ settings, env: forgetLogin(run), address, tls });
    });
    if (served === undefined) return { address: null };
    await run.note(`The console is at ${served.url}`);
    await run.note("Sign in there with your own token. Ctrl-C ends it: what runs then ends after its step.");
    await new Promise<void>((resolve) => {
      run.signal.addEventListener("abort", () => resolve(), { once: true });
    });
    const left = await served.end((text) => run.note(text));
    return { address: served.url, runs: left };
  },
});

/** Refuses what would send tokens over a network in the clear. */
function addressOf({ host, port, tlsCert, tlsKey }: z.infer<typeof flags>): ServerAddress {
  if ((tlsCert === undefined) !== (tlsKey === undefined)) throw usage("--tls-cert and --tls-key go together");
  const tls = tlsCert === undefined || tlsKey === undefined ? undefined : { cert: tlsCert, key: tlsKey };
  if (tls === undefined && !isLoopback(host)) {
    throw usage(
      `--host ${host} is reached over a network: without TLS everybody on the way could read your token`,
      "add --tls-cert and --tls-key, or leave out --host and come through ssh -L",
    );
  }
  return { host, port, tls };
}

/** Each person brings his own login: nothing here, and no library that falls back on the environment, may use another's. */
function forgetLogin(run: Run<unknown>): NodeJS.ProcessEnv {
  const env = { ...run.env };
  for (const name of ["VAULT_TOKEN", "VAULT_ROLE_ID", "VAULT_SECRET_ID"]) {
    delete env[name];
    delete process.env[name];
  }
  return env;
}
