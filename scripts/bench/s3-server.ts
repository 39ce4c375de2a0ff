// An S3 server for benchmarks, versioned as the backups' bucket is: moto keeps what it gets in memory, so a bucket of a
// few gigabytes takes as much.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { freePort } from "../free-port.ts";
import { toolchainBin } from "../toolchain/paths.ts";

export interface BenchServer {
  /** The variables with which a client finds it. */
  env: Record<string, string>;
  stop(): Promise<void>;
}

/** Starts it with the bucket `bench`; its log goes into `folder`. */
export async function startBenchServer(folder: string): Promise<BenchServer> {
  const port = await freePort();
  const log = openSync(join(folder, "server.log"), "a");
  const server = spawn(
    "setpriv",
    [
      "--pdeathsig",
      "KILL",
      "--",
      join(toolchainBin(), "moto-python"),
      "-m",
      "moto.server",
      "-H",
      "127.0.0.1",
      "-p",
      `${port}`,
    ],
    { stdio: ["ignore", log, log], env: { ...process.env, TMPDIR: folder } },
  );
  const endpoint = `http://127.0.0.1:${port}`;
  const credentials = { accessKeyId: "bench", secretAccessKey: "bench" };
  const s3 = new S3Client({ endpoint, region: "us-east-1", credentials, forcePathStyle: true });
  for (let tries = 0; ; tries++) {
    if (
      await fetch(`${endpoint}/moto-api/`)
        .then((answer) => answer.ok)
        .catch(() => false)
    )
      break;
    if (tries > 600 || server.exitCode !== null)
      throw new Error(`moto doesn't answer: see ${folder}/server.log`);
    await sleep(50);
  }
  await s3.send(new CreateBucketCommand({ Bucket: "bench", ObjectLockEnabledForBucket: true }));
  return {
    env: {
      AWS_ENDPOINT_URL: endpoint,
      AWS_REGION: "us-east-1",
      AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
      AWS_CONFIG_FILE: "/dev/null",
      AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
    },
    async stop() {
      server.kill("SIGKILL");
      if (server.exitCode === null && server.signalCode === null) await once(server, "exit");
    },
  };
}
