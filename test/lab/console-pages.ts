// The console's pages as somebody sees them who is signed in, on a console of the test file's own that has drills to show.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect } from "vitest";
import { parse, stringify } from "yaml";
import { z } from "zod";
import { keepDrillReport } from "../../runbooks/lib/drill-reports.ts";
import type { RunningConsole } from "../../scripts/lab/console.ts";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import { newPage, openConsole, useBrowser } from "./browser.ts";
import { signIn } from "./console.ts";
import { lab, vault } from "./lab.ts";
import { credentialOf, until } from "./resets.ts";

const scratch = mkdtempSync(join(tmpdir(), "console-pages-"));
export const drills = join(scratch, "drills");
export let console: RunningConsole;
const problems: string[] = [];

/** Call it once at the top of a test file. Whatever a page's scripts or its policy complain of fails the file. */
export function usePages(): void {
  useBrowser();
  const settings = join(lab.place.dir, "recovery-console-pages.yaml");
  beforeAll(async () => {
    const own = parse(readFileSync(join(lab.place.dir, "recovery.yaml"), "utf8")) as object;
    writeFileSync(settings, stringify({ ...own, drills }));
    mkdirSync(drills);
    keepDrillReport(drills, drill("2026-01-01T02:00:00Z", "2 Vault loss", 95));
    keepDrillReport(drills, drill("2026-01-08T02:00:00Z", "2 Vault loss", 2000));
    console = await openConsole({ env: { RECOVERY_CONFIG: settings } });
  });
  afterAll(() => {
    rmSync(scratch, { recursive: true });
    rmSync(settings);
  });
  afterAll(() => expect(problems).toEqual([]));
}

/** A page of somebody who is signed in. */
export async function signedIn(options: Parameters<typeof newPage>[1] = {}, at = console): Promise<Page> {
  const page = await newPage(at, options);
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(message.text());
  });
  await signIn(page);
  return page;
}

export const row = (page: Page, tenant: { id: string }) => page.locator(`[data-tenant="${tenant.id}"]`);

const Metadata = z.object({
  data: z.object({ custom_metadata: z.record(z.string(), z.string()).nullable() }),
});

/** Marks the tenant's current version while `work` runs; `incident` as somebody else may have written it there. */
export async function whileMarked(tenant: LabTenant, incident: string, work: () => Promise<void>) {
  const path = `smtp/metadata/${tenant.id}/admin`;
  const before = Metadata.parse(await vault("GET", path)).data.custom_metadata ?? {};
  const { version } = await credentialOf(tenant);
  const mark = { compromised: "true", incident_id: incident, compromised_versions: `${version}` };
  await vault("POST", path, { custom_metadata: { ...before, ...mark } });
  try {
    await work();
  } finally {
    await vault("POST", path, { custom_metadata: before });
  }
}

/** All that comes after the page has come. */
export async function settled(page: Page): Promise<void> {
  await until(async () => (await page.locator("[aria-busy], .waiting").count()) === 0);
}

export const drill = (at: string, name: string, seconds: number) => ({
  at,
  scenarios: [
    {
      ...{ name, passed: seconds <= 1800, target_rto_s: 1800, measured_rto_s: seconds },
      ...{ target_rpo_s: 86_400, measured_rpo_s: 60 },
    },
  ],
});
