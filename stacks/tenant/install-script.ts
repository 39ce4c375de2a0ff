// The script that prepares a host and puts Mailu's files in place. It starts nothing: the recovery does that, once
// the secrets are there too. Run again at any time, it changes only what differs.
import { createHash } from "node:crypto";
import { COMPOSE_FILE, MAILU_DATA, MAILU_ENV_FILE, MAILU_HOME, SECRETS_DIR } from "../names.ts";
import { composeFile, type MailuSettings, mailuEnv } from "./compose.ts";
import { mtaStsNginx } from "./mta-sts.ts";
import { shellQuote } from "./shell.ts";

/** Path on the host and content of every file that the stack writes. */
export function hostFiles(settings: MailuSettings): Record<string, string> {
  const { domain, mtaSts } = settings;
  return {
    [COMPOSE_FILE]: composeFile(settings),
    [MAILU_ENV_FILE]: mailuEnv(settings),
    [`${MAILU_DATA}/overrides/nginx/mta-sts.conf`]:
      mtaSts === "none" ? "# no MTA-STS policy\n" : mtaStsNginx(domain, mtaSts),
  };
}

/** Path on the host and SHA-256 (hex) of every file that the stack writes. */
export const fileDigests = (files: Record<string, string>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(files).map(([path, content]) => [
      path,
      createHash("sha256").update(content).digest("hex"),
    ]),
  );

/** SHA-256 over paths and contents: changes exactly when a file does. */
export function filesDigest(files: Record<string, string>): string {
  return createHash("sha256").update(JSON.stringify(files)).digest("hex");
}

/**
 * A script for `sh -s`. Its body is one function called in the last line, so that a connection which breaks off
 * half-way runs nothing. `dataVolume` is the id of the EBS volume that belongs at the data folder.
 */
export function installScript(files: Record<string, string>, dataVolume: string | undefined): string {
  return `set -eu
fail() { echo "$1" >&2; exit 1; }
install_mailu() {
umask 022
${WAIT_FOR_BOOT}
${requireOwnHost(files[MAILU_ENV_FILE] ?? "")}
${dataVolume === undefined ? "" : mountDataVolume(dataVolume)}
mkdir -p ${MAILU_HOME} ${MAILU_DATA}/certs ${MAILU_DATA}/dkim ${MAILU_DATA}/overrides/nginx
mkdir -p -m 0700 ${SECRETS_DIR}
${Object.entries(files).map(writeFile).join("\n")}
}
install_mailu </dev/null
`;
}

const WAIT_FOR_BOOT = `if [ -d /run/cloud-init ] && command -v cloud-init >/dev/null; then
  timeout 600 cloud-init status --wait >/dev/null 2>&1 || :
fi
command -v docker >/dev/null || fail "This host has no docker. Install it (https://docs.docker.com/engine/install/), then: pulumi up"`;

/**
 * A slip in `existing.address` must not put one tenant's files over another's: the other's stack would believe its
 * own still there, and its Mailu would come up for the wrong domain at its next start.
 */
function requireOwnHost(env: string): string {
  const domain = /^DOMAIN=(.+)$/m.exec(env)?.[1];
  if (domain === undefined) return "";
  return `other=$(sed -n 's/^DOMAIN=//p' ${MAILU_ENV_FILE} 2>/dev/null || :)
case $other in
  "" | ${shellQuote(domain)}) ;;
  *) fail "This host is already the Mailu of $other: one Mailu serves one tenant. Give ${domain} a host of its own (existing.address), then: pulumi up. If $other has left it for good, reinstall the host first" ;;
esac`;
}

/**
 * The device is looked for by the volume's own id: names like /dev/sdf depend on the kernel, and formatting the
 * wrong disk can't be undone. It is formatted only if blkid finds nothing at all on it.
 */
function mountDataVolume(volume: string): string {
  const device = `/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${volume.replace("-", "")}`;
  return `mkdir -p ${MAILU_DATA}
waited=0
until mountpoint -q ${MAILU_DATA} || [ -e ${shellQuote(device)} ]; do
  [ "$waited" -lt 120 ] || fail ${shellQuote(`The data volume ${volume} did not appear on this host within 2 minutes. Is it attached? Then: pulumi up`)}
  sleep 1
  waited=$((waited + 1))
done
if ! mountpoint -q ${MAILU_DATA}; then
  device=${shellQuote(device)}
  status=0
  blkid -p "$device" >/dev/null 2>&1 || status=$?
  case $status in
    0) ;;
    2) mkfs.ext4 -q "$device" ;;
    *) fail "What is on the data volume ${volume} can't be told (blkid -p ended with $status), so it is left alone." ;;
  esac
  id=$(blkid -s UUID -o value "$device")
  grep -q "^UUID=$id " /etc/fstab || echo "UUID=$id ${MAILU_DATA} ext4 defaults,nofail 0 2" >>/etc/fstab
  mount "$device" ${MAILU_DATA}
fi`;
}

/** A temporary file and a rename: nobody ever reads half a file, and a full disk leaves the old one. */
function writeFile([path, content]: [string, string]): string {
  const quoted = shellQuote(path);
  return `printf %s ${shellQuote(content)} >${quoted}.new && mv -f ${quoted}.new ${quoted} || fail ${shellQuote(`${path} could not be written: is the disk full? Then: pulumi up`)}`;
}
