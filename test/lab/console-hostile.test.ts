// The console in a real browser with hostile texts in everything that people and servers may have written.
import { rmSync } from "node:fs";
import type { Page } from "playwright-core";
import { describe, expect, test } from "vitest";
import { AuditLog } from "../../runbooks/lib/audit.ts";
import { keepDrillReport } from "../../runbooks/lib/drill-reports.ts";
import { Outbox } from "../../runbooks/lib/outbox.ts";
import { loadSettings } from "../../runbooks/lib/settings.ts";
import { GLOBEX } from "../../scripts/lab/tenants.ts";
import { newNotice } from "../runbooks/lib/fixtures/told.ts";
import { drill, drills, row, settled, signedIn, usePages, whileMarked } from "./console-pages.ts";
import { lab, record, runbook, vault } from "./lab.ts";
import { newIncident, until } from "./resets.ts";

usePages();

const HOSTILE = `"><img src=x onerror="window.hostile=1"><script>window.hostile=1</script>`;

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
