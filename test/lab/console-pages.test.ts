// The console's pages in a real browser, held against Vault's and the bucket's own word; for eyes, for screen readers,
// for a keyboard alone, and on a phone.
import { source as axe } from "axe-core";
import type { Page } from "playwright-core";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { ACME, GLOBEX } from "../../scripts/lab/tenants.ts";
import { backUp } from "./backup.ts";
import { newPage } from "./browser.ts";
import { console, row, settled, signedIn, usePages, whileMarked } from "./console-pages.ts";
import { killedAt } from "./killed.ts";
import { lab, runbook } from "./lab.ts";
import { credentialOf, expectReset, newIncident, resetArgs, until } from "./resets.ts";

usePages();

describe("a dead run", { timeout: 120_000 }, () => {
  test("stands among the incidents with its command and a button, which finishes it", async () => {
    const incident = newIncident("console-left");
    const was = await credentialOf(GLOBEX);
    await killedAt(resetArgs(GLOBEX, incident), "✓ set the password");
    const page = await signedIn();
    await page.getByRole("link", { name: "Incidents" }).click();
    const left = page.locator(".left li", { hasText: incident });
    await left.waitFor();
    expect(await left.innerText()).toContain("left in state");
    expect(await left.innerText()).toContain(`npx runbook resume --tenant ${GLOBEX.id}`);
    await left.getByRole("button", { name: "Go on" }).click();
    const show = page.getByRole("button", { name: "Show the new password" });
    await show.waitFor();
    expect(await violations(page), "a run that waits for somebody").toEqual([]);
    await show.click();
    await page.getByRole("button", { name: "Hide it now" }).click();
    await page.locator("#run-live .state-done").waitFor();
    expect(await violations(page), "a run that is done").toEqual([]);
    expect(await page.evaluate(layoutShift)).toBeLessThan(0.001);
    await expectReset(GLOBEX, was, incident);
    await page.getByRole("link", { name: "Incidents" }).click();
    await page
      .getByText(/^Looked at|is left to do|isn't finished/)
      .first()
      .waitFor();
    await until(async () => (await page.locator(".left li", { hasText: incident }).count()) === 0);
    const done = page.locator(".incident", { has: page.getByRole("heading", { name: incident }) });
    await done.waitFor();
    expect(await done.innerText()).toMatch(/Password reset: version \d+ is in use, the old one is refused/);
    expect(await done.innerText()).toContain("a test");
  });
});

describe("a tenant", () => {
  test("shows its versions with their marks, and its history from the audit log", async () => {
    const page = await signedIn();
    const { version } = await credentialOf(GLOBEX);
    await page.getByRole("link", { name: GLOBEX.id, exact: true }).click();
    await page.locator("#stand").getByText("Logs in").waitFor();
    const current = page.locator(".versions tr", {
      has: page.getByRole("rowheader", { name: `${version}` }),
    });
    expect(await current.innerText()).toContain("In use");
    expect(await page.locator(".versions").getByText("Compromised").count()).toBeGreaterThan(0);
    await page.locator(".event").first().waitFor();
    expect(await page.locator(".events").innerText()).toContain("Onboarded for globex.example");
    await page.locator(".event summary").first().click();
    expect(JSON.parse(await page.locator(".event pre").first().innerText())).toMatchObject({
      tenant_id: GLOBEX.id,
    });
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.locator(".copyable", { hasText: "replace-vps" }).getByRole("button").click();
    expect(await page.evaluate("navigator.clipboard.readText()")).toBe(
      `npx runbook replace-vps --tenant ${GLOBEX.id}`,
    );
  });

  test("that isn't there has no page", async () => {
    const page = await signedIn();
    const answer = await page.request.get("/tenants/..%2f..%2fsys");
    expect(answer.status()).toBe(404);
  });
});

describe("backups", { timeout: 120_000 }, () => {
  test("stand there as the bucket has them; one that was not opened is, by a button", async () => {
    const { date } = await backUp();
    const page = await signedIn();
    await page.getByRole("link", { name: "Backups" }).click();
    const newest = page.locator(".backups tbody tr").first();
    await newest.getByText("Not opened").waitFor();
    expect(await newest.innerText()).toContain(date);
    await page.getByRole("button", { name: "Verify the newest" }).click();
    await page.locator("#run-live .state-done").waitFor();
    await page.getByRole("link", { name: "Backups" }).click();
    await newest.getByText("✓ Opened").or(newest.getByText("Opened")).first().waitFor();
    await newest.getByText("Restore", { exact: false }).first().click();
    await newest.getByText(`npx runbook restore-vault --date ${date}`).first().waitFor();
  });
});

describe("drills", () => {
  test("are drawn against their promise, and told in words and in a table", async () => {
    const page = await signedIn();
    await page.getByRole("link", { name: "Drills" }).click();
    const said = "RTO of scenario 2 Vault loss: 33 min on 2026-01-08, promised 30 min; 2 drills, 1 missed";
    await page.getByRole("img", { name: said }).waitFor();
    expect(await page.locator(".plot-missed").count()).toBe(1);
    const rows = await page.locator(".drills tbody tr").allInnerTexts();
    expect(rows).toHaveLength(2);
    expect(rows[0]).toMatch(/33 min\s+30 min[\s\S]*Missed/);
    expect(rows[1]).toMatch(/95 s\s+30 min[\s\S]*Kept/);
  });
});

const PAGES = [
  "/",
  "/tenants/acme",
  "/tenants/acme/reset",
  "/incidents",
  "/runs",
  "/backups",
  "/drills",
  "/respond",
];

const Violations = z.array(z.object({ id: z.string(), nodes: z.array(z.object({ html: z.string() })) }));

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  const found = await page.evaluate("axe.run({ resultTypes: ['violations'] }).then((one) => one.violations)");
  return Violations.parse(found).map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join("  ")}`);
}

describe("everybody", () => {
  test.each(["light", "dark"] as const)(
    "can read every page, in the %s: axe finds nothing",
    async (colorScheme) => {
      const page = await signedIn({ colorScheme });
      await whileMarked(GLOBEX, "INC-AXE", async () => {
        for (const path of PAGES) {
          await page.goto(path);
          await settled(page);
          expect(await violations(page), path).toEqual([]);
        }
      });
      await page.goto("/tenants/acme");
      await page.getByText("Emergency reset", { exact: true }).click();
      expect(await violations(page), "the dialog").toEqual([]);
      const out = await newPage(console, { colorScheme });
      await out.goto("/sign-in");
      expect(await violations(out), "sign-in").toEqual([]);
    },
  );

  test("can read every page on a phone, without scrolling sideways", async () => {
    const width = 360;
    const page = await signedIn({ viewport: { width, height: 740 } });
    for (const path of PAGES) {
      await page.goto(path);
      await settled(page);
      expect(await violations(page), path).toEqual([]);
      expect(await page.evaluate("document.documentElement.scrollWidth"), path).toBeLessThanOrEqual(width);
    }
  });

  test("gets by with a keyboard alone, and always sees where he is", async () => {
    const page = await newPage(console);
    await page.goto("/sign-in");
    await page.keyboard.type(lab.operatorToken);
    await page.keyboard.press("Enter");
    await row(page, ACME).getByText("Logs in").waitFor();
    await page.keyboard.press("Tab");
    expect(await focused(page)).toBe("Skip to content");
    await tabTo(page, "acme");
    await page.keyboard.press("Enter");
    await page.waitForURL("**/tenants/acme");
    await tabTo(page, "Emergency reset");
    await page.keyboard.press("Enter");
    const dialog = page.getByRole("dialog");
    await dialog.waitFor();
    expect(await page.evaluate("document.activeElement.closest('dialog') !== null")).toBe(true);
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
    expect(await focused(page)).toBe("Emergency reset");
  });

  test("isn't moved about when what was still being read comes, nor by a run that somebody left", async () => {
    await killedAt(resetArgs(GLOBEX, newIncident("console-moves")), "✓ set the password");
    const page = await signedIn();
    for (const path of PAGES) {
      await page.goto(path);
      await settled(page);
      expect(await page.evaluate(layoutShift), path).toBeLessThan(0.001);
      if (path === "/incidents") expect(await page.locator(".left li").count()).toBeGreaterThan(0);
    }
    expect((await runbook(["resume", "--tenant", GLOBEX.id, "--yes"])).code).toBe(0);
  });

  test("isn't kept from the log by a Vault that takes its time", async () => {
    const page = await signedIn();
    // The answer about what is unfinished never comes.
    await page.route("**/incidents/live", () => {});
    await page.goto("/incidents");
    const log = page.getByRole("heading", { name: "What was done" });
    expect(await log.isVisible()).toBe(false);
    await log.waitFor({ timeout: 5_000 });
  });
});

const focused = (page: Page): Promise<string> =>
  page.evaluate("document.activeElement?.textContent?.trim() ?? ''");

/** Tabs on until it is there. What has the focus must stand out on the way. */
async function tabTo(page: Page, text: string): Promise<void> {
  for (let tries = 0; tries < 40; tries++) {
    if ((await focused(page)) === text) return;
    await page.keyboard.press("Tab");
    const outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle");
    const isSomewhere = await page.evaluate("document.activeElement !== document.body");
    if (isSomewhere) expect(outline, `focus on ${await focused(page)}`).not.toBe("none");
  }
  throw new Error(`No way to '${text}' by the Tab key`);
}

/** The sum of all layout shifts that no key and no click has caused. */
const layoutShift = `new Promise((resolve) => {
  let sum = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) sum += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => resolve(sum), 200);
})`;
