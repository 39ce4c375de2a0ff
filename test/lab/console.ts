// The console as a person uses it: in a browser, by what he reads there.
import { join } from "node:path";
import type { Locator, Page } from "playwright-core";
import { expect } from "vitest";
import type { Limits } from "../../runbooks/console/context.ts";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import { personToken } from "../../scripts/lab/vault.ts";
import { openConsole } from "./browser.ts";
import { lab } from "./lab.ts";

/** Signs in by a token; by default that of the person who may do everything day-to-day. */
export async function signIn(page: Page, token = String(lab.env.VAULT_TOKEN)): Promise<void> {
  await page.goto("/sign-in");
  await page.getByLabel("Vault token").fill(token);
  await page
    .locator("form", { has: page.getByLabel("Vault token") })
    .getByRole("button", { name: "Sign in" })
    .click();
  await page.getByRole("button", { name: "Sign out" }).waitFor();
}

/** A token of a person with these roles alone. */
export const tokenWith = (name: string, ...roles: string[]): Promise<string> =>
  personToken({ addr: lab.place.vaultAddr, rootToken: String(lab.env.LAB_ROOT_TOKEN) }, name, roles);

/** Fills in the dialog of the danger button, up to its last button. */
export async function fillReset(page: Page, tenant: LabTenant, incident: string): Promise<void> {
  await page.goto(`/tenants/${tenant.id}`);
  await page.getByText("Emergency reset", { exact: true }).click();
  await fillIn(page.getByRole("dialog"), tenant, incident);
}

/** The form of the reset, in the dialog or on its own page. */
export async function fillIn(form: Locator, tenant: LabTenant, incident: string): Promise<void> {
  await form.getByLabel("Incident id").fill(incident);
  await form.getByLabel("Reason").fill("a test");
  await form.getByLabel(`Type ${tenant.id} to confirm`).fill(tenant.id);
}

export const resetNow = (page: Page) => page.getByRole("dialog").getByRole("button", { name: "Reset now" });

/** Starts a reset and returns its run's address. */
export async function startReset(page: Page, tenant: LabTenant, incident: string): Promise<string> {
  await fillReset(page, tenant, incident);
  await resetNow(page).click();
  await page.waitForURL("**/runs/*");
  return page.url();
}

/** Waits for the new password, shows it, and returns it as it stands on the page. */
export async function showPassword(page: Page): Promise<string> {
  await page.getByRole("button", { name: "Show the new password" }).click();
  const password = page.locator('[data-field="password"]');
  await password.waitFor();
  return (await password.textContent()) ?? "";
}

/** Asks for the new password as the page's script does, button or not. */
export async function takePassword(page: Page): Promise<{ status: number; text: string }> {
  const csrf = await page.locator('meta[name="csrf"]').getAttribute("content");
  const options = JSON.stringify({ method: "POST", headers: { "x-csrf": csrf } });
  const ask = `fetch(location.pathname + "/credential", ${options})`;
  return page.evaluate(
    `${ask}.then(async (answer) => ({ status: answer.status, text: await answer.text() }))`,
  );
}

/** All that the page holds, seen or not. */
export const sourceOf = (page: Page): Promise<string> =>
  page.evaluate(
    "document.documentElement.outerHTML + JSON.stringify({ ...localStorage, ...sessionStorage })",
  );

export const state = (page: Page) => page.locator("#run-live .state");

/** A console where what takes 15 minutes takes less. */
export const shortConsole = (limits: Partial<Limits>) =>
  openConsole({
    command: [process.execPath, join(import.meta.dirname, "short-console.ts"), JSON.stringify(limits)],
  });

/** Nothing that was secret stands in what the console wrote. */
export function expectSilent(written: string, ...secrets: string[]): void {
  expect(written).toContain("The console is at");
  for (const secret of secrets) expect(written).not.toContain(secret);
}
