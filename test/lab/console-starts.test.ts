// What else a person starts from the console: a response for tenants that he chose, a look at a backup, a look for drift.
// Each is the runbook: what it says is what the terminal says.
import { expect, test } from "vitest";
import { ACME, GLOBEX } from "../../scripts/lab/tenants.ts";
import { tenantStack } from "../../stacks/names.ts";
import { backUp, run } from "./backup.ts";
import { newPage, openConsole, useBrowser } from "./browser.ts";
import { expectSilent, signIn, state } from "./console.ts";
import { lab } from "./lab.ts";
import { credentialOf, events, expectReset, logsIn, newIncident } from "./resets.ts";

useBrowser();

test("a response rotates the tenants that were chosen, and tells how it ended", {
  timeout: 120_000,
}, async () => {
  const console = await openConsole();
  const page = await newPage(console);
  const [acme, globex] = [await credentialOf(ACME), await credentialOf(GLOBEX)];
  const incident = newIncident("chosen");
  await signIn(page);
  await page.goto("/respond");
  await page.getByLabel("Search").fill("acm");
  await page.getByLabel(GLOBEX.id).waitFor({ state: "hidden" });
  await page.getByLabel(ACME.id).check();
  await page.getByLabel("Search").fill("");
  await page.getByLabel(GLOBEX.id).check();
  await page.getByRole("button", { name: "Go on" }).click();
  await page.getByLabel("Incident id").fill(incident);
  await page.getByLabel("What was found").fill("Found in a paste");
  await page.getByLabel("Type 2, the number of tenants").fill("3");
  await page.getByRole("button", { name: "Rotate now" }).click();
  expect(new URL(page.url()).pathname, "a wrong number").toBe("/respond/choice");
  await page.getByLabel("Type 2, the number of tenants").fill("2");
  await page.getByRole("button", { name: "Rotate now" }).click();
  await state(page)
    .filter({ hasText: /^Done$/ })
    .waitFor({ timeout: 60_000 });
  await page.getByText("2 rotated, 0 were done before, 0 failed").waitFor();
  for (const [tenant, was] of [
    [ACME, acme],
    [GLOBEX, globex],
  ] as const) {
    await expectReset(tenant, was, incident);
    expect(await events(tenant, incident, "credential_compromise_response")).toHaveLength(1);
    expect(await logsIn(tenant, was.password)).toBe(false);
  }
  expectSilent(console.written(), String(lab.env.VAULT_TOKEN), (await credentialOf(ACME)).password);
});

test("a backup and drift are looked at with the runbooks' own words", { timeout: 120_000 }, async () => {
  const { canary } = await backUp();
  const page = await newPage(await openConsole());
  await signIn(page);
  await page.goto("/backups");
  await page.getByRole("button", { name: "Verify the newest backup" }).click();
  await state(page)
    .filter({ hasText: /^Done$/ })
    .waitFor();
  await page.getByText(`opens: as of ${canary.written}`).waitFor();
  const { result } = await run(["list-backups"]);
  const backups = result.backups as { canary_written: string; opened_at: string | null }[];
  expect(backups.find((one) => one.canary_written === canary.written)?.opened_at).not.toBeNull();

  await page.goto(`/tenants/${GLOBEX.id}`);
  await page.getByRole("button", { name: `Check drift of ${tenantStack(GLOBEX.id)}` }).click();
  await state(page)
    .filter({ hasText: /^(Done|Drift found|Failed)/ })
    .waitFor({ timeout: 100_000 });
  expect(await page.locator("#run-live").textContent()).toMatch(
    /infra: .*vault: .*credentials: .*host: .*dns: .*backups: /s,
  );
});
