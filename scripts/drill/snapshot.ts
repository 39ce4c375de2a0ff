// All of a tenant that a scenario must bring back, or leave alone.

import type { Lab } from "../lab/lab.ts";
import type { LabTenant } from "../lab/tenants.ts";
import { canLogIn, decrypt, dkimOnHost, prove, readRecord, versions } from "./doors.ts";

/** All that must survive of a tenant, or must stay untouched. Holds secrets: never printed. */
export interface Snapshot {
  address: string;
  /** The host's first process, and what the lab calls the machine. */
  pid: number;
  machine: string;
  versions: Record<string, number>;
  admin: { version: number; created: Date };
  password: string;
  apiToken: string;
  dkim: { sha256: string; publicKey: string };
}

/** Throws where the tenant can't log in with the password that Vault holds. */
export async function snapshot(lab: Lab, tenant: LabTenant): Promise<Snapshot> {
  const address = String((await readRecord(lab, tenant, "server")).fields.vps_ip);
  const admin = await readRecord(lab, tenant, "admin");
  const password = await decrypt(lab, tenant, admin.fields.password);
  const mailu = await readRecord(lab, tenant, "mailu");
  const host = lab.hosts.hosts().find((one) => one.address === address && one.alive);
  if (host === undefined) throw new Error(`No host of ${tenant.id} is running at ${address}`);
  prove(
    await canLogIn(address, tenant, password),
    `${tenant.id} can't log in with the password that Vault holds`,
  );
  return {
    address,
    pid: host.pid,
    machine: host.id,
    versions: await versions(lab, tenant),
    admin: { version: admin.version, created: admin.created },
    password,
    apiToken: await decrypt(lab, tenant, mailu.fields.api_token),
    dkim: await dkimOnHost(lab, address, tenant),
  };
}

/** Throws unless everything about the tenant is as it was. */
export async function requireUntouched(lab: Lab, tenant: LabTenant, before: Snapshot): Promise<void> {
  const now = await snapshot(lab, tenant);
  const [was, is] = [before, now].map((one) => JSON.stringify(visible(one)));
  prove(JSON.stringify(now) === JSON.stringify(before), `${tenant.id} has changed: ${was} is now ${is}`);
}

const visible = ({ password: _, apiToken: __, ...rest }: Snapshot): unknown => rest;
