// The host's preparation script, really run by a shell: in a folder instead of `/`, with stand-ins for what would
// touch disks.
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { filesDigest, hostFiles, installScript } from "../../../stacks/tenant/install-script.ts";

const SETTINGS = {
  domain: "acme.example",
  exemptNetworks: ["198.51.100.0/24"],
  submission: false,
  mtaSts: "testing" as const,
};
const FILES = hostFiles(SETTINGS);
let root: string;
let bin: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "host-"));
  bin = join(root, "bin");
  mkdirSync(bin);
  mkdirSync(join(root, "etc"));
  writeFileSync(join(root, "etc/fstab"), "");
  program("docker", "exit 0");
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** A program of the host; what it's called with is noted in `calls`. */
function program(name: string, script: string): void {
  writeFileSync(join(bin, name), `#!/bin/sh\necho "${name} $*" >>${root}/calls\n${script}\n`);
  chmodSync(join(bin, name), 0o755);
}
const calls = (): string =>
  existsSync(join(root, "calls")) ? readFileSync(join(root, "calls"), "utf8") : "";

/** Runs the script on the host whose `/` is `root`. */
function install(options: { volume?: string; files?: Record<string, string>; path?: string } = {}) {
  const script = installScript(options.files ?? FILES, options.volume)
    .replaceAll(/(?<![\w/.])\/(opt\/mailu|mailu|etc\/fstab|dev\/disk|run\/cloud-init)/g, `${root}/$1`)
    .replaceAll("-lt 120", "-lt 1");
  const { status, stderr } = spawnSync("/bin/sh", ["-s"], {
    input: script,
    encoding: "utf8",
    env: { PATH: options.path ?? `${bin}:/usr/bin:/bin` },
  });
  return { status, stderr };
}
const on = (path: string): string => join(root, path);

describe("files", () => {
  it("are written as rendered, beside a folder for secrets that root alone may enter", () => {
    expect(install()).toEqual({ status: 0, stderr: "" });
    expect(readFileSync(on("opt/mailu/mailu.env"), "utf8")).toBe(FILES["/opt/mailu/mailu.env"]);
    expect(JSON.parse(readFileSync(on("opt/mailu/docker-compose.yml"), "utf8")).services.admin).toBeDefined();
    expect(readFileSync(on("mailu/overrides/nginx/mta-sts.conf"), "utf8")).toContain("mta-sts.txt");
    expect(statSync(on("opt/mailu/secrets")).mode & 0o777).toBe(0o700);
    expect(existsSync(on("opt/mailu/mailu.env.new"))).toBe(false);
  });

  it("may hold anything that a shell would otherwise interpret", () => {
    const nasty = "a'b\"c $(touch pwned) `id` %s \\n\nline\n";
    expect(install({ files: { "/opt/mailu/x": nasty } }).status).toBe(0);
    expect(readFileSync(on("opt/mailu/x"), "utf8")).toBe(nasty);
  });

  it("start nothing: that is for the recovery, once the secrets are there", () => {
    install();
    expect(calls()).not.toContain("docker");
  });

  it("leave the old one in place when the new one can't be written, and say so", () => {
    install();
    rmSync(on("opt/mailu/mailu.env.new"), { force: true });
    mkdirSync(on("opt/mailu/mailu.env.new"));
    const { status, stderr } = install({ files: { ...FILES, "/opt/mailu/mailu.env": "new" } });
    expect(status).not.toBe(0);
    expect(stderr).toContain("/opt/mailu/mailu.env could not be written: is the disk full?");
    expect(readFileSync(on("opt/mailu/mailu.env"), "utf8")).toBe(FILES["/opt/mailu/mailu.env"]);
  });

  it("have a digest that changes with any of them", () => {
    expect(filesDigest(FILES)).toBe(filesDigest(hostFiles({ ...SETTINGS })));
    expect(filesDigest(hostFiles({ ...SETTINGS, submission: true }))).not.toBe(filesDigest(FILES));
    expect(filesDigest(hostFiles({ ...SETTINGS, mtaSts: "enforce" }))).not.toBe(filesDigest(FILES));
  });
});

describe("the certificate", () => {
  it("is left to the recovery: one made here would pass for the one that Vault keeps", () => {
    install();
    expect(existsSync(on("mailu/certs"))).toBe(true);
    expect(existsSync(on("mailu/certs/cert.pem"))).toBe(false);
    expect(existsSync(on("mailu/certs/key.pem"))).toBe(false);
  });

  it("that is there stays", () => {
    mkdirSync(on("mailu/certs"), { recursive: true });
    writeFileSync(on("mailu/certs/cert.pem"), "mine");
    writeFileSync(on("mailu/certs/key.pem"), "mine too");
    install();
    expect(readFileSync(on("mailu/certs/cert.pem"), "utf8")).toBe("mine");
    expect(readFileSync(on("mailu/certs/key.pem"), "utf8")).toBe("mine too");
  });
});

describe("a host without Docker", () => {
  it("is refused with the way to get it, before anything is written", () => {
    rmSync(join(bin, "docker"));
    // Whatever else this machine has; docker alone is missing.
    const { status, stderr } = install({ path: bin });
    expect(status).toBe(1);
    expect(stderr).toContain(
      "no docker. Install it (https://docs.docker.com/engine/install/), then: pulumi up",
    );
    expect(existsSync(on("opt"))).toBe(false);
  });
});

describe("the data volume", () => {
  const device = "dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0abc";
  const attach = (): void => {
    mkdirSync(on("dev/disk/by-id"), { recursive: true });
    writeFileSync(on(device), "");
  };
  const disk = (blkid: string): void => {
    program("mountpoint", "exit 1");
    program("mkfs.ext4", `echo made >${root}/made`);
    program("mount", "exit 0");
    program("blkid", `if [ "$1" = -p ]; then ${blkid}; else echo UUID-1; fi`);
  };

  it("is left alone where it's mounted already", () => {
    disk("exit 2");
    program("mountpoint", "exit 0");
    expect(install({ volume: "vol-0abc" }).status).toBe(0);
    expect(calls()).not.toMatch(/mkfs|blkid|mount \//);
  });

  it("is formatted when nothing at all is on it, mounted, and noted for the next boot once", () => {
    attach();
    disk("exit 2");
    expect(install({ volume: "vol-0abc" })).toEqual({ status: 0, stderr: "" });
    expect(install({ volume: "vol-0abc" }).status).toBe(0);
    expect(calls()).toContain(`mkfs.ext4 -q ${on(device)}`);
    expect(calls()).toContain(`mount ${on(device)} ${on("mailu")}`);
    expect(readFileSync(on("etc/fstab"), "utf8")).toBe(
      `UUID=UUID-1 ${on("mailu")} ext4 defaults,nofail 0 2\n`,
    );
  });

  it("keeps what is on it", () => {
    attach();
    disk("exit 0");
    expect(install({ volume: "vol-0abc" }).status).toBe(0);
    expect(calls()).not.toContain("mkfs");
    expect(calls()).toContain("mount ");
  });

  it("is not formatted when it can't be read", () => {
    attach();
    disk("exit 4");
    const { status, stderr } = install({ volume: "vol-0abc" });
    expect(status).toBe(1);
    expect(stderr).toContain("can't be told (blkid -p ended with 4), so it is left alone");
    expect(calls()).not.toContain("mkfs");
  });

  it("that never appears ends the run: mail must not land on the root disk", () => {
    disk("exit 2");
    const { status, stderr } = install({ volume: "vol-0abc" });
    expect(status).toBe(1);
    expect(stderr).toContain("The data volume vol-0abc did not appear on this host within 2 minutes");
    expect(existsSync(on("opt"))).toBe(false);
  });
});

describe("a connection that breaks off half-way", () => {
  it("runs nothing", () => {
    const script = installScript(FILES, undefined);
    const cut = script.slice(0, script.lastIndexOf("install_mailu </dev/null"));
    const { stdout } = spawnSync("/bin/sh", ["-sx"], { input: cut, encoding: "utf8", env: { PATH: bin } });
    expect(stdout).toBe("");
    expect(calls()).toBe("");
  });
});
