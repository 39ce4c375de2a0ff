// What the machine itself has to have: OpenSSH for the lab's hosts, util-linux for keeping them apart; for the tests a
// browser.
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { note, progress } from "./progress.mjs";
import { runQuietly } from "./run.ts";

const PACKAGE_OF: Record<string, string> = {
  ssh: "openssh-client",
  "ssh-agent": "openssh-client",
  "ssh-keygen": "openssh-client",
  "ssh-keyscan": "openssh-client",
  sshd: "openssh-server",
  unshare: "util-linux",
  setpriv: "util-linux",
  nsenter: "util-linux",
};

/** Browsers that speak the protocol which the tests drive them by; the first one found is taken. */
const BROWSERS = ["chromium", "chromium-browser", "google-chrome"];

/** Debian's packages of the commands that are missing. @param browser the tests need one, an operator doesn't. */
export function missingPackages({ browser }: { browser: boolean }): string[] {
  const missing = Object.entries(PACKAGE_OF).filter(([command]) => findCommand(command) === undefined);
  const packages = missing.map(([, name]) => name);
  if (browser && findBrowser() === undefined) packages.push("chromium");
  return [...new Set(packages)];
}

/** The browser's executable; undefined where there is none. */
export const findBrowser = (): string | undefined => BROWSERS.flatMap((name) => findCommand(name) ?? [])[0];

function findCommand(command: string): string | undefined {
  // sshd lies in a directory that an ordinary user's PATH leaves out.
  const places = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return places.map((place) => join(place, command)).find((file) => existsSync(file));
}

/** Apt fetches again what broke off, and waits for whoever is installing something just now. */
const PATIENTLY = ["-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120"];

/** Installs Debian packages. Throws an Error that names the command to type where that isn't ours to do. */
export async function aptInstall(packages: string[], lock: number): Promise<void> {
  const command = `apt-get install ${packages.join(" ")}`;
  if (process.getuid?.() !== 0 || !existsSync("/usr/bin/apt-get")) {
    throw new Error(`missing: ${packages.join(", ")}. Run as root: ${command}, then: npm run setup`);
  }
  await progress(packages.join(", "), async (say) => {
    const release = forbidServices();
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    const install = () =>
      runQuietly("apt-get", ["install", "--yes", "--no-install-recommends", ...PATIENTLY, ...packages], {
        env,
        lock,
        onLine: (line) => say(line),
      });
    try {
      say(command);
      // The package lists may be absent or too old to install from; renewing them takes longer than trying.
      await install().catch(async () => {
        say("apt-get update");
        await runQuietly("apt-get", ["update", ...PATIENTLY], { env, lock });
        await install();
      });
    } finally {
      release();
    }
  });
  if (packages.includes("openssh-server")) {
    note(
      "  the lab runs sshd on loopback addresses only; so that none starts at boot: systemctl disable ssh",
    );
  }
}

const POLICY = "/usr/sbin/policy-rc.d";
const OURS = "#!/bin/sh\n# written by penguinmails-recovery's set-up, which removes it\nexit 101\n";

/** Keeps the packages' services, an SSH server open to the world above all, from being started. */
function forbidServices(): () => void {
  const leftBehind = existsSync(POLICY) && readFileSync(POLICY, "utf8") === OURS;
  if (existsSync(POLICY) && !leftBehind) return () => {};
  writeFileSync(POLICY, OURS, { mode: 0o755 });
  return () => rmSync(POLICY, { force: true });
}
