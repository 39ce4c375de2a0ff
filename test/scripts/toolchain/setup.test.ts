// The toolchain's set-up as a whole, on an empty cache, against a local release server. The Python environments
// are put into the cache beforehand: installing them takes too long for a test and has its own proof in every lab.
import { type ChildProcessByStdio, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync, truncateSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { afterEach, beforeEach, expect, test } from "vitest";
import { PULUMI_VERSION, REPOSITORY, VAULT_VERSION } from "../../../scripts/toolchain/paths.ts";
import {
  program,
  type ReleaseServer,
  releaseServer,
  sumLine,
  tarGz,
  writePrograms,
  zip,
} from "./release-server.ts";

const ARCH = process.arch === "arm64" ? "arm64" : "x64";
const PULUMI_ARCHIVE = `pulumi-v${PULUMI_VERSION}-linux-${ARCH}.tar.gz`;
const VAULT_ARCHIVE = `vault_${VAULT_VERSION}_linux_${ARCH === "x64" ? "amd64" : ARCH}.zip`;
const VAULT_BASE = `/vault/${VAULT_VERSION}`;

let server: ReleaseServer;
let root: string;
let env: NodeJS.ProcessEnv;
let bin: string;
beforeEach(async () => {
  const pulumi = tarGz({ pulumi: program(`v${PULUMI_VERSION}`), "pulumi-language-nodejs": program("host") });
  const vault = zip({ vault: program(`Vault v${VAULT_VERSION}`) });
  server = await releaseServer({
    [`/${PULUMI_ARCHIVE}`]: pulumi,
    [`/pulumi-${PULUMI_VERSION}-checksums.txt`]: sumLine(pulumi, PULUMI_ARCHIVE),
    [`${VAULT_BASE}/${VAULT_ARCHIVE}`]: vault,
    [`${VAULT_BASE}/vault_${VAULT_VERSION}_SHA256SUMS`]: sumLine(vault, VAULT_ARCHIVE),
  });
  root = mkdtempSync(join(tmpdir(), "recovery-setup-"));
  env = {
    ...process.env,
    // Neither Go nor another pulumi or vault is to be found.
    PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
    XDG_CACHE_HOME: root,
    TOOLCHAIN_PULUMI_URL: server.url,
    TOOLCHAIN_VAULT_URL: server.url,
  };
  const paths = JSON.parse(
    execFileSync(
      process.execPath,
      [
        "--input-type=module",
        "-e",
        `import * as p from ${JSON.stringify(join(REPOSITORY, "scripts/toolchain/paths.ts"))};
         console.log(JSON.stringify({ bin: p.toolchainBin(), moto: p.MOTO_PYTHON, glass: p.BREAK_GLASS_PYTHON }));`,
      ],
      { env, encoding: "utf8" },
    ),
  );
  bin = paths.bin;
  writePrograms(dirname(paths.moto), { python: program("the Python of moto") });
  writePrograms(dirname(paths.glass), { python: program("the Python of break-glass") });
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(root, { recursive: true });
});

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

function start(...args: string[]): {
  child: ChildProcessByStdio<null, Readable, Readable>;
  ended: Promise<Ended>;
} {
  const child = spawn(process.execPath, [join(REPOSITORY, "scripts/toolchain/main.ts"), ...args], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk) => (output.stdout += chunk));
  child.stderr.on("data", (chunk) => (output.stderr += chunk));
  return { child, ended: once(child, "close").then(([code]) => ({ code, ...output })) };
}

const printed = (name: string) => execFileSync(join(bin, name), { encoding: "utf8" }).trim();
const fetched = (archive: string) => server.requests.filter((path) => path.endsWith(archive)).length;

test("an empty cache is filled, and every program runs from the one directory for PATH", async () => {
  expect(await start().ended).toMatchObject({ code: 0, stdout: "" });
  expect(printed("pulumi")).toBe(`v${PULUMI_VERSION}`);
  expect(printed("pulumi-language-nodejs")).toBe("host");
  expect(printed("vault")).toBe(`Vault v${VAULT_VERSION}`);
  expect(printed("moto-python")).toBe("the Python of moto");
  expect(printed("break-glass-python")).toBe("the Python of break-glass");
});

test("with nothing to do it fetches nothing, prints nothing when quiet, and takes well under a second", async () => {
  await start().ended;
  const asked = server.requests.length;
  const durations: number[] = [];
  for (let attempt = 0; attempt < 5; attempt += 1) {
    const begin = performance.now();
    expect(await start("--quiet").ended).toEqual({ code: 0, stdout: "", stderr: "" });
    durations.push(performance.now() - begin);
  }
  // The shortest says what it costs; the others also say what else the machine was busy with.
  expect(Math.min(...durations)).toBeLessThan(1_000);
  expect(server.requests.length).toBe(asked);
});

test("--env prints one line that puts the programs on a shell's PATH", async () => {
  const { stdout } = await start("--env").ended;
  const script = `${stdout}command -v pulumi; command -v vault; command -v node`;
  const found = execFileSync("sh", ["-c", script], { env, encoding: "utf8" }).trim().split("\n");
  expect(found).toEqual([
    join(bin, "pulumi"),
    join(bin, "vault"),
    join(REPOSITORY, "node_modules/.bin/node"),
  ]);
  expect(stdout.trim().split("\n")).toHaveLength(1);
});

test("two at once fetch everything once; the second says that it waits and then finds all in place", async () => {
  const whole = server.files.get(`/${PULUMI_ARCHIVE}`) as Buffer;
  const inTheMiddle = new Promise<ServerResponse>((resolve) => {
    server.files.set(`/${PULUMI_ARCHIVE}`, (response) => {
      response.write(whole.subarray(0, 50));
      resolve(response);
    });
  });
  const first = start();
  const download = await inTheMiddle;
  const second = start();
  await once(second.child.stderr, "data");
  download.end(whole.subarray(50));
  const ended = await Promise.all([first.ended, second.ended]);
  expect(ended.map(({ code }) => code)).toEqual([0, 0]);
  expect(ended[1].stderr).toBe(
    `waiting for another set-up (process ${first.child.pid}) to finish with the toolchain\n`,
  );
  expect([fetched(PULUMI_ARCHIVE), fetched(VAULT_ARCHIVE)]).toEqual([1, 1]);
  expect(printed("pulumi")).toBe(`v${PULUMI_VERSION}`);
  expect(printed("vault")).toBe(`Vault v${VAULT_VERSION}`);
});

test("one that was killed in mid-download is made good by the next, which leaves nothing half-done", async () => {
  const whole = server.files.get(`${VAULT_BASE}/${VAULT_ARCHIVE}`) as Buffer;
  const reached = new Promise<void>((resolve) => {
    server.files.set(`${VAULT_BASE}/${VAULT_ARCHIVE}`, (response) => {
      response.write(whole.subarray(0, 50));
      resolve();
    });
  });
  const { child, ended } = start();
  await reached;
  child.kill("SIGKILL");
  await ended;
  const cache = dirname(bin);
  expect(readdirSync(cache).some((name) => name.endsWith(".partial"))).toBe(true);

  server.files.set(`${VAULT_BASE}/${VAULT_ARCHIVE}`, whole);
  expect((await start().ended).code).toBe(0);
  expect(printed("vault")).toBe(`Vault v${VAULT_VERSION}`);
  expect(readdirSync(cache).filter((name) => name.endsWith(".partial"))).toEqual([]);
  expect(fetched(PULUMI_ARCHIVE)).toBe(1);
});

test("a program that vanished from the cache, or was cut short in it, is fetched again", async () => {
  await start().ended;
  const cached = join(bin, "..", `vault-${VAULT_VERSION}`);
  const damages = [() => rmSync(cached, { recursive: true }), () => truncateSync(join(cached, "vault"), 10)];
  for (const [index, damage] of damages.entries()) {
    damage();
    expect((await start("--quiet").ended).code).toBe(0);
    expect(printed("vault")).toBe(`Vault v${VAULT_VERSION}`);
    expect(fetched(VAULT_ARCHIVE)).toBe(index + 2);
  }
});

test("without release, Go and program it fails and names the command that installs it", async () => {
  server.files.clear();
  const { code, stderr } = await start("--quiet").ended;
  expect(code).toBe(1);
  expect(stderr).toContain("Install it: curl -fsSL https://get.pulumi.com");
});
