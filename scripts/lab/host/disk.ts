// What a lab host's disk holds before its first boot: the few files that make a directory a machine of
// its own. Nothing of the machine underneath is copied but the linker's cache, so no key or token leaks in.
import { chmodSync, copyFileSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MAILU_DATA, MAILU_HOME } from "../../../stacks/names.ts";

const PATH = "/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** One host, as its disk is to know it. */
export interface DiskOptions {
  name: string;
  /** The host's own loopback address, the only one it listens on. */
  address: string;
  /** One line of root's authorized_keys. */
  authorizedKey: string;
}

/** Lays out `root` as a host's disk. A disk that has been booted before keeps everything but its wiring. */
export function prepareDisk(root: string, options: DiskOptions): void {
  const { name, address, authorizedKey } = options;
  directory(root, 0o755);
  for (const path of ["etc/ssh", "lab/bin", "opt", "root", "var/log", "var/lib/docker", "var/tmp", "home"]) {
    directory(join(root, path), 0o755);
  }
  for (const path of [MAILU_HOME, MAILU_DATA]) directory(join(root, path), 0o755);
  directory(join(root, "root/.ssh"), 0o700);

  write(root, "root/.ssh/authorized_keys", `${authorizedKey.trim()}\n`, 0o600);
  write(root, "lab/host.json", `${JSON.stringify({ name, address })}\n`);
  write(root, "lab/bin/docker", dockerLauncher, 0o755);
  write(root, "lab/bin/ss", ownSockets(address), 0o755);
  write(root, "etc/ssh/sshd_config", sshdConfig(address));
  write(root, "etc/hostname", `${name}\n`);
  write(root, "etc/hosts", `127.0.0.1 localhost\n${address} ${name}\n`);
  if (existsSync(join(root, "etc/passwd"))) return;

  write(
    root,
    "etc/passwd",
    "root:x:0:0:root:/root:/bin/bash\nsshd:x:102:65534::/run/sshd:/usr/sbin/nologin\n",
  );
  write(root, "etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n");
  write(root, "etc/shadow", "root:*:20000:0:99999:7:::\nsshd:!:20000::::::\n", 0o600);
  write(root, "etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n");
  write(root, "etc/fstab", "# <file system> <mount point> <type> <options> <dump> <pass>\n");
  write(root, "etc/resolv.conf", "");
  if (existsSync("/etc/ld.so.cache")) copyFileSync("/etc/ld.so.cache", join(root, "etc/ld.so.cache"));
}

function directory(path: string, mode: number): void {
  mkdirSync(path, { recursive: true });
  chmodSync(path, mode);
}

function write(root: string, path: string, text: string, mode = 0o644): void {
  writeFileSync(join(root, path), text);
  chmodSync(join(root, path), mode);
}

// Only what changes something is serialised: `ps` must answer while an `up --wait` still waits.
const dockerLauncher = `#!/bin/sh
export NODE_COMPILE_CACHE=/lab/cache
lock=
case " $* " in
  *" up "* | *" down "* | *" start "* | *" stop "* | *" restart "* | *" kill "* | *" lab-boot "*)
    lock="flock --close /run/docker.lock" ;;
esac
exec $lock /lab/node --disable-warning=ExperimentalWarning /lab/project/scripts/lab/host/docker.ts "$@"
`;

// All hosts share the machine's network, of which each has one address.
const ownSockets = (address: string): string => `#!/bin/sh
exec /usr/bin/ss "$@" src ${address}
`;

// SetEnv rather than a profile: it also reaches \`ssh HOST command\`, which reads no profile.
const sshdConfig = (address: string): string => `ListenAddress ${address}
Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
AuthorizedKeysFile .ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitUserEnvironment no
UsePAM no
UseDNS no
PrintMotd no
MaxStartups 100:30:200
MaxSessions 50
SetEnv PATH=${PATH}
Subsystem sftp internal-sftp
`;
