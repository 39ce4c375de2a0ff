// Second doors that only the runbooks' tests need: what is in Vault down to its metadata, what Mailu was asked, what
// the audit log says of a tenant; and a reset done by hand.
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { request } from "node:https";
import { join } from "node:path";
import { z } from "zod";
import { decrypt, readRecord } from "../../scripts/drill/doors.ts";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import {
  adminAddress,
  KV_MOUNT,
  metadataPath,
  RECORDS,
  recordPath,
  TRANSIT_MOUNT,
  transitKey,
} from "../../stacks/names.ts";
import { addressOf, hosts, lab, program, vault } from "./lab.ts";

/** Everything that a run could have changed of these tenants: records' metadata whole, the keys, the tenants' names. */
export async function vaultState(...tenants: LabTenant[]): Promise<Record<string, unknown>> {
  const ask = (path: string, method = "GET") => vault(method, path).then(dataOf, () => "none");
  const paths = tenants.flatMap(({ id }) => [
    ...RECORDS.map((record) => metadataPath(id, record)),
    `${TRANSIT_MOUNT}/keys/${transitKey(id)}`,
  ]);
  const found = await Promise.all(paths.map(async (path) => [path, await ask(path)] as const));
  return {
    ...Object.fromEntries(found),
    tenants: await ask(`${KV_MOUNT}/metadata`, "LIST"),
    keys: await ask(`${TRANSIT_MOUNT}/keys`, "LIST"),
  };
}

const dataOf = (answer: unknown): unknown => z.object({ data: z.unknown() }).parse(answer).data;

/** The audit log, byte for byte. */
export const auditLog = (): Promise<string> => readFile(join(lab.place.dir, "audit.jsonl"), "utf8");

const Event = z.object({ event: z.string(), event_id: z.string(), tenant_id: z.string().optional() });

/** Ids of the tenant's recoveries in the audit log, one for each line. */
export async function recoveries(tenant: LabTenant): Promise<string[]> {
  const lines = (await auditLog()).trim().split("\n");
  return lines
    .map((line) => Event.parse(JSON.parse(line)))
    .filter((event) => event.event === "smtp_credentials_recovered" && event.tenant_id === tenant.id)
    .map((event) => event.event_id);
}

/** What the tenant's Mailu was asked through its API so far: `METHOD path status`, in the order of its answers. */
export async function mailuCalls(tenant: LabTenant): Promise<string[]> {
  const address = await addressOf(tenant.id);
  const host = (await hosts()).find((one) => one.address === address);
  const log = join(lab.place.dir, "hosts", host?.id ?? "", "root", "var", "log", "mailu", "access.log");
  return (await readFile(log, "utf8"))
    .split("\n")
    .filter((line) => line.includes("/api/"))
    .map((line) => line.split(" ").slice(2).join(" "));
}

/** Those that change something. */
export const writesOf = (calls: string[]): string[] => calls.filter((call) => !call.startsWith("GET "));

/** Runs a command on the tenant's host, whatever host that is, and returns what it printed. */
export async function onHost(tenant: LabTenant, command: string): Promise<string> {
  const trust = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"];
  const options = trust.flatMap((option) => ["-o", option]);
  const done = await program("ssh", [...options, `root@${await addressOf(tenant.id)}`, command]);
  if (done.code !== 0) throw new Error(`'${command}' failed on ${tenant.id}'s host: ${done.stderr}`);
  return done.stdout;
}

/** A password with every character of base64 that could be mistaken for something else. */
export const awkwardPassword = (): string => `+/${randomBytes(45).toString("base64")}/+==`;

/** Encrypts by Transit's own API, under the key's newest version. */
export async function encrypt(tenant: LabTenant, plaintext: string): Promise<string> {
  const path = `${TRANSIT_MOUNT}/encrypt/${transitKey(tenant.id)}`;
  const answer = await vault("POST", path, { plaintext: Buffer.from(plaintext).toString("base64") });
  return z.object({ data: z.object({ ciphertext: z.string() }) }).parse(answer).data.ciphertext;
}

/** Writes a record over its newest version, or anew. */
export async function writeRecord(
  tenant: LabTenant,
  record: (typeof RECORDS)[number],
  data: Record<string, unknown>,
): Promise<void> {
  const cas = await readRecord(lab, tenant, record).then(
    ({ version }) => version,
    () => 0,
  );
  await vault("POST", recordPath(tenant.id, record), { data, options: { cas } });
}

/** Notes on the current version that it is known to strangers, in the words of `versions` ("1,%"; % is its number). */
export async function markCompromised(tenant: LabTenant, versions = "%"): Promise<Record<string, string>> {
  const { version } = await readRecord(lab, tenant, "admin");
  const custom_metadata = {
    compromised: "true",
    compromised_versions: versions.replace("%", String(version)),
    owner: "it-department",
  };
  await vault("POST", metadataPath(tenant.id, "admin"), { custom_metadata });
  return custom_metadata;
}

/** Gives the administrator another password by Mailu's API, as a reset does. */
export async function setInMailu(tenant: LabTenant, password: string): Promise<void> {
  const address = await addressOf(tenant.id);
  const token = await decrypt(lab, tenant, (await readRecord(lab, tenant, "mailu")).fields.api_token);
  const status = await new Promise<number>((resolve, reject) => {
    const call = request(
      `https://${address}/api/v1/user/${adminAddress(tenant.domain)}`,
      {
        method: "PATCH",
        rejectUnauthorized: false,
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      },
      (answer) => {
        answer.resume();
        resolve(answer.statusCode ?? 0);
      },
    );
    call.once("error", reject);
    call.end(JSON.stringify({ raw_password: password }));
  });
  if (status !== 200) throw new Error(`Mailu answered ${status} to a new password`);
}
