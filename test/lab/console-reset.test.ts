// The Emergency Reset in a real browser, from the danger button to a login by the new password; and what a person does
// in his haste: clicks twice, opens two windows, closes the tab. Whatever dies, the password is known and seen once.
import { beforeAll, describe, expect, test } from "vitest";
import type { RunningConsole } from "../../scripts/lab/console.ts";
import { GLOBEX } from "../../scripts/lab/tenants.ts";
import { newPage, openConsole, useBrowser } from "./browser.ts";
import {
  expectSilent,
  fillIn,
  fillReset,
  resetNow,
  shortConsole,
  showPassword,
  signIn,
  sourceOf,
  startReset,
  state,
  takePassword,
  tokenWith,
} from "./console.ts";
import { lab } from "./lab.ts";
import { credentialOf, events, expectReset, logsIn, newIncident, rotationOf, until } from "./resets.ts";

useBrowser();

/** For all that don't end it. */
let shared: RunningConsole;
beforeAll(async () => {
  shared = await openConsole();
});

const DONE = /^Done$/;
const GONE = { status: 410, text: '{"gone":true}' };

/** On another console, after the one that began it is gone: the new password. */
async function goOn(incident: string): Promise<string> {
  const page = await newPage(shared);
  await signIn(page);
  await page.goto("/incidents");
  const left = page.getByRole("listitem").filter({ hasText: incident });
  await left.getByRole("button", { name: `Go on with ${GLOBEX.id}` }).click();
  const password = await showPassword(page);
  await state(page).filter({ hasText: DONE }).waitFor();
  return password;
}

describe("the emergency reset", { timeout: 120_000 }, () => {
  test("is done by a click, a name and a click; the new password logs in, is copied, and comes back by no button", async () => {
    const page = await newPage(shared);
    const was = await credentialOf(GLOBEX);
    const incident = newIncident("console");
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await signIn(page);
    await page.getByRole("link", { name: GLOBEX.id }).first().click();
    await startReset(page, GLOBEX, incident);
    const password = await showPassword(page);
    expect(password).not.toBe(was.password);
    await page.locator("#run-live .state", { hasText: DONE }).waitFor();
    expect(await page.locator(".step").count()).toBeGreaterThan(10);
    // Through other doors than the console's.
    expect((await expectReset(GLOBEX, was, incident)).password).toBe(password);
    expect(await logsIn(GLOBEX, password)).toBe(true);
    expect(await rotationOf(GLOBEX)).toMatchObject({ displayed: true, actor: "token-operator" });

    await page.getByRole("button", { name: "Copy password" }).click();
    expect(await page.evaluate("navigator.clipboard.readText()")).toBe(password);
    expect(await sourceOf(page)).toContain(password);
    await page.goto("/runs");
    await page.goBack();
    await page.getByText("It was shown once. Who needs another one").waitFor();
    expect(await sourceOf(page)).not.toContain(password);
    expectSilent(shared.written(), password, String(lab.env.VAULT_TOKEN));
  });

  test("is one for a double click, and one for two windows", async () => {
    const page = await newPage(shared);
    const was = await credentialOf(GLOBEX);
    const incident = newIncident("twice");
    await signIn(page);
    const other = await page.context().newPage();
    await fillReset(page, GLOBEX, incident);
    await fillReset(other, GLOBEX, incident);
    await Promise.all([resetNow(page).dblclick(), resetNow(other).click()]);
    await Promise.all([page.waitForURL("**/runs/*"), other.waitForURL("**/runs/*")]);
    expect(other.url()).toBe(page.url());
    const password = await showPassword(page);
    await other.getByText("It was shown once").first().waitFor();
    expect(await sourceOf(other)).not.toContain(password);
    await state(page).filter({ hasText: DONE }).waitFor();
    await expectReset(GLOBEX, was, incident);
  });

  test("rotates once more for an incident only where that is asked for", async () => {
    const page = await newPage(shared);
    const was = await credentialOf(GLOBEX);
    const incident = newIncident("again");
    await signIn(page);
    await startReset(page, GLOBEX, incident);
    await showPassword(page);
    await state(page).filter({ hasText: DONE }).waitFor();
    await startReset(page, GLOBEX, incident);
    await state(page).filter({ hasText: DONE }).waitFor();
    await page.getByText("is done: only what is outstanding").waitFor();
    await fillReset(page, GLOBEX, incident);
    await page.getByLabel("Rotate once more").check();
    await resetNow(page).click();
    await page.waitForURL("**/runs/*");
    const password = await showPassword(page);
    await state(page).filter({ hasText: DONE }).waitFor();
    expect((await expectReset(GLOBEX, was, incident, { versions: 2, events: 2 })).password).toBe(password);
  });

  test("goes on when its tab is closed, and is found again; its password is gone when hidden", async () => {
    const page = await newPage(shared);
    const was = await credentialOf(GLOBEX);
    const incident = newIncident("closed");
    await signIn(page);
    await startReset(page, GLOBEX, incident);
    const context = page.context();
    await page.close();
    await until(async () => (await rotationOf(GLOBEX)).state === "RETIRED");
    const next = await context.newPage();
    await next.goto("/runs");
    await next.getByRole("link", { name: incident }).click();
    const password = await showPassword(next);
    expect(await sourceOf(next)).toContain(password);
    await next.getByRole("button", { name: "Hide it now" }).click();
    expect(await sourceOf(next)).not.toContain(password);
    await state(next).filter({ hasText: DONE }).waitFor();
    await next.reload();
    await next.getByText("It was shown once. Who needs another one").waitFor();
    expect(await sourceOf(next)).not.toContain(password);
    expect((await expectReset(GLOBEX, was, incident)).password).toBe(password);
  });

  test("is shown to nobody else, also not to the same person in another browser", async () => {
    const [page, other] = [await newPage(shared), await newPage(shared)];
    await signIn(page);
    await signIn(other);
    await startReset(page, GLOBEX, newIncident("mine"));
    await page.getByRole("button", { name: "Show the new password" }).waitFor();
    await other.goto(page.url());
    await other.getByText("Only token-operator can see it").waitFor();
    expect(await takePassword(other)).toEqual(GONE);
    expect(await logsIn(GLOBEX, await showPassword(page))).toBe(true);
  });
});

describe("without the role", { timeout: 60_000 }, () => {
  test("a reset is refused by Vault, in the runbook's words, and nothing changed", async () => {
    const page = await newPage(shared);
    const was = await credentialOf(GLOBEX);
    const incident = newIncident("refused");
    await signIn(page, await tokenWith("reader", "drift-reader"));
    // The tenant's own page says the same already.
    await page.goto(`/tenants/${GLOBEX.id}/reset`);
    await fillIn(page.getByRole("main"), GLOBEX, incident);
    await page.getByRole("button", { name: "Reset now" }).click();
    await page.getByText(/Insufficient permissions: token-reader lacks/).waitFor();
    await page.getByText("log in to Vault with the policy 'platform-admin'").waitFor();
    expect((await credentialOf(GLOBEX)).version).toBe(was.version);
    expect(await events(GLOBEX, incident)).toEqual([]);
  });

  test("a wrong name is refused before anything runs", async () => {
    const page = await newPage(shared);
    await signIn(page);
    const incident = newIncident("wrong-name");
    await fillReset(page, GLOBEX, incident);
    await page.getByRole("dialog").getByLabel(`Type ${GLOBEX.id} to confirm`).fill("globe");
    await resetNow(page).click();
    expect(new URL(page.url()).pathname).toBe(`/tenants/${GLOBEX.id}`);
    await page.goto("/runs");
    await page.getByRole("heading", { name: "Runs" }).waitFor();
    expect(await page.getByText(incident).count()).toBe(0);
  });
});

describe("a server that is killed", { timeout: 120_000 }, () => {
  test("in mid-reset leaves it to the next one, which finishes it and shows its password", async () => {
    const console = await openConsole();
    const page = await newPage(console);
    const was = await credentialOf(GLOBEX);
    const incident = newIncident("killed");
    await signIn(page);
    await startReset(page, GLOBEX, incident);
    await page.locator(".step", { hasText: "set the password of" }).waitFor();
    await console.end("SIGKILL");
    await page.getByText("The console doesn't answer.").waitFor();
    const password = await goOn(incident);
    expect((await expectReset(GLOBEX, was, incident)).password).toBe(password);
  });

  test("while a new password waits to be looked at, it waits for the next one", async () => {
    const console = await openConsole();
    const page = await newPage(console);
    const was = await credentialOf(GLOBEX);
    const incident = newIncident("unseen");
    await signIn(page);
    await startReset(page, GLOBEX, incident);
    await page.getByRole("button", { name: "Show the new password" }).waitFor();
    await console.end("SIGKILL");
    const password = await goOn(incident);
    expect((await expectReset(GLOBEX, was, incident)).password).toBe(password);
  });

  test("by Ctrl-C asks the run to end after its step, and says how it left it", async () => {
    const console = await openConsole();
    const page = await newPage(console);
    const was = await credentialOf(GLOBEX);
    const incident = newIncident("ended");
    await signIn(page);
    await startReset(page, GLOBEX, incident);
    await page.getByRole("button", { name: "Show the new password" }).waitFor();
    expect(await console.end("SIGINT")).toBe(0);
    expect(console.written()).toContain(`Emergency reset of ${GLOBEX.id}, ${incident}: exit 5`);
    expect(await rotationOf(GLOBEX)).toMatchObject({ holder: null, displayed: false });
    await expectReset(GLOBEX, was, incident);
  });
});

describe("time", { timeout: 120_000 }, () => {
  test("a password that nobody looks at is wiped from the server, the same run shows it again, and then it is wiped from the page", async () => {
    const page = await newPage(await shortConsole({ displaySeconds: 6 }));
    const was = await credentialOf(GLOBEX);
    const incident = newIncident("late");
    await signIn(page);
    await startReset(page, GLOBEX, incident);
    await page.getByText("Nobody looked at it in time").waitFor();
    await state(page).filter({ hasText: "Incomplete: run it again" }).waitFor();
    expect(await rotationOf(GLOBEX)).toMatchObject({ displayed: false });
    expect(await takePassword(page)).toEqual(GONE);

    await page.getByRole("button", { name: "Run it again" }).click();
    const password = await showPassword(page);
    expect(await page.locator("[data-countdown]:visible").textContent()).toMatch(/^0:0[1-6]$/);
    await page.getByText("Wiped from this page").waitFor();
    expect(await sourceOf(page)).not.toContain(password);
    expect((await expectReset(GLOBEX, was, incident)).password).toBe(password);
  });

  test("a session that nobody uses ends on the page, too, and takes what it waited for with it", async () => {
    const page = await newPage(await shortConsole({ idleMs: 10_000 }));
    await signIn(page);
    const incident = newIncident("idle");
    await startReset(page, GLOBEX, incident);
    await page.waitForURL("**/sign-in?ended");
    await signIn(page);
    await page.goto("/runs");
    await page.getByRole("link", { name: incident }).click();
    await page.getByText("the session that started this run has ended").waitFor();
    await page.getByRole("button", { name: "Run it again" }).click();
    expect(await logsIn(GLOBEX, await showPassword(page))).toBe(true);
  });

  test("a page without a stream notices the end of its session by asking", async () => {
    const page = await newPage(await shortConsole({ idleMs: 4_000 }));
    await page.clock.install();
    await signIn(page);
    await page.goto("/drills");
    await new Promise((resolve) => setTimeout(resolve, 4_500));
    await page.clock.fastForward(31_000);
    await page.waitForURL("**/sign-in?ended");
  });
});
