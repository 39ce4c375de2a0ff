// What the console's pages share: the settings, who is signed in, what runs.
import type { HttpBindings } from "@hono/node-server";
import type { Hono } from "hono";
import type { Settings } from "../lib/settings.ts";
import type { Runs } from "./runs.ts";
import type { Session, Sessions } from "./sessions.ts";

export interface Console {
  readonly settings: Settings;
  /** The server's environment, without any login for Vault. For whoever is signed in: `session.env`. */
  readonly env: NodeJS.ProcessEnv;
  readonly sessions: Sessions;
  readonly runs: Runs;
  readonly limits: Limits;
  /** Over TLS: cookies are for TLS alone then. */
  readonly secure: boolean;
  /** The port listened on: browsers keep one jar of cookies for all ports of a machine. */
  readonly port: number;
}

/** How long things last. */
export interface Limits {
  /** Milliseconds without a request by the person after which a session ends. */
  readonly idleMs: number;
  /** Seconds for which a new credential can be seen. */
  readonly displaySeconds: number;
  /** Milliseconds that a refused sign-in takes at least, whatever was wrong with it. */
  readonly refusalMs: number;
  /** Refused sign-ins within five minutes: for one name, from one address, and all together. */
  readonly refusals: { readonly name: number; readonly address: number; readonly all: number };
}

export const LIMITS: Limits = {
  idleMs: 15 * 60_000,
  displaySeconds: 15 * 60,
  refusalMs: 700,
  refusals: { name: 5, address: 15, all: 60 },
};

export interface Env {
  Variables: {
    /** Whoever is signed in; on every page but the sign-in. */
    session: Session;
  };
  Bindings: HttpBindings;
}

export type App = Hono<Env>;
