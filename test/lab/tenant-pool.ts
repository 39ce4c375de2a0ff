// Tenants for tests that run side by side: each is lent to one test at a time.
import type { LabTenant } from "../../scripts/lab/tenants.ts";

/** Runs `work` with a tenant that nobody else has meanwhile; waits until one is free. */
export type Lend = <T>(work: (tenant: LabTenant) => Promise<T>) => Promise<T>;

export function lendFrom(tenants: readonly LabTenant[]): Lend {
  const free = [...tenants];
  const waiting: ((tenant: LabTenant) => void)[] = [];
  const giveBack = (tenant: LabTenant): void => {
    const next = waiting.shift();
    if (next === undefined) free.push(tenant);
    else next(tenant);
  };
  return async (work) => {
    const tenant = free.shift() ?? (await new Promise<LabTenant>((resolve) => waiting.push(resolve)));
    try {
      return await work(tenant);
    } finally {
      giveBack(tenant);
    }
  };
}
