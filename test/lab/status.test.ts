// `runbook status` on the lab: what is outstanding is shown with the command for it, what is well isn't, and what can't be
// looked at is said and not left out.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { z } from "zod";
import { decrypt, readRecord } from "../../scripts/drill/doors.ts";
import { reportJson } from "../../scripts/drill/report.ts";
import { ACME } from "../../scripts/lab/tenants.ts";
import { metadataPath } from "../../stacks/names.ts";
import { markCompromised, setInMailu, writeRecord } from "./door.ts";
import { READER } from "./drift.ts";
import { lab, record, runbook, vault } from "./lab.ts";

const Status = z.object({
  tenants: z.array(
    z.object({
      tenant: z.string(),
      version: z.number(),
      compromised_by: z.string().nullable(),
      rotation: z.looseObject({ state: z.string(), at_work: z.boolean() }).nullable(),
      login: z.string().nullable(),
    }),
  ),
  drill: z.looseObject({ at: z.string() }).nullable(),
  outstanding: z.array(z.object({ what: z.string(), next: z.string() })),
  unknown: z.array(z.object({ what: z.string(), why: z.string(), next: z.string() })),
});

const drill = join(lab.place.dir, "of-a-test-drill.json");

async function status(args: string[] = [], env: Record<string, string> = READER) {
  const { code, stdout, stderr } = await runbook(["status", "--json", "--drill", drill, ...args], { env });
  const found = Status.parse(JSON.parse(stdout));
  const acme = found.tenants.find(({ tenant }) => tenant === ACME.id);
  return { ...found, acme, code, stderr, next: found.outstanding.map(({ next }) => next) };
}

test("a mark on the current version and a rotation that stands still are outstanding, and gone once mended", async () => {
  const was = (await record(ACME.id, "rotation")).fields;
  const before = await status();
  expect([before.code, before.acme?.compromised_by, before.acme?.rotation]).toEqual([0, null, null]);
  try {
    await markCompromised(ACME);
    await writeRecord(ACME, "rotation", { ...was, kind: "reset", state: "SET", holder: null });
    const now = await status();
    expect(now.acme).toMatchObject({ compromised_by: "unknown", rotation: { state: "SET", at_work: false } });
    expect(now.next).toContain("npx runbook resume --tenant acme");
    expect(now.next.some((next) => next.startsWith("npx runbook emergency-reset --tenant acme"))).toBe(true);
    const { stdout } = await runbook(["status"], { env: READER });
    expect(stdout).toMatch(/^acme .*COMPROMISED unknown +SET/m);
    expect(stdout).toContain("      npx runbook resume --tenant acme");
  } finally {
    await writeRecord(ACME, "rotation", was);
    await vault("POST", metadataPath(ACME.id, "admin"), { custom_metadata: {} });
  }
  expect((await status()).next.filter((next) => next.includes("acme"))).toEqual([]);
});

test("--logins says whose password works, and of one that was changed in Mailu that it is refused", async () => {
  const own = { VAULT_TOKEN: lab.operatorToken };
  expect((await status(["--logins"], own)).tenants.map(({ login }) => login)).toContain("works");
  const password = await decrypt(lab, ACME, (await readRecord(lab, ACME, "admin")).fields.password);
  try {
    await setInMailu(ACME, "another-password-by-hand");
    const { acme, next } = await status(["--logins"], own);
    expect(acme?.login).toBe("REFUSED");
    expect(next.some((one) => one.includes("emergency-reset --tenant acme"))).toBe(true);
  } finally {
    await setInMailu(ACME, password);
  }
});

test("the last drill's times are those of its report; a file that is none is said to be that", async () => {
  writeFileSync(drill, JSON.stringify(reportJson([], new Date("2026-03-31T05:00:00Z"))));
  expect((await status()).drill?.at).toBe("2026-03-31T05:00:00.000Z");
  writeFileSync(drill, "{}");
  const broken = await status();
  expect([broken.code, broken.unknown.map(({ what, next }) => [what, next])]).toEqual([
    1,
    [["the last drill", "npm run drill   # writes a new one"]],
  ]);
});

test("without Vault or the bucket, what is left is shown, and the rest said not to be known", async () => {
  const { code, unknown, stderr } = await status([], {
    VAULT_TOKEN: "hvs.wrong",
    AWS_ENDPOINT_URL: "http://127.0.0.1:9",
  });
  expect([code, unknown.map(({ what }) => what)], stderr).toEqual([
    1,
    ["tenants", "backups", "notices", "the last drill"],
  ]);
});
