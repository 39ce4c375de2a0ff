// What the machine itself has to have: OpenSSH for the lab's hosts, util-linux for keeping them apart.
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

/** Debian's packages of the commands that are missing. */
export function missingPackages(): string[] {
  // sshd lies in a directory that an ordinary user's PATH leaves out.
  const places = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  const missing = Object.entries(PACKAGE_OF).filter(
    ([command]) => !places.some((place) => existsSync(join(place, command))),
  );
  return [...new Set(missing.map(([, name]) => name))];
}

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
      runQuietly("apt-get", ["install", "--yes", "--no-install-recommends", ...packages], { env, lock });
    try {
      say(command);
      // The package lists may be absent or too old to install from; renewing them takes longer than trying.
      await install().catch(async () => {
        say("apt-get update");
        await runQuietly("apt-get", ["update"], { env, lock });
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
