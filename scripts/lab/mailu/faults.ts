// Faults on demand: test equipment beside the mail stand-in. A test writes a file on the host's disk and the
// next request obeys; deleting the file ends them all.
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { replaceFile } from "./store.ts";

export interface ApiFault {
  /** Only calls whose `METHOD /path` (below /api/v1) starts with this; all of them when left out. */
  match?: string;
  /** Only this many calls; no end when left out. */
  times?: number;
  /** ms to wait before anything happens. */
  delay?: number;
  /** Wait, before anything happens, until the test opens the gate of this name: see `atGate`. */
  gate?: string;
  /** Answer with this code and apply nothing. */
  status?: 400 | 401 | 403 | 404 | 429 | 500 | 502 | 503;
  /** Never answer, apply nothing. */
  hang?: boolean;
  /** Answer 200 and apply nothing. */
  ignore?: boolean;
  /** Apply the call, then cut the connection instead of answering. */
  loseAnswer?: boolean;
}

/** A fault of the SMTP or IMAP login. */
export interface LoginFault {
  times?: number;
  /** ms before the answer. */
  delay?: number;
  hang?: boolean;
  /** Answer `451 4.3.2` (SMTP) or `NO [LIMIT]` (IMAP), whatever the password. */
  limited?: boolean;
  /** Refuse, whatever the password. */
  refused?: boolean;
  /** Close the connection instead of answering. */
  cut?: boolean;
}

/** A fault of a program run in a container. */
export interface ExecFault {
  /** Only calls whose `SERVICE PROGRAM ARGS` starts with this; all of them when left out. */
  match?: string;
  times?: number;
  /** ms before anything happens. */
  delay?: number;
  hang?: boolean;
  /** End with this code and do nothing. */
  code?: number;
}

export interface Faults {
  api?: ApiFault[];
  smtp?: LoginFault[];
  imap?: LoginFault[];
  exec?: ExecFault[];
}

/** Where the file lies on a host's disk. */
const FAULTS_FILE = "/lab/faults.json";

/** Files on a host's disk by which a call says that it waits at a gate, and a test that it may go on. */
export const gateFiles = (disk: string, gate: string) => ({
  arrived: join(disk, "lab", `${gate}.arrived`),
  open: join(disk, "lab", `${gate}.open`),
});

/** ms between two looks at a gate. */
const GATE_LOOK = 20;

/** For tests: makes the host whose disk is at `disk` fail so from now on; undefined ends all faults. */
export function setFaults(disk: string, faults: Faults | undefined): void {
  const file = join(disk, FAULTS_FILE);
  if (faults === undefined) rmSync(file, { force: true });
  else replaceFile(file, JSON.stringify(faults), 0o644);
}

export class FaultSwitch {
  #version = "";
  #faults: Faults = {};
  #used = new Map<ApiFault | LoginFault | ExecFault, number>();

  /** The fault that a call of the API meets, if any. */
  forCall(method: string, path: string): ApiFault | undefined {
    this.#reload();
    return this.#take(this.#faults.api?.filter(({ match = "" }) => `${method} ${path}`.startsWith(match)));
  }

  /** The fault that a login meets, if any; waits for its delay, or for ever if it is to hang. */
  async forLogin(protocol: "smtp" | "imap"): Promise<"limited" | "refused" | "cut" | undefined> {
    this.#reload();
    const fault = this.#take(this.#faults[protocol]);
    if (fault?.delay !== undefined) await sleep(fault.delay);
    if (fault?.hang) await new Promise(() => {});
    if (fault?.cut) return "cut";
    return fault?.limited ? "limited" : fault?.refused ? "refused" : undefined;
  }

  /** The fault that a program in a container meets, if any; `call` is `SERVICE PROGRAM ARGS`. */
  forExec(call: string): ExecFault | undefined {
    this.#reload();
    return this.#take(this.#faults.exec?.filter(({ match = "" }) => call.startsWith(match)));
  }

  /** Waits until the gate is open. */
  async atGate(gate: string): Promise<void> {
    const { arrived, open } = gateFiles("/", gate);
    writeFileSync(arrived, "");
    while (!existsSync(open)) await sleep(GATE_LOOK);
  }

  #take<T extends ApiFault | LoginFault | ExecFault>(candidates: T[] = []): T | undefined {
    const fault = candidates.find(
      (one) => (this.#used.get(one) ?? 0) < (one.times ?? Number.POSITIVE_INFINITY),
    );
    if (fault !== undefined) this.#used.set(fault, (this.#used.get(fault) ?? 0) + 1);
    return fault;
  }

  #reload(): void {
    const stat = statSync(FAULTS_FILE, { bigint: true, throwIfNoEntry: false });
    const version = stat === undefined ? "" : `${stat.ino} ${stat.mtimeNs}`;
    if (version === this.#version) return;
    this.#version = version;
    this.#faults = version === "" ? {} : (JSON.parse(readFileSync(FAULTS_FILE, "utf8")) as Faults);
    this.#used = new Map();
  }
}
