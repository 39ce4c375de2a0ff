// What a runbook does on a mail host over ssh: look whether it can carry Mailu, put secrets in place, start
// Mailu, and read the certificate back. Each is one round trip, and each may be repeated.
import { createHash, createPrivateKey, X509Certificate } from "node:crypto";
import { dirname } from "node:path";
import {
  API_TOKEN_FILE,
  CERTIFICATE_FILE,
  CERTIFICATE_KEY_FILE,
  COMPOSE_FILE,
  dkimKeyFile,
  MAILU_DATA,
  MAILU_HOME,
  mailHost,
  SECRET_KEY_FILE,
} from "../../stacks/names.ts";
import { RunbookError } from "./errors.ts";
import { registerSecret } from "./redact.ts";
import type { Settings } from "./settings.ts";
import { type HostAddress, onHost } from "./ssh.ts";

/** Free space below which Mailu would lose mail rather than run, in KiB. */
const FREE_KIB = 32 * 1024;

/** A certificate chain and its key, PEM, in plaintext. */
export interface Certificate {
  readonly certificate: string;
  readonly privateKey: string;
}

/** What recovery puts on a host. `certificate` undefined: Vault has none yet, and the host makes its own. */
export interface HostSecrets {
  readonly domain: string;
  readonly apiToken: string;
  readonly dkimKey: string;
  readonly certificate: Certificate | undefined;
}

/** Throws failed (1) unless the host has docker, the stack's files, and room on both disks. Changes nothing. */
export async function requireUsableHost(settings: Settings, host: HostAddress): Promise<void> {
  const script = `
    docker version >/dev/null 2>&1 || { echo "docker does not run here" >&2; exit 1; }
    test -s ${COMPOSE_FILE} || { echo "${COMPOSE_FILE} is missing: the stack's 'pulumi up' writes it" >&2; exit 1; }
    test -d ${MAILU_DATA} || { echo "${MAILU_DATA} is missing: the stack's 'pulumi up' makes it" >&2; exit 1; }
    df -Pk ${MAILU_HOME} ${MAILU_DATA} | awk 'NR > 1 { print $4, $6 }'`;
  const free = (await onHost(settings, host, script)).trim().split("\n");
  for (const line of free) {
    const [kib, mount] = line.split(" ");
    if (Number(kib) < FREE_KIB) {
      throw new RunbookError(
        `The disk of ${host.address} is full: ${Math.floor(Number(kib) / 1024)} MiB are free on ${mount}`,
        {
          exit: "failed",
          next: `ssh ${settings.ssh.user}@${host.address} du -xh --max-depth=2 ${mount} | sort -h | tail   # make room, then run this again`,
        },
      );
    }
  }
}

/**
 * Puts the secrets in place, each by rename so that a cut leaves the old or the new file, and starts Mailu.
 * A certificate that the host already has is kept: on a data volume that survived it is the newer one.
 */
export async function startMailu(settings: Settings, host: HostAddress, secrets: HostSecrets): Promise<void> {
  const { certificate } = secrets;
  const files = [
    entry("always", API_TOKEN_FILE, secrets.apiToken),
    entry("always", dkimKeyFile(secrets.domain), secrets.dkimKey),
    // The key first: without its certificate it is replaced by the next run, the other way round it would be kept.
    ...(certificate === undefined
      ? []
      : [
          entry("absent", CERTIFICATE_KEY_FILE, certificate.privateKey),
          entry("absent", CERTIFICATE_FILE, certificate.certificate),
        ]),
  ];
  // What clients look up; mail first, since it stands in MX.
  const names = [
    mailHost(secrets.domain),
    ...["mta-sts", "autoconfig", "autodiscover"].map((name) => `${name}.${secrets.domain}`),
  ];
  const script = `
    set -eu
    umask 077
    # What a killed run began goes on here without it: two at once would pull the files from under each other.
    exec 9< ${MAILU_HOME}
    flock -w 600 9 || { echo "another run has been starting Mailu here for 10 minutes" >&2; exit 1; }
    changed=
    # One without the other, as a host that died in mid-renewal leaves them, is none.
    for_certificate=$(openssl x509 -in ${CERTIFICATE_FILE} -noout -pubkey 2>/dev/null) || :
    for_key=$(openssl pkey -in ${CERTIFICATE_KEY_FILE} -pubout 2>/dev/null) || :
    [ -s ${CERTIFICATE_FILE} ] && [ -s ${CERTIFICATE_KEY_FILE} ] && [ "$for_certificate" = "$for_key" ] ||
      rm -f ${CERTIFICATE_FILE} ${CERTIFICATE_KEY_FILE}
    while read -r when path sum data; do
      if [ "$when" = absent ] && [ -s "$path" ]; then continue; fi
      [ -e "$path" ] && [ "$(sha256sum < "$path" | cut -d' ' -f1)" = "$sum" ] && continue
      mkdir -p "$(dirname "$path")"
      printf %s "$data" | base64 -d > "$path.new"
      sync "$path.new"
      mv -f "$path.new" "$path"
      changed=yes
    done
    if ! [ -s ${SECRET_KEY_FILE} ]; then
      head -c 32 /dev/urandom | sha256sum | cut -c1-32 > ${SECRET_KEY_FILE}.new
      mv -f ${SECRET_KEY_FILE}.new ${SECRET_KEY_FILE}
    fi
    if ! [ -s ${CERTIFICATE_FILE} ]; then
      mkdir -p "$(dirname ${CERTIFICATE_FILE})"
      openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj /CN=${names[0]} \\
        -addext subjectAltName=${names.map((name) => `DNS:${name}`).join(",")} -keyout ${CERTIFICATE_KEY_FILE} -out ${CERTIFICATE_FILE}.new 2>/dev/null
      mv -f ${CERTIFICATE_FILE}.new ${CERTIFICATE_FILE}
      changed=yes
    fi
    docker compose -f ${COMPOSE_FILE} up -d \${changed:+--force-recreate} >&2 9<&-`;
  // Pulling the images of a fresh host takes minutes.
  await onHost(settings, host, script, { stdin: files.join(""), timeoutSeconds: 900 });
}

/**
 * Reads the certificate chain and its key from the host; the key is registered for redaction. Throws failed (1)
 * when they don't belong together: a renewal may be between its two files.
 */
export async function readCertificate(settings: Settings, host: HostAddress): Promise<Certificate> {
  const script = `set -eu; cat ${CERTIFICATE_FILE}; echo; echo =; cat ${CERTIFICATE_KEY_FILE}`;
  const [certificate = "", privateKey = ""] = (await onHost(settings, host, script)).split("\n=\n");
  registerSecret(privateKey);
  if (!belongTogether(certificate, privateKey)) {
    throw new RunbookError(
      `On ${host.address} the key in ${CERTIFICATE_KEY_FILE} doesn't belong to the certificate in ${CERTIFICATE_FILE}`,
      {
        exit: "failed",
        next: `run this again in a minute: a renewal may be at work; else see ssh ${settings.ssh.user}@${host.address} ls -l ${dirname(CERTIFICATE_FILE)}`,
      },
    );
  }
  return { certificate: `${certificate.trim()}\n`, privateKey };
}

function belongTogether(certificate: string, privateKey: string): boolean {
  try {
    return new X509Certificate(certificate).checkPrivateKey(createPrivateKey(privateKey));
  } catch {
    return false;
  }
}

/** One line for the script: when to write, where, the SHA-256 and the content in base64. */
function entry(when: "always" | "absent", path: string, content: string): string {
  const sum = createHash("sha256").update(content).digest("hex");
  return `${when} ${path} ${sum} ${Buffer.from(content).toString("base64")}\n`;
}
