// Debian's chromium, which set-up brings where none is there, for the tests and the pictures of the console: without a
// window, with a profile that goes with it, and talking to nobody but the pages that it is sent to.
import { type Browser, chromium } from "playwright-core";
import { findBrowser } from "./toolchain/system.ts";

const QUIET = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // Everything but this machine is unreachable, names too: what isn't served by the console can't be fetched.
  "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1",
];

/** Close it, or it lives as long as this process. Throws an Error that names the command to type where there is none. */
export function launchBrowser(): Promise<Browser> {
  const executablePath = findBrowser();
  if (executablePath === undefined) throw new Error("No browser was found: npm run setup -- --browser");
  // Chromium refuses to shut itself in where root runs it.
  return chromium.launch({ executablePath, chromiumSandbox: process.getuid?.() !== 0, args: QUIET });
}
