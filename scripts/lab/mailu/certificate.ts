// The certificate of TLS_FLAVOR=cert: no TLS port opens without one, and a changed one is taken up while running,
// as Mailu's certwatcher does.
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";

export interface KeyPair {
  cert: string;
  key: string;
}

/** ms between looks at the files; stat is cheap, and it works on volumes that are mounted later. */
const INTERVAL = 300;

/** The pair in `dir`; undefined while a file is missing or the two don't belong together. */
export function readCertificate(dir: string): KeyPair | undefined {
  try {
    const cert = readFileSync(join(dir, "cert.pem"), "utf8");
    const key = readFileSync(join(dir, "key.pem"), "utf8");
    // Half-written files throw, and a pair of which one half was replaced doesn't match: the next look finds both.
    return new X509Certificate(cert).checkPrivateKey(createPrivateKey(key)) ? { cert, key } : undefined;
  } catch {
    return undefined;
  }
}

/** Calls `use` with the pair as soon as there is one, and again whenever it has changed. */
export function watchCertificate(dir: string, use: (pair: KeyPair) => void): void {
  let seen = "";
  const look = () => {
    const version = ["cert.pem", "key.pem"].map((name) => versionOf(join(dir, name))).join(" ");
    if (version === seen) return;
    const pair = readCertificate(dir);
    if (pair === undefined) return;
    seen = version;
    use(pair);
  };
  look();
  setInterval(look, INTERVAL);
}

function versionOf(file: string): string {
  const stat = statSync(file, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? "" : `${stat.ino}.${stat.mtimeNs}.${stat.size}`;
}
