import { execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { marked } from "../../../scripts/lab/children.ts";
import { holderOf } from "../../../scripts/lab/folder.ts";
import { REPOSITORY } from "../../../scripts/toolchain/paths.ts";

const MAIN = join(REPOSITORY, "scripts", "lab", "main.ts");
const scratch = mkdtempSync(join(tmpdir(), "lab-test-"));
const started = new Set<string>();
let next = 0;

afterEach(async () => {
  for (const dir of started) if ((await holderOf(dir)) !== undefined) await lab(dir, ["down"]);
  for (const dir of started) for (const pid of marked(dir)) process.kill(pid, "SIGKILL");
  started.clear();
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe("a lab", () => {
  test("comes up in the background, is used by its environment, and leaves nothing when it goes down", async () => {
    const dir = folder();
    const up = await lab(dir, ["--bare"]);
    expect(up.stdout).toContain("The lab is up");
    const env = await environment(dir);
    expect(await health(env.VAULT_ADDR)).toBe(200);
    expect(await health(env.VAULT_ADDR, "sys/auth", env.VAULT_TOKEN)).toBe(403);
    expect(await health(env.VAULT_ADDR, "sys/auth", env.LAB_ROOT_TOKEN)).toBe(200);
    expect((await lab(dir, ["status"])).stdout).toContain(env.AWS_ENDPOINT_URL);
    expect(readFileSync(join(dir, "unseal-keys"), "utf8").trim().split("\n")).toHaveLength(3);

    const down = await lab(dir, ["down"]);
    expect(down.code).toBe(0);
    expect(existsSync(dir)).toBe(false);
    expect(marked(dir)).toEqual([]);
    expect(await health(env.VAULT_ADDR)).toBe(0);
  });

  test("says that it is running when it is started twice, and leaves the first one alone", async () => {
    const dir = folder();
    await lab(dir, ["--bare"]);
    const holder = await holderOf(dir);
    const again = await lab(dir, ["--bare"]);
    expect(again.code).toBe(0);
    expect(again.stdout).toContain(`already running in ${dir} (process ${holder?.pid})`);
    expect(await holderOf(dir)).toEqual(holder);
  });

  test("runs beside another one: each has its own Vault, AWS and addresses", async () => {
    const [one, two] = [folder(), folder()];
    await Promise.all([lab(one, ["--bare"]), lab(two, ["--bare"])]);
    const [first, second] = [await environment(one), await environment(two)];
    expect(first.VAULT_ADDR).not.toBe(second.VAULT_ADDR);
    expect(await health(first.VAULT_ADDR, "sys/auth", first.LAB_ROOT_TOKEN)).toBe(200);
    expect(await health(first.VAULT_ADDR, "sys/auth", second.LAB_ROOT_TOKEN)).toBe(403);
    await lab(one, ["down"]);
    expect(await health(second.VAULT_ADDR)).toBe(200);
  });

  test("leaves no process when its daemon is killed hard, and the next one replaces the remains", async () => {
    const dir = folder();
    await lab(dir, ["--bare"]);
    await lab(dir, ["new-host", "victim"]);
    const env = await environment(dir);
    const before = marked(dir);
    expect(before.length).toBeGreaterThanOrEqual(3);
    const host = /process (\d+)\)\s*$/.exec((await lab(dir, ["status"])).stdout)?.[1];
    process.kill((await holderOf(dir))?.pid ?? Number.NaN, "SIGKILL");
    await expect.poll(() => before.filter(isAlive), { timeout: 5000 }).toEqual([]);
    await expect.poll(() => isAlive(Number(host)), { timeout: 5000 }).toBe(false);
    expect(await health(env.VAULT_ADDR)).toBe(0);
    expect((await lab(dir, ["status"])).code).toBe(1);

    expect((await lab(dir, ["--bare"])).stdout).toContain("The lab is up");
    expect((await environment(dir)).LAB_ROOT_TOKEN).not.toBe(env.LAB_ROOT_TOKEN);
  });

  test("ends with Ctrl-C while it is still starting", async () => {
    const dir = folder();
    const starter = spawn(process.execPath, [MAIN, "--bare", "--dir", dir], { stdio: "pipe" });
    await expect.poll(() => marked(dir).length, { timeout: 10_000, interval: 5 }).toBeGreaterThan(0);
    starter.kill("SIGINT");
    await new Promise((resolve) => starter.once("exit", resolve));
    expect(starter.exitCode).toBe(1);
    await expect.poll(() => marked(dir), { timeout: 5000 }).toEqual([]);
    expect(existsSync(dir)).toBe(false);
  });

  test("refuses a folder that isn't a lab's, and touches nothing in it", async () => {
    const dir = folder();
    await promisify(execFile)("mkdir", [dir]);
    writeFileSync(join(dir, "thesis.txt"), "mine");
    const up = await lab(dir, ["--bare"]);
    expect(up.code).toBe(1);
    expect(up.stderr).toContain("isn't a lab's folder");
    expect(readFileSync(join(dir, "thesis.txt"), "utf8")).toBe("mine");
  });
});

describe("a shell with production's variables", () => {
  const requests: string[] = [];
  const foreign = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    response.writeHead(500).end();
  });
  let url = "";
  beforeAll(async () => {
    await new Promise<void>((resolve) => foreign.listen(0, "127.0.0.1", resolve));
    url = `http://127.0.0.1:${(foreign.address() as AddressInfo).port}`;
  });
  afterAll(() => foreign.close());

  test("sends no request to production from a lab, and its own shell is cleared by `env`", async () => {
    const dir = folder();
    const production = {
      VAULT_ADDR: url,
      VAULT_TOKEN: "production",
      VAULT_NAMESPACE: "production",
      AWS_ENDPOINT_URL: url,
      AWS_ENDPOINT_URL_S3: url,
      AWS_PROFILE: "production",
      PULUMI_BACKEND_URL: url,
      PULUMI_STACK: "production",
      RECOVERY_CONFIG: "/etc/production.yaml",
    };
    const up = await lab(dir, ["--bare"], production);
    expect(up.stderr).toContain("AWS endpoint answers");
    const exports = (await lab(dir, ["env"], production)).stdout;
    const shell = await promisify(execFile)("sh", ["-c", `${exports}\nenv`], {
      env: { ...process.env, ...production },
    });
    expect(shell.stdout).not.toMatch(/production/);
    expect(shell.stdout).not.toContain(url);
    expect(shell.stdout).toContain(`RECOVERY_CONFIG=${join(dir, "recovery.yaml")}`);
    expect(requests).toEqual([]);
  });

  test("is refused by a lab whose endpoints were made to point off the loopback", async () => {
    const dir = folder();
    await lab(dir, ["--bare"]);
    const description = join(dir, "lab.json");
    const text = readFileSync(description, "utf8");
    writeFileSync(description, text.replace(/http:\/\/[\d.]+:8200/, "https://vault.production.example:8200"));
    const refused = await lab(dir, ["env"]);
    expect(refused.code).toBe(1);
    expect(refused.stdout).toBe("");
    expect(refused.stderr).toContain(
      "VAULT_ADDR is 'https://vault.production.example:8200', which isn't on the loopback",
    );
  });
});

describe("its command line", () => {
  test.each([
    [["frobnicate"], "'frobnicate' is nothing that a lab can do"],
    [["kill-vps"], "kill-vps takes one name"],
    [["kill-vps", "acme", "--how", "gently"], "it takes terminated, dead, hung"],
    [["down", "now"], "down takes nothing else"],
    [["--force"], "Unknown option '--force'"],
  ])("refuses %j with the usage and exit code 2", async (args, words) => {
    const refused = await lab(folder(), args);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain(words);
    expect(refused.stderr).toContain("Usage: npm run lab");
  });

  test("says how to start a lab where none is running", async () => {
    for (const word of ["env", "status"]) {
      const failed = await lab(folder(), [word]);
      expect(failed.code).toBe(1);
      expect(failed.stderr).toContain("run `npm run lab`");
    }
  });
});

function folder(): string {
  const dir = join(scratch, `lab${next++}`);
  started.add(dir);
  return dir;
}

async function lab(
  dir: string,
  words: string[],
  env: Record<string, string> = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [MAIN, ...words, "--dir", dir], { env: { ...process.env, ...env } });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const code = await new Promise<number>((resolve) => child.once("close", (exit) => resolve(exit ?? 137)));
  return { code, stdout, stderr };
}

const Environment = z.object({
  VAULT_ADDR: z.string(),
  VAULT_TOKEN: z.string(),
  LAB_ROOT_TOKEN: z.string(),
  AWS_ENDPOINT_URL: z.string(),
});

/** What a shell that uses the lab has. */
async function environment(dir: string): Promise<z.infer<typeof Environment>> {
  const { stdout } = await lab(dir, ["env"]);
  const found = Object.fromEntries(
    [...stdout.matchAll(/^export (\w+)='(.*)'$/gm)].map(([, name, value]) => [name, value]),
  );
  return Environment.parse(found);
}

/** The HTTP status that Vault answers, 0 if nothing does. */
async function health(addr: string, path = "sys/health", token = ""): Promise<number> {
  return fetch(`${addr}/v1/${path}`, { headers: { "X-Vault-Token": token } }).then(
    (answer) => answer.status,
    () => 0,
  );
}

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
