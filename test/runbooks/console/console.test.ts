// The runbook itself: where it refuses to listen, and whose rights it never uses.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isLoopback } from "../../../runbooks/console/listen.ts";
import { Running } from "../lib/fixtures/process.ts";

const MAIN = join(import.meta.dirname, "../../../runbooks/main.ts");
const folder = mkdtempSync(join(tmpdir(), "console-main-"));
/** Stands where Vault would, and keeps what it is asked with. */
const asked: { path: string | undefined; token: string | string[] | undefined }[] = [];
const vault = createServer((request, response) => {
  asked.push({ path: request.url, token: request.headers["x-vault-token"] });
  response.writeHead(400, { "content-type": "application/json" }).end('{"errors":["no"]}');
});

beforeAll(async () => {
  await new Promise<void>((resolve) => vault.listen(0, "127.0.0.1", resolve));
  const { port } = vault.address() as AddressInfo;
  writeFileSync(join(folder, "recovery.yaml"), `vault: {addr: 'http://127.0.0.1:${port}'}\n`);
});
afterAll(() => {
  for (const { child } of started) child.kill("SIGKILL");
  vault.close();
  rmSync(folder, { recursive: true });
});

const env = {
  RECOVERY_CONFIG: join(folder, "recovery.yaml"),
  VAULT_ADDR: "",
  VAULT_TOKEN: "hvs.somebody-else",
};
const started: Running[] = [];
function start(...args: string[]): Running {
  const running = new Running(MAIN, ["console", ...args], { env });
  started.push(running);
  return running;
}

describe("where it listens", () => {
  test.each(["0.0.0.0", "::", "192.0.2.1", "console.example", "127.0.0.1.example", "::ffff:192.0.2.1"])(
    "on %s it doesn't without TLS",
    async (host) => {
      const { code, stderr } = await start("--host", host, "--port", "0").ended();
      expect(code).toBe(2);
      expect(stderr).toContain("without TLS everybody on the way could read your token");
      expect(stderr).toMatch(/^next: .*--tls-cert and --tls-key/m);
    },
  );

  test("this machine's own addresses need none", () => {
    for (const host of ["127.0.0.1", "127.30.87.1", "::1", "localhost"])
      expect(isLoopback(host), host).toBe(true);
  });

  test.each<[string[], string]>([
    [["--tls-cert", "cert.pem"], "go together"],
    [["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.key"], "--tls-cert can't be read"],
    [
      ["--tls-cert", join(folder, "recovery.yaml"), "--tls-key", join(folder, "recovery.yaml")],
      "can't be used",
    ],
    [["--port", "70000"], "--port"],
  ])("%j is refused", async (args, why) => {
    const { code, stderr } = await start(...args).ended();
    expect(code).toBe(2);
    expect(stderr).toContain(why);
  });

  test("a port that is taken is told, with another one to try", async () => {
    const { code, stderr } = await start("--port", String((vault.address() as AddressInfo).port)).ended();
    expect(code).toBe(2);
    expect(stderr).toMatch(/^next: .*--port 0/m);
  });

  test("nowhere in a dry run", async () => {
    const { code, stderr } = await start("--dry-run").ended();
    expect(code).toBe(0);
    expect(stderr).toContain("would: listen on 127.0.0.1");
  });
});

test("it asks Vault with nobody's token, also where its own environment has one, and ends by Ctrl-C", async () => {
  const running = start("--port", "0");
  await running.says("The console is at");
  const [url = ""] = /http:\S+/.exec(running.stderr) ?? [];
  const answer = await fetch(new URL("/sign-in/password", url), {
    method: "POST",
    headers: { origin: new URL(url).origin },
    body: new URLSearchParams({ name: "alice", password: "a-password" }),
  });
  expect(answer.status).toBe(403);
  expect(asked.map(({ path }) => path)).toContain("/v1/auth/userpass/login/alice");
  expect(asked.filter(({ token }) => token !== undefined)).toEqual([]);
  running.child.kill("SIGINT");
  const { code, stdout, stderr } = await running.ended();
  expect(code).toBe(0);
  expect(stdout + stderr).not.toContain("a-password");
});
