// Second doors: the drill looks at the results through other clients than the code that it puts to the proof, Vault's
// raw HTTP API, Route 53's, nodemailer, imapflow and plain ssh.

import { createHash, createPublicKey } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { request } from "node:https";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import {
  ListHostedZonesByNameCommand,
  ListResourceRecordSetsCommand,
  Route53Client,
} from "@aws-sdk/client-route-53";
import { ImapFlow } from "imapflow";
import { createTransport } from "nodemailer";
import { z } from "zod";
import {
  adminAddress,
  dkimKeyFile,
  IMAP_PORT,
  KV_MOUNT,
  mailHost,
  RECORDS,
  type RecordName,
  recordPath,
  SMTP_PORT,
  TRANSIT_MOUNT,
  transitKey,
} from "../../stacks/names.ts";
import { run } from "../lab/children.ts";
import { awsClient } from "../lab/cloud.ts";
import type { Lab as RunningLab } from "../lab/lab.ts";
import type { OpenLab } from "../lab/place.ts";
import type { LabTenant } from "../lab/tenants.ts";
import { vaultCall } from "../lab/vault.ts";

/** What a door needs of a lab: where it is, and root's token. */
export type Lab = Pick<OpenLab, "place" | "rootToken">;

/** Throws `problem` unless it holds. */
export function prove(holds: boolean, problem: string): void {
  if (!holds) throw new Error(problem);
}

const Read = z.object({
  data: z.object({
    data: z.record(z.string(), z.unknown()),
    metadata: z.object({ version: z.number(), created_time: z.string() }),
  }),
});

export interface Version {
  version: number;
  /** When Vault stored it. */
  created: Date;
  fields: Record<string, unknown>;
}

/** A tenant's record as Vault holds it, its newest version or the one asked for. */
export async function readRecord(
  lab: Lab,
  tenant: LabTenant,
  record: RecordName,
  version?: number,
): Promise<Version> {
  const path = recordPath(tenant.id, record) + (version === undefined ? "" : `?version=${version}`);
  const { data } = Read.parse(await vaultCall(lab.place.vaultAddr, lab.rootToken, "GET", path));
  return {
    version: data.metadata.version,
    created: new Date(data.metadata.created_time),
    fields: data.data,
  };
}

/** The current version of each record that a tenant has. */
export async function versions(lab: Lab, tenant: LabTenant): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const record of RECORDS) {
    const path = `${KV_MOUNT}/metadata/${tenant.id}/${record}`;
    const answer = await vaultCall(lab.place.vaultAddr, lab.rootToken, "GET", path).catch(() => undefined);
    const parsed = z.object({ data: z.object({ current_version: z.number() }) }).safeParse(answer);
    if (parsed.success) found[record] = parsed.data.data.current_version;
  }
  return found;
}

/** Decrypts a field by Transit's own API. */
export async function decrypt(lab: Lab, tenant: LabTenant, ciphertext: unknown): Promise<string> {
  const path = `${TRANSIT_MOUNT}/decrypt/${transitKey(tenant.id)}`;
  const answer = await vaultCall(lab.place.vaultAddr, lab.rootToken, "POST", path, { ciphertext });
  const { data } = z.object({ data: z.object({ plaintext: z.string() }) }).parse(answer);
  return Buffer.from(data.plaintext, "base64").toString("utf8");
}

/** Whether Transit decrypts this ciphertext; false only where its version of the key is retired or destroyed. */
export async function decrypts(lab: Lab, tenant: LabTenant, ciphertext: unknown): Promise<boolean> {
  try {
    await decrypt(lab, tenant, ciphertext);
    return true;
  } catch (error) {
    if (error instanceof Error && /answers 400 .*(?:too old|version)/.test(error.message)) return false;
    throw error;
  }
}

/** Whether the tenant's administrator can log in by SMTP AUTH and by IMAP at `address`. */
export async function canLogIn(address: string, tenant: LabTenant, password: string): Promise<boolean> {
  return (await smtpAccepts(address, tenant, password)) && (await imapAccepts(address, tenant, password));
}

/** The services that take this password, of SMTP and IMAP. Throws unless each says clearly yes or no (535). */
export async function acceptedBy(address: string, tenant: LabTenant, password: string): Promise<string[]> {
  return [
    ...((await smtpAccepts(address, tenant, password)) ? ["SMTP"] : []),
    ...((await imapAccepts(address, tenant, password)) ? ["IMAP"] : []),
  ];
}

/** A stand-in's certificate is its own; that it's the tenant's is proven elsewhere, by the pinned host key. */
export const tls = (tenant: LabTenant) => ({
  servername: mailHost(tenant.domain),
  rejectUnauthorized: false,
});

async function smtpAccepts(address: string, tenant: LabTenant, pass: string): Promise<boolean> {
  const transport = createTransport({
    host: address,
    port: SMTP_PORT,
    secure: true,
    auth: { user: adminAddress(tenant.domain), pass },
    tls: tls(tenant),
    connectionTimeout: 10_000,
    greetingTimeout: 10_000,
  });
  try {
    return await transport.verify();
  } catch (error) {
    if (error instanceof Error && "responseCode" in error && error.responseCode === 535) return false;
    throw error;
  } finally {
    transport.close();
  }
}

async function imapAccepts(address: string, tenant: LabTenant, pass: string): Promise<boolean> {
  const client = new ImapFlow({
    host: address,
    port: IMAP_PORT,
    secure: true,
    auth: { user: adminAddress(tenant.domain), pass },
    tls: tls(tenant),
    logger: false,
  });
  client.on("error", () => {});
  try {
    await client.connect();
    await client.logout();
    return true;
  } catch (error) {
    if (error instanceof Error && "authenticationFailed" in error && error.authenticationFailed) return false;
    throw error;
  } finally {
    client.close();
  }
}

/** What Mailu's API at `address` answers; the body as text. */
export async function askMailu(
  address: string,
  tenant: LabTenant,
  token: string,
  method: string,
  path: string,
  body?: unknown,
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const call = request(
      `https://${address}/api/v1/${path}`,
      {
        method,
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        ...tls(tenant),
        timeout: 10_000,
      },
      (answer) => {
        text(answer).then((said) => resolve({ status: answer.statusCode ?? 0, body: said }), reject);
      },
    );
    call.once("error", reject);
    call.once("timeout", () => call.destroy(new Error("Mailu's API didn't answer within 10 s")));
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** Runs a command on the tenant's host by plain ssh and resolves to what it printed. */
export async function onHost(
  lab: RunningLab,
  address: string,
  tenant: LabTenant,
  command: string,
): Promise<string> {
  const host = lab.hosts.hosts().find((one) => one.address === address);
  prove(host !== undefined, `No lab host is running at ${address}`);
  const known = join(lab.dir, `known_hosts.drill-${tenant.id}`);
  await writeFile(known, `${address} ${host?.hostKey}\n`);
  const options = [
    "-o",
    `UserKnownHostsFile=${known}`,
    "-o",
    "StrictHostKeyChecking=yes",
    "-o",
    "BatchMode=yes",
  ];
  const done = await run("ssh", [...options, `root@${address}`, command], { env: lab.env, lab: lab.dir });
  prove(done.code === 0, `'${command}' failed on ${address}: ${done.stderr.trim()}`);
  return done.stdout;
}

/** The DKIM key that lies on the host: the private file's SHA-256, and the public key as DNS would show it. */
export async function dkimOnHost(
  lab: RunningLab,
  address: string,
  tenant: LabTenant,
): Promise<{ sha256: string; publicKey: string }> {
  const key = await onHost(lab, address, tenant, `cat ${dkimKeyFile(tenant.domain)}`);
  return {
    sha256: createHash("sha256").update(key).digest("hex"),
    publicKey: createPublicKey(key).export({ type: "spki", format: "der" }).toString("base64"),
  };
}

/** What Route 53 has for `name` in the tenant's zone: the records' values, TXT strings joined. */
export async function dns(lab: Lab, tenant: LabTenant, name: string, type: string): Promise<string[]> {
  const route53 = new Route53Client(awsClient(lab.place.awsEndpoint));
  try {
    const zones = await route53.send(new ListHostedZonesByNameCommand({ DNSName: tenant.domain }));
    const zone = zones.HostedZones?.find((one) => one.Name === `${tenant.domain}.`);
    const sets = await route53.send(new ListResourceRecordSetsCommand({ HostedZoneId: zone?.Id }));
    return (sets.ResourceRecordSets ?? [])
      .filter((set) => set.Name === `${name}.` && set.Type === type)
      .flatMap((set) => set.ResourceRecords ?? [])
      .map((record) => (type === "TXT" ? unquoted(record.Value ?? "") : (record.Value ?? "")));
  } finally {
    route53.destroy();
  }
}

const unquoted = (text: string): string => [...text.matchAll(/"([^"]*)"/g)].map((match) => match[1]).join("");
