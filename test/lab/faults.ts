// Making a tenant's mail server fail for as long as something is tried.
import { randomUUID } from "node:crypto";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Faults, gateFiles, setFaults } from "../../scripts/lab/mailu/faults.ts";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import { addressOf, hosts, lab } from "./lab.ts";

/** Runs `work` while the tenant's Mailu has these faults. */
export async function withFaults<T>(tenant: LabTenant, faults: Faults, work: () => Promise<T>): Promise<T> {
  const disk = await diskOf(tenant);
  setFaults(disk, faults);
  try {
    return await work();
  } finally {
    setFaults(disk, undefined);
  }
}

export interface Gate {
  /** Resolves once a call waits at the gate: it is on its way, and nothing of it has happened. */
  arrived(): Promise<void>;
  open(): void;
}

/** ms after which a call that hasn't come to the gate never will. */
const LONGEST_WAY = 90_000;

/** Runs `work` while the first call of the API that starts with `match` is held up at a gate; opened at the latest at the end. */
export async function withGate<T>(
  tenant: LabTenant,
  match: string,
  work: (gate: Gate) => Promise<T>,
): Promise<T> {
  const gate = randomUUID();
  const files = gateFiles(await diskOf(tenant), gate);
  const open = (): void => writeFileSync(files.open, "");
  const arrived = async (): Promise<void> => {
    const end = performance.now() + LONGEST_WAY;
    while (!existsSync(files.arrived)) {
      if (performance.now() > end) throw new Error(`No ${match} came to the gate`);
      await sleep(20);
    }
  };
  try {
    return await withFaults(tenant, { api: [{ match, gate, times: 1 }] }, () => work({ arrived, open }));
  } finally {
    open();
    rmSync(files.arrived, { force: true });
  }
}

async function diskOf(tenant: LabTenant): Promise<string> {
  const address = await addressOf(tenant.id);
  const host = (await hosts()).find((one) => one.address === address);
  return join(lab.place.dir, "hosts", host?.id ?? "", "root");
}
