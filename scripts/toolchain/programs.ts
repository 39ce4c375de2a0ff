// The two programs that come in a pinned version: what is taken as suitable, where their releases lie, how they
// are built, and what a person can type when nothing of that works.
import { join } from "node:path";
import { PULUMI_DIR, PULUMI_VERSION, VAULT_DIR, VAULT_VERSION } from "./paths.ts";

export interface Program {
  name: string;
  /** The pinned version; a program on PATH may be newer within the same major version. */
  version: string;
  /** Where its executables lie in the cache. The directory is there only once it's complete. */
  dir: string;
  /** URLs of the release's archive (.zip or .tar.gz) and of the file with its SHA-256 sum. */
  archive: string;
  checksums: string;
  build: {
    /** The folder with go.mod and go.sum, in which the build runs. */
    module: string;
    package: string;
    flags: string[];
    /** What a person may expect on two cores with cold caches. */
    takes: string;
  };
  /** Commands that install it by hand. */
  byHand: string;
}

const TARGET = process.platform === "darwin" ? "darwin" : "linux";
const PULUMI_ARCH = process.arch === "arm64" ? "arm64" : "x64";
const VAULT_ARCH = process.arch === "arm64" ? "arm64" : "amd64";

const PULUMI_ARCHIVE = `pulumi-v${PULUMI_VERSION}-${TARGET}-${PULUMI_ARCH}.tar.gz`;
const VAULT_ARCHIVE = `vault_${VAULT_VERSION}_${TARGET}_${VAULT_ARCH}.zip`;

const PULUMI_URL =
  process.env.TOOLCHAIN_PULUMI_URL || `https://github.com/pulumi/pulumi/releases/download/v${PULUMI_VERSION}`;
const VAULT_URL = `${process.env.TOOLCHAIN_VAULT_URL || "https://releases.hashicorp.com"}/vault/${VAULT_VERSION}`;

export const PULUMI: Program = {
  name: "pulumi",
  version: PULUMI_VERSION,
  dir: PULUMI_DIR,
  archive: `${PULUMI_URL}/${PULUMI_ARCHIVE}`,
  checksums: `${PULUMI_URL}/pulumi-${PULUMI_VERSION}-checksums.txt`,
  build: {
    module: join(import.meta.dirname, "go", "pulumi"),
    package: "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
    flags: [
      "-ldflags",
      `-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v${PULUMI_VERSION}`,
    ],
    takes: "about 4 minutes",
  },
  byHand: `curl -fsSL https://get.pulumi.com | sh -s -- --version ${PULUMI_VERSION}, then put ~/.pulumi/bin on PATH`,
};

export const VAULT: Program = {
  name: "vault",
  version: VAULT_VERSION,
  dir: VAULT_DIR,
  archive: `${VAULT_URL}/${VAULT_ARCHIVE}`,
  checksums: `${VAULT_URL}/vault_${VAULT_VERSION}_SHA256SUMS`,
  build: {
    module: join(import.meta.dirname, "go", "vault"),
    package: "github.com/hashicorp/vault",
    // Leaves out cloud plugins that nothing here uses; kv, transit, pki, approle, jwt and raft stay.
    flags: ["-tags", "minimal", "-ldflags", "-s -w"],
    takes: "about 6 minutes",
  },
  byHand: `curl -fsSLO ${VAULT_URL}/${VAULT_ARCHIVE} && unzip ${VAULT_ARCHIVE} vault -d /usr/local/bin`,
};
