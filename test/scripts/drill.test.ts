import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { drillFile } from "../../runbooks/lib/last-drill.ts";
import { marked } from "../../scripts/lab/children.ts";
import { REPOSITORY } from "../../scripts/toolchain/paths.ts";

const scratch = mkdtempSync(join(tmpdir(), "drill-test-"));
const report = join(scratch, "report.json");
/** The drill's own folders are made in here. */
const temporary = mkdtempSync(join(scratch, "t-"));
/** The last report is kept in here. */
const state = mkdtempSync(join(scratch, "state-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const Report = z.object({
  scenarios: z.array(
    z.object({
      name: z.string(),
      passed: z.boolean(),
      target_rto_s: z.number(),
      measured_rto_s: z.number(),
      target_rpo_s: z.number(),
      measured_rpo_s: z.number(),
      mail: z
        .object({
          submitted: z.number(),
          lost: z.number(),
          repeated: z.number(),
          longest_gap_s: z.number(),
        })
        .optional(),
      steps: z.array(z.object({ title: z.string(), seconds: z.number() })),
    }),
  ),
});

test("keeps the promises of its scenarios, without a word to the Vault and cloud of the shell", async () => {
  const requests: string[] = [];
  const foreign = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    response.writeHead(500).end();
  });
  await new Promise<void>((resolve) => foreign.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(foreign.address() as AddressInfo).port}`;
  const production = {
    VAULT_ADDR: url,
    VAULT_TOKEN: "production",
    AWS_ENDPOINT_URL: url,
    AWS_ENDPOINT_URL_EC2: url,
    PULUMI_BACKEND_URL: url,
    PULUMI_STACK: "production",
    RECOVERY_CONFIG: "/etc/production.yaml",
  };
  const done = await drill(["--json", report], production).ended;
  foreign.close();
  expect(done.stdout).not.toContain("FAILED");
  expect(done.code).toBe(0);
  expect(requests).toEqual([]);

  expect(readFileSync(drillFile({ XDG_STATE_HOME: state }), "utf8")).toBe(readFileSync(report, "utf8"));
  const { scenarios } = Report.parse(JSON.parse(readFileSync(report, "utf8")));
  const [first, second, third] = scenarios;
  expect(scenarios).toHaveLength(3);
  expect(first).toMatchObject({ name: "1 VPS failure", passed: true, target_rto_s: 3600, target_rpo_s: 0 });
  expect(first?.measured_rto_s).toBeLessThan(60);
  expect(first?.measured_rpo_s).toBe(0);
  expect(first?.steps.map((step) => step.title).join("\n")).toMatch(/DNS names .* and no longer/);
  expect(first?.steps.map((step) => step.title).join("\n")).toMatch(/acme: its password is changed/);

  expect(second).toMatchObject({
    name: "2 Vault loss",
    passed: true,
    target_rto_s: 1800,
    target_rpo_s: 86_400,
  });
  expect(second?.measured_rto_s).toBeLessThan(180);
  // The age of the backup that it made itself.
  expect(second?.measured_rpo_s).toBeGreaterThan(0);
  expect(second?.measured_rpo_s).toBeLessThan(180);
  expect(second?.steps.map((step) => step.title).join("\n")).toMatch(/neither the backup's password logs in/);

  expect(third).toMatchObject({
    name: "3 credential compromise",
    passed: true,
    target_rto_s: 300,
    target_rpo_s: 0,
    measured_rpo_s: 0,
    mail: { lost: 0 },
  });
  expect(third?.measured_rto_s).toBeLessThan(60);
  expect(third?.mail?.submitted).toBeGreaterThan(40);
  expect(third?.mail?.longest_gap_s).toBeLessThan(30);
  for (const step of scenarios.flatMap((one) => one.steps)) expect(done.stdout).toContain(step.title);
  expect(leftovers()).toEqual([]);
}, 900_000);

test("leaves nothing when it is interrupted", async () => {
  const running = drill([], {});
  let dir = "";
  await expect
    .poll(
      () => {
        dir = join(temporary, leftovers()[0] ?? "-", "lab");
        return marked(dir).length;
      },
      { timeout: 20_000 },
    )
    .toBeGreaterThan(0);
  running.child.kill("SIGINT");
  expect((await running.ended).code).toBe(130);
  expect(marked(dir)).toEqual([]);
  expect(leftovers()).toEqual([]);
}, 60_000);

test("refuses words that it doesn't know, with its usage and exit code 2", async () => {
  const refused = await drill(["--fast"], {}).ended;
  expect(refused.code).toBe(2);
  expect(refused.stderr).toContain("Usage: npm run drill");
  expect(leftovers()).toEqual([]);
});

/** What drills made and didn't remove; Node keeps its compile cache there too. */
const leftovers = (): string[] => readdirSync(temporary).filter((name) => name.startsWith("drill-"));

function drill(args: string[], env: Record<string, string>) {
  const child = spawn(process.execPath, [join(REPOSITORY, "scripts", "drill.ts"), ...args], {
    env: { ...process.env, TMPDIR: temporary, XDG_STATE_HOME: state, ...env },
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise<{ code: number; stdout: string; stderr: string }>((resolve) =>
    child.once("close", (code) => resolve({ code: code ?? 137, stdout, stderr })),
  );
  // One that a test waited for in vain would go on beside the next.
  onTestFinished(async () => {
    child.kill("SIGTERM");
    await ended;
  });
  return { child, ended };
}
