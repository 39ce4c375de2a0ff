// Who works on a stack just now. The engine itself looks at a lock only before it writes: a preview in the middle of
// somebody's `pulumi up` would take half of that for drift.
import { readdir, readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { messageOf, RunbookError } from "./errors.ts";
import { pulumi, StackLocked } from "./pulumi.ts";
import { openS3 } from "./s3-client.ts";
import type { Settings } from "./settings.ts";

/** The lock's folder, in a bucket or a folder that holds Pulumi's state. */
const lockFolder = (project: string, stack: string) => `.pulumi/locks/organization/${project}/${stack}/`;

const Lock = z.object({ pid: z.number(), hostname: z.string() });
const WhoAmI = z.object({ url: z.string() });

/** Where the state lies, as the engine itself has it. */
export async function backendUrl(settings: Settings, env: NodeJS.ProcessEnv): Promise<URL> {
  return new URL(
    WhoAmI.parse(JSON.parse(await pulumi(settings, ["whoami", "--json"], undefined, env, 60))).url,
  );
}

/**
 * @throws StackLocked (exit 4) where somebody works on the stack. Of a backend that is neither a folder nor a bucket in
 * S3 this can't be told.
 */
export async function requireUnlocked(
  backend: URL,
  project: string,
  stack: string,
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const folder = lockFolder(project, stack);
  const [first] =
    backend.protocol === "file:"
      ? await inFolder(join(stateIn(backend), folder))
      : backend.protocol === "s3:"
        ? await inBucket(backend, folder, env)
        : [];
  if (first === undefined) return;
  const lock = Lock.safeParse(JSON.parse(first)).data;
  throw new StackLocked(lock?.hostname ?? "an unknown host", lock?.pid ?? 0, ["preview", "--stack", stack]);
}

/** `file://~` is what `pulumi login --local` keeps. */
const stateIn = ({ hostname: host, pathname }: URL): string =>
  join(host === "~" ? homedir() : "/", decodeURIComponent(pathname));

async function inFolder(folder: string): Promise<string[]> {
  try {
    const names = (await readdir(folder)).filter((name) => name.endsWith(".json"));
    return await Promise.all(names.map((name) => readFile(join(folder, name), "utf8")));
  } catch (error) {
    // No folder, or a lock that has gone since.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

async function inBucket(backend: URL, folder: string, env: NodeJS.ProcessEnv): Promise<string[]> {
  const Bucket = backend.hostname;
  const Prefix = [backend.pathname.replace(/^\/|\/$/g, ""), folder].filter((part) => part !== "").join("/");
  try {
    const { sdk, s3 } = await openS3(env);
    const { Contents = [] } = await s3.send(new sdk.ListObjectsV2Command({ Bucket, Prefix }));
    return await Promise.all(
      Contents.map(async ({ Key }) => {
        const found = await s3.send(new sdk.GetObjectCommand({ Bucket, Key }));
        return (await found.Body?.transformToString()) ?? "{}";
      }),
    );
  } catch (cause) {
    throw new RunbookError(`Nobody can tell whether somebody works on the stacks: ${messageOf(cause)}`, {
      exit: "failed",
      next: `aws s3 ls s3://${Bucket}/${Prefix}   # are AWS_* right?`,
      cause,
    });
  }
}
