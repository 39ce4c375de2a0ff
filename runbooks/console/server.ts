// The console's server: who may come in, which page answers what, and how all of it ends.
import type { Server } from "node:http";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import { serveStatic } from "@hono/node-server/serve-static";
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { html } from "hono/html";
import { RunbookError } from "../lib/errors.ts";
import type { Settings } from "../lib/settings.ts";
import { type App, type Console, type Env, LIMITS, type Limits } from "./context.ts";
import { errorPage, page } from "./layout.ts";
import { hostCheck, isLoopback, type ServerAddress, type Tls } from "./listen.ts";
import { backupsPages } from "./pages/backups.ts";
import { drillsPages } from "./pages/drills.ts";
import { incidentsPages } from "./pages/incidents.ts";
import { tenantPages } from "./pages/tenant.ts";
import { tenantsPages } from "./pages/tenants.ts";
import { resetPages } from "./reset-dialog.ts";
import { respondPages } from "./respond-pages.ts";
import { runPages } from "./run-pages.ts";
import { Runs } from "./runs.ts";
import { security } from "./security.ts";
import { Sessions } from "./sessions.ts";
import { requireSession, signInPages } from "./sign-in.ts";
import { startPages } from "./start-pages.ts";

/** No form of ours is longer. */
const LONGEST_BODY = 256 * 1024;

export interface Served {
  readonly url: string;
  /** Asks what runs to end after its step, waits for it, signs everybody out. Says with `note` what is left; returns it. */
  end(note: (text: string) => Promise<void>): Promise<Record<string, unknown>[]>;
}

export interface ConsoleOptions {
  readonly settings: Settings;
  readonly env: NodeJS.ProcessEnv;
  readonly address: ServerAddress;
  readonly tls: Tls | undefined;
  /** By default as people are promised. */
  readonly limits?: Partial<Limits>;
}

/** @throws RunbookError (exit 2) where that address can't be listened on. */
export async function startConsole({ settings, env, address, tls, limits }: ConsoleOptions): Promise<Served> {
  // Its pages need the port that it really has.
  const app: App = new Hono<Env>();
  const server = serverOf(app, tls);
  const port = await listening(server, address);
  const all = { ...LIMITS, ...limits };
  const runs = new Runs(all);
  const sessions = new Sessions(settings, env, all.idleMs, (session) => runs.endedOf(session));
  const secure = tls !== undefined;
  route(app, { settings, env, sessions, runs, limits: all, secure, port }, hostCheck(address, port, tls));
  return {
    url: urlOf(address, port, secure),
    async end(note) {
      server.close();
      const left = await runs.endAll(note);
      await sessions.endAll();
      server.closeAllConnections();
      return left;
    },
  };
}

function route(app: App, console: Console, isOwnHost: ReturnType<typeof hostCheck>): void {
  app.use(security({ isOwnHost, secure: console.secure }));
  app.use(bodyLimit({ maxSize: LONGEST_BODY }));
  app.use("/public/*", serveStatic({ root: import.meta.dirname }));
  signInPages(app, console);
  app.use(requireSession(console));
  const shown = [tenantsPages, tenantPages, incidentsPages, backupsPages, drillsPages];
  const started = [resetPages, respondPages, startPages, runPages];
  for (const pages of [...shown, ...started]) pages(app, console);
  app.notFound((c) =>
    page(c, { title: "No such page" }, html`<h1>No such page</h1><p><a href="/">To the tenants</a></p>`, 404),
  );
  app.onError((error, c) => errorPage(c, error));
}

function serverOf(app: App, tls: Tls | undefined): Server {
  const server =
    tls === undefined
      ? createAdaptorServer({ fetch: app.fetch, createServer })
      : createAdaptorServer({ fetch: app.fetch, createServer: createTlsServer, serverOptions: tls });
  return server as Server;
}

async function listening(server: Server, { host, port }: ServerAddress): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => {
      reject(
        new RunbookError(`The console can't listen on ${host}, port ${port}: ${error.message}`, {
          exit: "usage",
          next: "npx runbook console --port 0   # takes any port that is free",
          cause: error,
        }),
      );
    });
    server.listen(port, host, resolve);
  });
  return (server.address() as AddressInfo).port;
}

function urlOf({ host }: ServerAddress, port: number, secure: boolean): string {
  const name = host.includes(":") ? `[${host}]` : host;
  return `${secure ? "https" : "http"}://${isLoopback(host) || secure ? name : host}:${port}/`;
}
