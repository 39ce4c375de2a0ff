// What a reset sends to its servers: read from the servers' own logs (Vault's audit device, Mailu's access log, the
// cloud endpoint's), and for logins, ssh and notices from what the process connected to and started.
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { IMAP_PORT, SMTP_PORT } from "../../stacks/names.ts";
import type { Finished } from "../lab/children.ts";

/** The logs of a lab's servers. */
export interface Logs {
  readonly vault: string;
  readonly cloud: string;
  readonly mailu: string;
}

export interface Recording {
  /** Every exchange as one text, such as `Vault read smtp/data/acme/admin`, in the order of each server's log. */
  readonly exchanges: string[];
  /** Programs that were started, each with its arguments. */
  readonly commands: string[][];
}

/** Records what `run` exchanges. The lab must serve nobody else meanwhile. */
export async function record(
  logs: Logs,
  run: (env: NodeJS.ProcessEnv) => Promise<Finished>,
): Promise<Recording> {
  const scratch = mkdtempSync(join(tmpdir(), "bench-"));
  const file = join(scratch, "connections");
  const since = { vault: size(logs.vault), cloud: size(logs.cloud), mailu: size(logs.mailu) };
  const recorder = new URL("recorder.mjs", import.meta.url).href;
  try {
    const done = await run({ NODE_OPTIONS: `--import=${recorder}`, BENCH_RECORD: file });
    if (done.code !== 0) throw new Error(`it ended with ${done.code}: ${done.stderr.trim()}`);
    const noted = lines(file, 0).map((line) => Noted.parse(JSON.parse(line)));
    const exchanges = [
      ...lines(logs.vault, since.vault).flatMap(vaultRequest),
      ...lines(logs.mailu, since.mailu).map(mailuRequest),
      ...lines(logs.cloud, since.cloud).flatMap(bucketRequest),
      ...noted.flatMap(({ port }) => (port === undefined ? [] : (SERVICES.get(port) ?? []))),
      ...noted.flatMap(({ started }) => (started === undefined ? [] : ["ssh session"])),
    ];
    return { exchanges, commands: noted.flatMap(({ started }) => (started === undefined ? [] : [started])) };
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** How often each exchange stands in the list, the most frequent first. */
export function counted(exchanges: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const one of exchanges) counts.set(one, (counts.get(one) ?? 0) + 1);
  return new Map([...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1)));
}

/** What has a log of its own (Vault, Mailu's API, the bucket) isn't counted by its connections. */
const SERVICES = new Map([
  [SMTP_PORT, ["SMTP login"]],
  [IMAP_PORT, ["IMAP login"]],
  [2525, ["mail to the relay"]],
  [8085, ["post to a webhook"]],
]);

const Noted = z.object({ port: z.number().optional(), started: z.array(z.string()).optional() });
const AuditLine = z.object({
  type: z.string(),
  request: z.object({ operation: z.string(), path: z.string() }),
});

function vaultRequest(line: string): string[] {
  const { type, request } = AuditLine.parse(JSON.parse(line));
  if (type !== "request") return [];
  return [`Vault ${request.operation} ${request.path.replace(/(entity\/id\/).*/, "$1…")}`];
}

/** `TIME ADDRESS METHOD PATH STATUS`. */
function mailuRequest(line: string): string {
  const [, , method, path] = line.split(" ");
  return `Mailu ${method} ${path}`;
}

function bucketRequest(line: string): string[] {
  const [, method, bucket, key = "", query = ""] =
    /(GET|PUT|DELETE|HEAD) \/([^/ ?]*)\/?([^ ?]*)\??(\S*) HTTP/.exec(line) ?? [];
  if (method === undefined || bucket === undefined || bucket === "moto-api") return [];
  const what = key === "" ? `list ${/prefix=([^&]*)/.exec(query)?.[1] ?? ""}` : `${key.split("/")[0]}/…`;
  return [`S3 ${method} ${what}`];
}

const size = (file: string): number => statSync(file).size;
const lines = (file: string, from: number): string[] =>
  readFileSync(file)
    .subarray(from)
    .toString("utf8")
    .split("\n")
    .filter((line) => line !== "");
