// `npm run bench -- console`: how long the console's first page takes with hundreds of tenants, and what it costs Vault
// while it is open. Vault, behind a proxy that counts, is the lab's own and as fast as it is.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { stringify } from "yaml";
import { launchBrowser } from "../browser.ts";
import { type RunningConsole, startConsole } from "../lab/console.ts";
import type { OpenLab } from "../lab/place.ts";
import { Ground } from "./ground.ts";
import { PORTS } from "./slow-servers.ts";
import { median } from "./statistics.ts";

/** Milliseconds for the first page, less than that; reads of Vault in a second, at most. */
export const CONSOLE_PROMISED = { firstPageMs: 100, readsPerSecond: 4 };

export interface ConsoleOptions {
  readonly tenants: number;
  /** How often the page is asked for. */
  readonly turns: number;
  readonly scratch: string;
}

export interface ConsoleReport {
  tenants: number;
  /** From the request to the last byte of the page, each. */
  pageMs: number[];
  /** From the click to the first rows on the screen of a browser on this machine, each. */
  paintMs: number[];
  /** What filling the open page cost: once. */
  fill: { reads: number; seconds: number };
  /** While it stays open. */
  open: { reads: number; seconds: number };
}

/** Seconds for which an open page is watched. */
const WATCHED_S = 30;

/** Measures on a lab whose Vault has no tenants but those of such a measurement. */
export async function benchConsole(
  lab: OpenLab,
  { tenants, turns, scratch }: ConsoleOptions,
  tell: (line: string) => void,
): Promise<ConsoleReport> {
  const ground = new Ground(lab, { tenants, scratch, latency: 0 }, tell);
  try {
    await ground.prepare();
    const served = await startConsole(lab, { env: environment(ground, scratch) });
    const browser = await launchBrowser();
    try {
      tell(`asking for the first page, ${turns} times`);
      const pageMs = await askFor(served, lab.operatorToken, turns);
      const page = await (await browser.newContext({ baseURL: served.url })).newPage();
      await signIn(page, lab.operatorToken);
      const paintMs = await paints(page, turns);
      tell(`leaving it open for ${WATCHED_S} s`);
      return { tenants, pageMs, paintMs, ...(await watch(ground, page)) };
    } finally {
      await browser.close();
      await served.end();
    }
  } finally {
    await ground.end();
  }
}

function environment(ground: Ground, scratch: string): NodeJS.ProcessEnv {
  const RECOVERY_CONFIG = join(scratch, "recovery.yaml");
  const addr = `http://${ground.services}:${PORTS.vault}`;
  writeFileSync(
    RECOVERY_CONFIG,
    stringify({ vault: { addr }, audit: { log: join(scratch, "audit.jsonl") } }),
  );
  return { ...ground.slowEnv, VAULT_TOKEN: "", RECOVERY_CONFIG };
}

/** By a client that does nothing else, so that only the server is measured. */
async function askFor({ url }: RunningConsole, token: string, turns: number): Promise<number[]> {
  const signedIn = await fetch(`${url}/sign-in/token`, {
    ...{ method: "POST", redirect: "manual", headers: { origin: url } },
    body: new URLSearchParams({ token }),
  });
  const [cookie = ""] = signedIn.headers.getSetCookie().map((line) => line.split(";")[0]);
  const once = async (): Promise<number> => {
    const begin = performance.now();
    const answer = await fetch(`${url}/`, { headers: { cookie } });
    const text = await answer.text();
    const took = performance.now() - begin;
    if (!answer.ok || !text.includes("bench-0001"))
      throw new Error(`The first page is ${answer.status}: ${text}`);
    return took;
  };
  // Once for nothing: the connection is there then.
  await once();
  const times: number[] = [];
  for (let turn = 0; turn < turns; turn++) times.push(await once());
  return times;
}

async function signIn(page: Page, token: string): Promise<void> {
  await page.goto("/sign-in");
  await page.getByLabel("Vault token").fill(token);
  await page.getByLabel("Vault token").press("Enter");
  await page.locator("[data-tenant]").first().waitFor();
}

async function paints(page: Page, turns: number): Promise<number[]> {
  const times: number[] = [];
  for (let turn = 0; turn < turns; turn++) {
    await page.goto("/backups");
    await page.goto("/");
    times.push(Number(await page.evaluate(FIRST_PAINT)));
  }
  return times;
}

const FIRST_PAINT = `new Promise((resolve) => {
  new PerformanceObserver((list) => {
    for (const { name, startTime } of list.getEntries()) if (name === "first-contentful-paint") resolve(startTime);
  }).observe({ type: "paint", buffered: true });
})`;

async function watch(ground: Ground, page: Page): Promise<Pick<ConsoleReport, "fill" | "open">> {
  // Rows that nobody has looked at yet.
  const begin = await reads(ground);
  const start = performance.now();
  await page.goto("/?page=2");
  while ((await page.getByText("Logs in").count()) < (await page.locator("[data-tenant]").count()))
    await page.waitForTimeout(100);
  const filled = await reads(ground);
  const fill = { reads: filled - begin, seconds: (performance.now() - start) / 1000 };
  await page.waitForTimeout(WATCHED_S * 1000);
  return { fill, open: { reads: (await reads(ground)) - filled, seconds: WATCHED_S } };
}

const reads = async (ground: Ground): Promise<number> => (await ground.stats()).Vault?.requests ?? 0;

export const isKept = ({ pageMs, open }: ConsoleReport): boolean =>
  median(pageMs) < CONSOLE_PROMISED.firstPageMs &&
  open.reads / open.seconds <= CONSOLE_PROMISED.readsPerSecond;
