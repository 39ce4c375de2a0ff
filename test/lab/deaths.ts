// The moments at which a runbook can die, taken from the runbook itself: its steps from its dry run, its writes to
// Vault from a run to the end. A new step or write is a new moment, whoever adds it.
import { expect } from "vitest";
import { z } from "zod";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import { begin, type Place } from "./killed.ts";
import { runbook } from "./lab.ts";
import { withWindow } from "./vault-window.ts";

const DryRun = z.object({
  steps: z.array(z.object({ title: z.string(), kind: z.enum(["check", "change"]) })),
});

/** Titles of what the command changes at `tenant`, whose domain is DOMAIN in them. */
export async function changesOf(
  args: string[],
  { domain }: LabTenant,
  env: Place["env"] = {},
): Promise<string[]> {
  const done = await runbook([...args, "--dry-run"], { env });
  expect(done.code, done.stderr).toBe(0);
  return DryRun.parse(JSON.parse(done.stdout))
    .steps.filter(({ kind }) => kind === "change")
    .map(({ title }) => title.replaceAll(domain, "DOMAIN"));
}

/** A moment as it is printed when the run is about `tenant`. */
export const markFor = (mark: string, { domain }: LabTenant): string => mark.replaceAll("DOMAIN", domain);

/** What makes no difference to whoever comes later: it reads, or computes. */
const HARMLESS =
  /^(?:GET|LIST) |^(?:POST|PUT) (?:sys\/capabilities-self|auth\/approle\/login|smtp-transit\/(?:decrypt|encrypt|rewrap)\/)/;

/** Runs the command to its end and returns what it wrote to Vault, in order, TENANT for the tenant's id. */
export async function writesOf(args: string[], { id }: LabTenant, env: Place["env"] = {}): Promise<string[]> {
  return withWindow(async (window) => {
    const done = await runbook(args, { env: { ...env, ...window.env } });
    expect(done.code, done.stderr).toBe(0);
    return window.calls.filter((call) => !HARMLESS.test(call)).map((call) => call.replaceAll(id, "TENANT"));
  });
}

/** Runs `runbook ARGS` and kills it when it sends its `nth` write to Vault, which Vault never gets. */
export async function killedBeforeWrite(args: string[], nth: number, env: Place["env"] = {}): Promise<void> {
  let writes = 0;
  let kill = (): void => {};
  const gate = (call: string): Promise<never> | undefined => {
    if (HARMLESS.test(call) || ++writes < nth) return undefined;
    kill();
    return new Promise(() => {});
  };
  await withWindow(
    async (window) => {
      const run = begin(args, { ...env, ...window.env });
      kill = () => run.signal("SIGKILL");
      const { code, stderr } = await run.ended;
      expect(code, `it came to its end before write ${nth}:\n${stderr}`).toBeNull();
    },
    undefined,
    gate,
  );
}
