// What every drift check is handed. Nothing in it writes: a check that could change something would be no check.
import type { TenantId } from "../../stacks/names.ts";
import type { DriftReport } from "./findings.ts";
import type { Settings } from "./settings.ts";
import type { Vault } from "./vault.ts";

export interface DriftContext {
  env: NodeJS.ProcessEnv;
  /** Aborted by Ctrl-C: for what waits. */
  signal: AbortSignal;
  settings: Settings;
  /** Those that are looked at, by Vault and by the stacks together: of some only one of the two may know. */
  tenants: readonly TenantId[];
  /** Those of them of which Vault has more than a rotation record; undefined where Vault could not be asked. */
  inVault: ReadonlySet<TenantId> | undefined;
  /** The stacks that are looked at; undefined where nobody could say which there are. */
  stacks: readonly string[] | undefined;
  /** Whether what all tenants share is looked at: false where one tenant's stack was asked for. */
  platform: boolean;
  report: DriftReport;
  /** How far a check is, for whoever waits. */
  progress(text: string): void;
  /** Logs in at first use, once for all checks. @throws RunbookError where that fails, each time again. */
  vault(): Promise<Vault>;
}
