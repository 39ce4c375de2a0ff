// `npm run screenshots`: pictures of the console's main pages, light and dark, into docs/screenshots. Everything on them
// is really there, on a lab, but for the drills: nobody waits for a dozen of them.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import type { Browser, Page } from "playwright-core";
import { parse, stringify } from "yaml";
import { launchBrowser } from "./browser.ts";
import { run } from "./lab/children.ts";
import { type RunningConsole, startConsole } from "./lab/console.ts";
import { foreignNames } from "./lab/environment.ts";
import { startLab } from "./lab/lab.ts";
import { type OpenLab, openLab } from "./lab/place.ts";
import { writeSampleDrills } from "./screenshots/sample-drills.ts";
import { REPOSITORY } from "./toolchain/paths.ts";

const USAGE = `Usage: npm run screenshots -- [--dir FOLDER] [--out FOLDER]

  --dir FOLDER  on the lab that runs in this folder, and not on a fresh one; acme's password is reset there
  --out FOLDER  where the pictures go (default docs/screenshots)
`;

const SIZE = { width: 1200, height: 820 };
const PHONE = { width: 390, height: 844 };

/** Others than before, on a lab that was used before: a known incident rotates nothing. */
const NUMBER = 100 + (Math.floor(Date.now() / 1000) % 400) * 2;
const INCIDENTS = [`INC-2026-${NUMBER}`, `INC-2026-${NUMBER + 1}`] as const;

const tell = (line: string): void => void process.stderr.write(`${line}\n`);

process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  let given: { dir?: string | undefined; out?: string | undefined; help?: boolean | undefined };
  try {
    const options = { dir: { type: "string" }, out: { type: "string" }, help: { type: "boolean" } } as const;
    given = parseArgs({ args, options }).values;
  } catch (error) {
    tell(`${error instanceof Error ? error.message.split(". ")[0] : error}\n\n${USAGE}`);
    return 2;
  }
  if (given.help === true) {
    process.stdout.write(USAGE);
    return 0;
  }
  for (const name of foreignNames(process.env)) delete process.env[name];
  const scratch = mkdtempSync(join(tmpdir(), "screenshots-"));
  try {
    const out = resolve(given.out ?? join(REPOSITORY, "docs", "screenshots"));
    mkdirSync(out, { recursive: true });
    if (given.dir !== undefined) await pictures(await openLab(resolve(given.dir)), scratch, out);
    else {
      tell("Starting a fresh lab");
      const lab = await startLab({ dir: join(scratch, "lab"), onProgress: (line) => tell(`  ${line}`) });
      await pictures(lab, scratch, out).finally(() => lab.stop());
    }
    return 0;
  } catch (error) {
    tell(error instanceof Error ? (error.stack ?? error.message) : String(error));
    return 1;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function pictures(lab: OpenLab, scratch: string, out: string): Promise<void> {
  await prepare(lab);
  const RECOVERY_CONFIG = withDrills(lab, join(scratch, "drills"));
  const served = await startConsole(lab, { env: { RECOVERY_CONFIG } });
  const browser = await launchBrowser();
  try {
    await takeAll(browser, served, lab, out);
  } finally {
    await browser.close();
    await served.end();
    rmSync(RECOVERY_CONFIG);
  }
}

/** What a lab that was just started doesn't have yet: a backup that was opened, and an incident. */
async function prepare(lab: OpenLab): Promise<void> {
  const asBackup = { VAULT_TOKEN: "", VAULT_ROLE_ID: lab.backupRoleId, VAULT_SECRET_ID: lab.backupSecretId };
  await runbook(lab, ["backup-vault", "--yes"], asBackup);
  await runbook(lab, ["verify-backup", "--yes"]);
  const about = ["--incident", INCIDENTS[0], "--details", "Password found in a public repository"];
  await runbook(lab, ["respond-to-compromise", "--tenants", "globex", ...about, "--yes"]);
}

async function runbook(lab: OpenLab, args: string[], env: NodeJS.ProcessEnv = {}): Promise<void> {
  tell(`npx runbook ${args.join(" ")}`);
  const main = join(REPOSITORY, "runbooks", "main.ts");
  const done = await run(main, args, { env: { ...lab.env, ...env }, lab: lab.place.dir });
  if (done.code !== 0) throw new Error(done.stderr);
}

/** The lab's settings with another folder for drills, beside its own, since they name files relative to themselves. */
function withDrills(lab: OpenLab, drills: string): string {
  writeSampleDrills(drills);
  const own = parse(readFileSync(join(lab.place.dir, "recovery.yaml"), "utf8")) as Record<string, unknown>;
  const file = join(lab.place.dir, "recovery-screenshots.yaml");
  writeFileSync(file, stringify({ ...own, drills }));
  return file;
}

async function takeAll(browser: Browser, served: RunningConsole, lab: OpenLab, out: string): Promise<void> {
  const context = await browser.newContext({ baseURL: served.url, viewport: SIZE });
  const page = await context.newPage();
  await page.goto("/sign-in");
  const picture = (name: string): Promise<void> => bothWays(page, join(out, name));
  await picture("sign-in");
  await page.getByLabel("Vault token").fill(lab.operatorToken);
  await page.getByLabel("Vault token").press("Enter");
  await page.getByText("Logs in").nth(1).waitFor();
  await picture("tenants");

  await page.getByRole("link", { name: "acme", exact: true }).click();
  await page.locator(".event").first().waitFor();
  await page.getByRole("link", { name: "Emergency reset" }).click();
  await page.getByLabel("Incident id").fill(INCIDENTS[1]);
  await page.getByRole("textbox", { name: "Reason" }).fill("Laptop of an administrator stolen");
  await page.getByLabel("Type acme to confirm").fill("acme");
  await picture("reset");
  await page.getByRole("button", { name: "Reset now" }).click();
  await page.getByRole("button", { name: "Show the new password" }).waitFor();
  await picture("run");
  // So that it counts as handed out; no picture is made of it.
  await page.getByRole("button", { name: "Show the new password" }).click();
  await page.getByRole("button", { name: "Hide it now" }).click();
  await page.locator(".state-done").waitFor();

  await page.goto("/tenants/acme");
  await page.locator(".event").first().waitFor();
  await picture("tenant");
  await page.goto("/incidents");
  await page.locator(".incident").first().waitFor();
  await page.getByText("is left to do").waitFor();
  await picture("incidents");
  await page.goto("/backups");
  await page.locator(".backups").waitFor();
  await picture("backups");
  await page.goto("/drills");
  await picture("drills");
  await page.setViewportSize(PHONE);
  await page.goto("/");
  await page.getByText("Logs in").nth(1).waitFor();
  await picture("phone");
  await context.close();
}

async function bothWays(page: Page, name: string): Promise<void> {
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: `${name}-${colorScheme}.png` });
    tell(`${name}-${colorScheme}.png`);
  }
}
