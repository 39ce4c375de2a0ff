// The console's front page in a real browser: the tenants, held against Vault's own word, found by name and chosen.
import { describe, expect, test } from "vitest";
import { ACME, GLOBEX } from "../../scripts/lab/tenants.ts";
import { openConsole } from "./browser.ts";
import { row, signedIn, usePages, whileMarked } from "./console-pages.ts";
import { addressOf } from "./lab.ts";
import { credentialOf } from "./resets.ts";
import { withWindow } from "./vault-window.ts";

usePages();

describe("the tenants", () => {
  test("stand there as Vault has them, with whether they log in; what changes in Vault changes on the page by itself", async () => {
    const page = await signedIn();
    const { version } = await credentialOf(GLOBEX);
    await row(page, GLOBEX).getByText("Logs in").waitFor();
    const text = await row(page, GLOBEX).innerText();
    expect(text).toContain(`v${version}`);
    expect(text).toContain(await addressOf(GLOBEX.id));
    expect(text).not.toContain("Compromised");
    const mark = row(page, GLOBEX).getByText("Compromised: INC-SEEN");
    await whileMarked(GLOBEX, "INC-SEEN", () => mark.waitFor());
    await mark.waitFor({ state: "detached" });
  });

  test("are found by a part of their name, while it is typed", async () => {
    const page = await signedIn();
    const search = page.getByLabel("Search tenants by name");
    await search.pressSequentially("LOB");
    await page.getByText(/^1 of \d+ tenants$/).waitFor();
    expect(await row(page, GLOBEX).count()).toBe(1);
    expect(await row(page, ACME).count()).toBe(0);
    await row(page, GLOBEX).getByText("Logs in").waitFor();
    await search.fill("nobody has this name");
    await page.getByText("No tenant's name has").waitFor();
    await page.reload();
    await page.getByText("No tenant's name has").waitFor();
    await page.getByRole("link", { name: "Show all" }).click();
    await row(page, ACME).waitFor();
  });

  test("are found, and chosen, by what was done before the page's script was there", async () => {
    const page = await signedIn();
    const { promise: hasCome, resolve: come } = Promise.withResolvers<void>();
    await page.route("**/public/tenants.js", async (route) => {
      await hasCome;
      await route.continue();
    });
    await page.goto("/", { waitUntil: "commit" });
    await page.getByLabel("Choose acme").check();
    await page.getByLabel("Search tenants by name").pressSequentially("LOB");
    come();
    await page.getByText("1 chosen: acme").waitFor();
    await page.getByText(/^1 of \d+ tenants$/).waitFor();
  });

  test("are chosen for a response, also those that a search has taken out of sight", async () => {
    const page = await signedIn();
    await page.getByLabel("Choose acme").check();
    await page.getByLabel("Search tenants by name").fill("globex");
    await row(page, ACME).waitFor({ state: "detached" });
    await page.getByLabel("Choose globex").check();
    await page.getByText("2 chosen: acme, globex").waitFor();
    await page.getByRole("button", { name: "Respond to a compromise…" }).click();
    await page.getByText("2 tenants").first().waitFor();
    const chosen = page.locator('input[name="tenant"]');
    const names = await chosen.evaluateAll((all) => all.map((one) => one.getAttribute("value")));
    expect(names.toSorted()).toEqual([ACME.id, GLOBEX.id]);
  });

  test("cost Vault a few reads a second while the page is open, and none once it is closed", async () => {
    await withWindow(async (window) => {
      const watched = await openConsole({ env: window.env });
      const page = await signedIn({}, watched);
      await row(page, ACME).getByText("Logs in").waitFor();
      await row(page, GLOBEX).getByText("Logs in").waitFor();
      await page.waitForTimeout(1000);
      const SECONDS = 6;
      const before = window.calls.length;
      await page.waitForTimeout(SECONDS * 1000);
      const reads = window.calls.length - before;
      expect(reads).toBeGreaterThan(SECONDS);
      expect(reads).toBeLessThanOrEqual(SECONDS * 4);
      await page.close();
      await new Promise((resolve) => setTimeout(resolve, 2500));
      const after = window.calls.length;
      await new Promise((resolve) => setTimeout(resolve, 2500));
      expect(window.calls.length).toBe(after);
      await watched.end();
    });
  });
});
