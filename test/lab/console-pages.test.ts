// The console's pages in a real browser, held against Vault's and the bucket's own word; for eyes, for screen readers,
// for a keyboard alone, on a phone; and with hostile texts in everything that people and servers may have written.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { source as axe } from "axe-core";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { z } from "zod";
import { AuditLog } from "../../runbooks/lib/audit.ts";
import { keepDrillReport } from "../../runbooks/lib/drill-reports.ts";
import { Outbox } from "../../runbooks/lib/outbox.ts";
import { loadSettings } from "../../runbooks/lib/settings.ts";
import type { RunningConsole } from "../../scripts/lab/console.ts";
import { ACME, GLOBEX } from "../../scripts/lab/tenants.ts";
import { newNotice } from "../runbooks/lib/fixtures/told.ts";
import { backUp } from "./backup.ts";
import { newPage, openConsole, useBrowser } from "./browser.ts";
import { signIn } from "./console.ts";
import { killedAt } from "./killed.ts";
import { addressOf, lab, record, runbook, vault } from "./lab.ts";
import { credentialOf, expectReset, newIncident, resetArgs, until } from "./resets.ts";
import { withWindow } from "./vault-window.ts";

useBrowser();

const HOSTILE = `"><img src=x onerror="window.hostile=1"><script>window.hostile=1</script>`;
const scratch = mkdtempSync(join(tmpdir(), "console-pages-"));
const drills = join(scratch, "drills");
const settings = join(lab.place.dir, "recovery-console-pages.yaml");
let console: RunningConsole;
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

const drill = (at: string, name: string, seconds: number) => ({
  at,
  scenarios: [
    {
      ...{ name, passed: seconds <= 1800, target_rto_s: 1800, measured_rto_s: seconds },
      ...{ target_rpo_s: 86_400, measured_rpo_s: 60 },
    },
  ],
});

/** A page of somebody who is signed in. Whatever a page's scripts or its policy complain of fails the test. */
async function signedIn(options: Parameters<typeof newPage>[1] = {}, at = console): Promise<Page> {
  const page = await newPage(at, options);
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(message.text());
  });
  await signIn(page);
  return page;
}
const problems: string[] = [];
afterAll(() => expect(problems).toEqual([]));

const row = (page: Page, tenant: { id: string }) => page.locator(`[data-tenant="${tenant.id}"]`);

const Metadata = z.object({
  data: z.object({ custom_metadata: z.record(z.string(), z.string()).nullable() }),
});

/** Marks the tenant's current version while `work` runs; `incident` as somebody else may have written it there. */
async function whileMarked(tenant: typeof GLOBEX, incident: string, work: () => Promise<void>) {
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

/** All that comes after the page has come. */
async function settled(page: Page): Promise<void> {
  await until(async () => (await page.locator("[aria-busy], .waiting").count()) === 0);
}

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

  test("isn't moved about when what was still being read comes", async () => {
    const page = await signedIn();
    for (const path of PAGES) {
      await page.goto(path);
      await settled(page);
      expect(await page.evaluate(layoutShift), path).toBeLessThan(0.001);
    }
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

describe("hostile text", () => {
  /** It stands there to be read, and nowhere was anything made of it. */
  async function expectInert(page: Page, path: string): Promise<void> {
    await page.goto(path);
    await settled(page);
    await until(async () => (await page.locator("main").innerText()).includes(HOSTILE));
    for (const details of await page.locator("details").all())
      await details.evaluate((one) => one.setAttribute("open", ""));
    expect(await page.locator("img, main script").count()).toBe(0);
    expect(await page.evaluate("'hostile' in window")).toBe(false);
  }

  test("in a mark's incident is text, on every page that shows it", async () => {
    const page = await signedIn();
    await whileMarked(GLOBEX, HOSTILE, async () => {
      await row(page, GLOBEX).getByText("Compromised: ").waitFor();
      await expectInert(page, "/");
      await expectInert(page, `/tenants/${GLOBEX.id}`);
    });
  });

  test("in a tenant's contact is text", async () => {
    const page = await signedIn();
    const { fields } = await record(GLOBEX.id, "server");
    const write = async (data: unknown) => {
      const { version } = await record(GLOBEX.id, "server");
      await vault("POST", `smtp/data/${GLOBEX.id}/server`, { data, options: { cas: version } });
    };
    const hostile = `${HOSTILE.replaceAll(/[^a-z]/g, "")}@people.example`;
    await write({ ...fields, contact_email: hostile, domain: fields.domain });
    try {
      await page.goto(`/tenants/${GLOBEX.id}`);
      await page.getByText(hostile).waitFor();
      // What is no address at all is refused with the field's name, and not shown.
      await write({ ...fields, contact_email: HOSTILE });
      await page.goto(`/tenants/${GLOBEX.id}`);
      await page.getByText("contact_email").first().waitFor();
      expect(await page.locator("img, main script").count()).toBe(0);
    } finally {
      await write(fields);
    }
  });

  test("in an audit event, a notice and a drill's report is text", async () => {
    const env = { ...process.env, ...lab.env };
    const own = loadSettings(env);
    // Without the bucket: its client reads the variables of this process. The next run brings the copies.
    const settings = () => ({ ...own, audit: { ...own.audit, bucket: undefined } });
    const log = new AuditLog({ settings, env, runId: newIncident("hostile"), userId: async () => HOSTILE });
    // One that nobody else's test and no restore looks for in this log.
    const event = "written_by_somebody";
    await log.append({ event, tenantId: GLOBEX.id, details: { incident_id: HOSTILE, reason: HOSTILE } });
    await log.finish();
    const notice = newNotice({ tenant_id: GLOBEX.id, incident_id: HOSTILE, subject: HOSTILE, text: HOSTILE });
    await new Outbox(own, env).keep(notice);
    const file = keepDrillReport(drills, drill("2026-01-15T02:00:00Z", HOSTILE, 1));
    try {
      const page = await signedIn();
      await expectInert(page, `/tenants/${GLOBEX.id}`);
      await expectInert(page, "/incidents");
      await page.getByText("1 notice waits").waitFor();
      await expectInert(page, "/drills");
    } finally {
      rmSync(file);
      expect((await runbook(["notify", "flush", "--yes"])).code).toBe(0);
    }
  });
});
