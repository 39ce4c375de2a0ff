// Throwaway Vaults as the kernel sees them, from outside.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { begin, type Running } from "./killed.ts";
import { lab } from "./lab.ts";

/** A share a line; more of them than it takes. */
export const SHARES_FILE = join(lab.place.dir, "unseal-keys");
export const shares = (): string[] => readFileSync(SHARES_FILE, "utf8").trim().split("\n");
/** What Vault's file audit device has written. */
export const AUDIT_FILE = join(lab.place.dir, "vault", "audit.log");

/** Starts `verify-backup --restore` with the lab's shares on standard input. */
export const beginRestore = (env: Record<string, string> = {}): Running =>
  begin(["verify-backup", "--restore"], env, ["sh", "-c", `exec "$0" "$@" < '${SHARES_FILE}'`]);

export interface Seen {
  pid: number;
  /** When it was started, in the kernel's ticks: a number may be given to another process. */
  started: string;
  command: string;
}

/** Every process below one, namespaces or not. */
export function descendants(pid: number): Seen[] {
  const all = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const found = all.flatMap((name) => look(Number(name)) ?? []);
  const below = (parent: number): (Seen & { parent: number })[] =>
    found.filter((one) => one.parent === parent).flatMap((one) => [one, ...below(one.pid)]);
  return below(pid);
}

/** Its Vault. Fails if there is none. */
export function serverAmong(processes: readonly Seen[]): Seen {
  const found = processes.find(({ command }) => command.startsWith("/vault server "));
  if (found === undefined) throw new Error(`No Vault among ${processes.map(({ command }) => command)}`);
  return found;
}

/** Those that are there still; a dead one that nobody has looked at isn't. */
export const alive = (processes: readonly Seen[]): Seen[] =>
  processes.filter(({ pid, started }) => look(pid)?.started === started);

function look(pid: number): (Seen & { parent: number }) | undefined {
  try {
    const [, rest = ""] = /\) (.*)$/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8")) ?? [];
    const fields = rest.split(" ");
    if (fields[0] === "Z") return undefined;
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
    return { pid, parent: Number(fields[1]), started: fields[19] ?? "", command };
  } catch {
    return undefined;
  }
}
