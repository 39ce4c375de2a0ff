// Other machines: each has its name, its processes and its disk to itself. They share nothing but what machines share:
// Vault, the bucket, the mail hosts.
import { mkdirSync, rmSync, symlinkSync } from "node:fs";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { parse, stringify } from "yaml";
import { z } from "zod";
import { REPOSITORY } from "../../scripts/toolchain/paths.ts";
import type { Place } from "./killed.ts";
import { lab, program } from "./lab.ts";

/** To be given to `begin` and `killedAt` as the place where a runbook runs. */
export interface Machine extends Required<Place> {
  readonly name: string;
  /** Runs `runbook ARGS` there to its end. `env` wins over the machine's own. */
  runbook(args: string[], env?: Place["env"]): ReturnType<typeof program>;
  /** Its disk is gone, with the audit log and whatever else only this machine had. */
  lose(): void;
}

/** A machine with an empty disk. Killing the command that `through` starts kills what runs on it. */
export async function newMachine(): Promise<Machine> {
  const disk = await mkdtemp(join(lab.place.dir, "machine-"));
  const name = basename(disk);
  const env = await furnish(disk);
  const through = [
    ..."unshare --uts --pid --mount-proc --fork --kill-child=KILL sh -c".split(" "),
    'hostname "$0" && exec "$@"',
    name,
  ];
  return {
    name,
    env,
    through,
    runbook(args, more = {}) {
      const [command = "", ...rest] = [...through, join(REPOSITORY, "runbooks", "main.ts"), ...args];
      return program(command, rest, { env: { ...env, ...more } });
    },
    lose: () => rmSync(disk, { recursive: true, force: true }),
  };
}

/** Settings and folders of its own; the cache alone is shared, since it holds nothing but compiled code. */
async function furnish(disk: string): Promise<Record<string, string>> {
  const folder = (at: string): string => {
    mkdirSync(join(disk, at), { recursive: true });
    return join(disk, at);
  };
  const settings = z
    .looseObject({ audit: z.looseObject({ log: z.string() }) })
    .parse(parse(await readFile(join(lab.place.dir, "recovery.yaml"), "utf8")));
  settings.audit.log = join(folder("log"), "audit.jsonl");
  await writeFile(join(disk, "recovery.yaml"), stringify(settings));
  for (const secret of ["webhook-secret", "slack-url"])
    symlinkSync(join(lab.place.dir, secret), join(disk, secret));
  return {
    RECOVERY_CONFIG: join(disk, "recovery.yaml"),
    HOME: folder("home"),
    TMPDIR: folder("tmp"),
    XDG_STATE_HOME: folder("state"),
    XDG_CONFIG_HOME: folder("config"),
    XDG_CACHE_HOME: lab.env.XDG_CACHE_HOME || join(lab.env.HOME ?? "", ".cache"),
  };
}
