// The lab's AWS: moto's server on the lab's own address.

import type { ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CreateHostedZoneCommand, Route53Client } from "@aws-sdk/client-route-53";
import { startService } from "./children.ts";
import { controlSocket } from "./control.ts";
import { ELASTIC } from "./subnet.ts";

const PORT = 5000;

/** Where AWS answers, on a lab whose services are at `address`. */
export const awsEndpoint = (address: string): string => `http://${address}:${PORT}`;

/** Starts moto, whose Elastic IPs come from `prefix`; resolves once it answers. */
export async function startCloud(options: {
  dir: string;
  address: string;
  prefix: string;
  /** The Python that has moto. */
  python: string;
  env: NodeJS.ProcessEnv;
  signal: AbortSignal | undefined;
}): Promise<ChildProcess> {
  const endpoint = awsEndpoint(options.address);
  const child = startService(
    options.python,
    [
      join(import.meta.dirname, "moto-server.py"),
      options.address,
      String(PORT),
      options.prefix,
      String(ELASTIC.first),
      String(ELASTIC.last),
      controlSocket(options.dir),
    ],
    { env: options.env, lab: options.dir, log: join(options.dir, "logs", "moto.log"), cwd: options.dir },
  );
  const end = performance.now() + 30_000;
  while (performance.now() < end) {
    options.signal?.throwIfAborted();
    if (child.exitCode !== null) throw new Error(`moto ended with ${child.exitCode}: see logs/moto.log`);
    const answered = await fetch(`${endpoint}/moto-api/`).then(
      (answer) => answer.ok,
      () => false,
    );
    if (answered) return child;
    await sleep(50);
  }
  throw new Error(`moto doesn't answer after 30 s at ${endpoint}: see logs/moto.log`);
}

/** A client's settings for the lab's AWS: its region and keys mean nothing there. */
export const awsClient = (endpoint: string) => ({
  endpoint,
  region: "us-east-1",
  credentials: { accessKeyId: "lab", secretAccessKey: "lab" },
});

/** One of the images that moto knows (an Ubuntu). The lab's hosts boot from no image. */
export const AMI = "ami-785db401";

/** Makes the Route 53 hosted zone that an operator has before his first tenant. Resolves to its id. */
export async function makeZone(endpoint: string, domain: string): Promise<string> {
  const route53 = new Route53Client(awsClient(endpoint));
  const made = await route53.send(
    new CreateHostedZoneCommand({ Name: domain, CallerReference: randomUUID() }),
  );
  route53.destroy();
  return (made.HostedZone?.Id ?? "").replace("/hostedzone/", "");
}
