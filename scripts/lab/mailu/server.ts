// The mail stand-in: Mailu as far as this project meets it, in one process. Run by a lab host's docker as
// `node server.ts CONFIG`; traps of the real one are kept on purpose.
import { once } from "node:events";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:https";
import { flushCompileCache } from "node:module";
import type { Server as NetServer } from "node:net";
import { dirname } from "node:path";
import { Accounts } from "./accounts.ts";
import type { Mailu } from "./api-call.ts";
import { type KeyPair, watchCertificate } from "./certificate.ts";
import { type MailuConfig, readSettings } from "./config.ts";
import { Connections } from "./connections.ts";
import { DkimKeys } from "./dkim.ts";
import { serveExec } from "./exec.ts";
import { FaultSwitch } from "./faults.ts";
import { imapServer } from "./imap.ts";
import { Limiter } from "./limits.ts";
import { incoming, submission } from "./smtp.ts";
import { replaceFile, Store } from "./store.ts";
import { redirector, website } from "./web.ts";

const [configFile] = process.argv.slice(2);
if (configFile === undefined) throw new Error("usage: server.ts CONFIG");
await serve(JSON.parse(readFileSync(configFile, "utf8")) as MailuConfig);
// Node does it on exit only, and this process is always killed.
flushCompileCache();

async function serve(config: MailuConfig): Promise<void> {
  rmSync(config.readyFile, { force: true });
  mkdirSync(dirname(config.accessLog), { recursive: true });
  const mailu = await admin(config);
  const faults = new FaultSwitch();
  await serveExec(mailu, faults, config.execSocket);
  const open = opener(config);
  await open(25, incoming(mailu, config.paths).server);
  await open(80, redirector());
  await tlsPorts(config, mailu, faults, open);
  replaceFile(config.readyFile, JSON.stringify({ pid: process.pid, ports: config.ports }));
}

/** What Mailu's admin container reads once, when its process starts. */
async function admin({ paths, ...config }: MailuConfig): Promise<Mailu> {
  const settings = readSettings({ paths, ...config });
  const store = new Store(paths.data);
  const limiter = new Limiter(paths.redis, settings);
  const accounts = new Accounts(store, limiter);
  const complaint = await accounts.initialAdmin(settings);
  if (complaint !== undefined) console.error(complaint);
  return {
    settings,
    store,
    limiter,
    accounts,
    dkim: new DkimKeys(paths.dkim, settings("DKIM_SELECTOR", "dkim")),
    connections: new Connections(),
  };
}

type Open = (port: number, server: NetServer) => Promise<void>;

function opener(config: MailuConfig): Open {
  return async (port, server) => {
    if (!config.ports.includes(port)) return;
    server.listen(port, config.address);
    await once(server, "listening");
  };
}

/** Opens 443, 465, 587 and 993 once there is a certificate; resolves at once while there is none. */
async function tlsPorts(config: MailuConfig, mailu: Mailu, faults: FaultSwitch, open: Open): Promise<void> {
  let renew: ((pair: KeyPair) => void) | undefined;
  let opened: Promise<unknown> = Promise.resolve();
  watchCertificate(config.paths.certs, (pair) => {
    if (renew !== undefined) return renew(pair);
    const web: Server = createServer(pair, website(mailu, faults, config));
    const smtp = submission(mailu, faults, config.paths, pair, "implicit");
    const startTls = submission(mailu, faults, config.paths, pair, "starttls");
    const imap = imapServer(mailu, faults, config.paths.mail, pair);
    for (const one of [smtp, startTls]) one.on("error", () => {});
    renew = (next) => {
      web.setSecureContext(next);
      imap.setSecureContext(next);
      for (const one of [smtp, startTls]) one.updateSecureContext(next);
    };
    opened = Promise.all([
      open(443, web),
      open(465, smtp.server),
      open(587, startTls.server),
      open(993, imap),
    ]);
  });
  await opened;
}
