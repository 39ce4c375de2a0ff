// A console on the shared lab and a browser that looks at it, both begun once for a test file and ended with it.
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, onTestFinished } from "vitest";
import { launchBrowser } from "../../scripts/browser.ts";
import { type RunningConsole, startConsole } from "../../scripts/lab/console.ts";
import { lab } from "./lab.ts";

let browser: Browser | undefined;
const consoles: RunningConsole[] = [];

/** Call it once at the top of a test file. */
export function useBrowser(): void {
  beforeAll(async () => {
    browser = await launchBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    await Promise.all(consoles.map((one) => one.end("SIGKILL")));
  });
}

/** A console of this test file's own. `env` wins over the lab's. */
export async function openConsole(options: Parameters<typeof startConsole>[1] = {}): Promise<RunningConsole> {
  const started = await startConsole(lab, options);
  consoles.push(started);
  return started;
}

/** A page in a profile of its own, so that nobody is signed in; closed with the test. */
export async function newPage(
  console: Pick<RunningConsole, "url">,
  options: BrowserContextOptions = {},
): Promise<Page> {
  if (browser === undefined) throw new Error("useBrowser() was not called");
  const context = await browser.newContext({ baseURL: console.url, ignoreHTTPSErrors: true, ...options });
  onTestFinished(() => context.close());
  context.setDefaultTimeout(30_000);
  return context.newPage();
}
