import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { downloadRelease } from "../../../scripts/toolchain/release.ts";
import { program, type ReleaseServer, releaseServer, sumLine, tarGz, zip } from "./release-server.ts";

const TAR = "pulumi-v3.259.0-linux-x64.tar.gz";
const SUMS = "pulumi-3.259.0-checksums.txt";
const SHORT = { answer: 300, stall: 300 };

let server: ReleaseServer;
let into: string;
beforeEach(async () => {
  server = await releaseServer();
  into = mkdtempSync(join(tmpdir(), "recovery-release-"));
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(into, { recursive: true });
});

const archive = tarGz({ pulumi: program("v3.259.0"), "pulumi-language-nodejs": program("host") });

function fetchIt(name = TAR, sums = SUMS): Promise<void> {
  const release = { archive: `${server.url}/${name}`, checksums: `${server.url}/${sums}` };
  return downloadRelease(release, into, () => {}, SHORT);
}

async function failure(): Promise<string> {
  const error = await fetchIt().then(
    () => new Error("no failure"),
    (reason: Error) => reason,
  );
  // Whatever went wrong, nothing half-done stays.
  expect(readdirSync(into)).toEqual([]);
  return error.message;
}

test("a .tar.gz release leaves the program and its companions side by side, able to run", async () => {
  server.files.set(`/${TAR}`, archive);
  server.files.set(
    `/${SUMS}`,
    `${"0".repeat(64)}  pulumi-v3.259.0-linux-arm64.tar.gz\n${sumLine(archive, TAR)}`,
  );
  await fetchIt();
  expect(readdirSync(into).sort()).toEqual(["pulumi", "pulumi-language-nodejs"]);
  expect(execFileSync(join(into, "pulumi"), { encoding: "utf8" })).toBe("v3.259.0\n");
  expect(execFileSync(join(into, "pulumi-language-nodejs"), { encoding: "utf8" })).toBe("host\n");
});

test("a .zip release leaves the program able to run, without the licence beside it", async () => {
  const content = zip({ vault: program("Vault v1.21.0") });
  server.files.set("/vault/1.21.0/vault_1.21.0_linux_amd64.zip", content);
  server.files.set("/vault/1.21.0/vault_1.21.0_SHA256SUMS", sumLine(content, "vault_1.21.0_linux_amd64.zip"));
  await fetchIt("vault/1.21.0/vault_1.21.0_linux_amd64.zip", "vault/1.21.0/vault_1.21.0_SHA256SUMS");
  expect(readdirSync(into)).toEqual(["vault"]);
  expect(execFileSync(join(into, "vault"), { encoding: "utf8" })).toBe("Vault v1.21.0\n");
});

test("an archive whose sum is not the published one is refused, and both sums are told", async () => {
  const forged = tarGz({ pulumi: program("forged") });
  server.files.set(`/${TAR}`, forged);
  server.files.set(`/${SUMS}`, sumLine(archive, TAR));
  const [published] = sumLine(archive, TAR).split(" ");
  const [actual] = sumLine(forged, TAR).split(" ");
  expect(await failure()).toBe(
    `${server.url}/${TAR} has the SHA-256 sum ${actual}, published is ${published}`,
  );
});

test("an archive that nobody published a sum for is not even fetched", async () => {
  server.files.set(`/${TAR}`, archive);
  server.files.set(`/${SUMS}`, sumLine(archive, `another-${TAR}`));
  expect(await failure()).toContain(`has no SHA-256 sum for ${TAR}`);
  expect(server.requests).toEqual([`/${SUMS}`]);
});

test("a download that ends early is a failure", async () => {
  server.files.set(`/${SUMS}`, sumLine(archive, TAR));
  server.files.set(`/${TAR}`, (response) => {
    response.writeHead(200, { "content-length": archive.length });
    response.write(archive.subarray(0, 100), () => response.destroy());
  });
  expect(await failure()).toContain(`${server.url}/${TAR}: `);
});

test("a download cut short without a length is caught by its sum", async () => {
  server.files.set(`/${SUMS}`, sumLine(archive, TAR));
  server.files.set(`/${TAR}`, archive.subarray(0, 100));
  expect(await failure()).toContain("SHA-256");
});

test.each([
  { missing: SUMS, present: TAR },
  { missing: TAR, present: SUMS },
])("a release without its $missing is a failure that names it", async ({ missing, present }) => {
  server.files.set(`/${present}`, present === TAR ? archive : sumLine(archive, TAR));
  expect(await failure()).toBe(`${server.url}/${missing}: the server answered 404`);
});

test("a server that takes the connection and never answers is given up on", async () => {
  server.files.set(`/${SUMS}`, () => {});
  const start = performance.now();
  expect(await failure()).toBe(`${server.url}/${SUMS}: no answer in time`);
  expect(performance.now() - start).toBeLessThan(3_000);
});

test("a download that stands still is given up on, a slow one that goes on is not", async () => {
  server.files.set(`/${SUMS}`, sumLine(archive, TAR));
  server.files.set(`/${TAR}`, (response) => void response.write(archive.subarray(0, 100)));
  expect(await failure()).toBe(`${server.url}/${TAR}: no answer in time`);

  server.files.set(`/${TAR}`, async (response) => {
    const step = Math.ceil(archive.length / 5);
    for (let at = 0; at < archive.length; at += step) {
      response.write(archive.subarray(at, at + step));
      await new Promise((resolve) => setTimeout(resolve, 120));
    }
    response.end();
  });
  await fetchIt();
  expect(readdirSync(into)).toContain("pulumi");
});

test("where nobody listens, that is known at once", async () => {
  await server[Symbol.asyncDispose]();
  const start = performance.now();
  expect(await failure()).toContain("ECONNREFUSED");
  expect(performance.now() - start).toBeLessThan(1_000);
});
