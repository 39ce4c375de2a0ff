// Making a tenant's mail server fail for as long as something is tried.
import { join } from "node:path";
import { type Faults, setFaults } from "../../scripts/lab/mailu/faults.ts";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import { addressOf, hosts, lab } from "./lab.ts";

/** Runs `work` while the tenant's Mailu has these faults. */
export async function withFaults<T>(tenant: LabTenant, faults: Faults, work: () => Promise<T>): Promise<T> {
  const address = await addressOf(tenant.id);
  const host = (await hosts()).find((one) => one.address === address);
  const disk = join(lab.place.dir, "hosts", host?.id ?? "", "root");
  setFaults(disk, faults);
  try {
    return await work();
  } finally {
    setFaults(disk, undefined);
  }
}
