// What stacks declare is asked of an engine that has a process for each question: how many there are at a time, and what
// becomes of the others when one stack fails or the backend hangs.
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { askStacks, declaredOf } from "../../../runbooks/lib/declared.ts";
import type { DriftContext } from "../../../runbooks/lib/drift-context.ts";
import type { Settings } from "../../../runbooks/lib/settings.ts";
import { tenantId } from "../../../stacks/names.ts";

const OUTPUTS = {
  ...{ address: "192.0.2.25", hostKey: "ssh-ed25519 AAAA", domain: "acme.example" },
  declared: { files: {}, images: {}, ports: [], records: [] },
};
/** Says what it was asked, and how many of its kind ran by then. */
const PULUMI = `#!/bin/sh
for word in "$@"; do case $before in --stack) stack=$word ;; esac; before=$word; done
touch running/$$
echo "$(ls running | wc -l) $stack" >>log
sleep 0.2
rm running/$$
case $stack in
  tenant-absent) echo "error: no stack named '$stack' found" >&2; exit 255 ;;
  tenant-hangs-*) exec sleep 30 ;;
esac
cat outputs.json
`;
const TENANTS = Array.from({ length: 12 }, (_, index) => tenantId(`t-${index}`));

let folder: string;
beforeEach(() => {
  folder = fs.mkdtempSync(join(tmpdir(), "declared-"));
  fs.mkdirSync(join(folder, "running"));
  fs.writeFileSync(join(folder, "outputs.json"), JSON.stringify(OUTPUTS));
  fs.writeFileSync(join(folder, "pulumi"), PULUMI, { mode: 0o700 });
  vi.stubEnv("PATH", `${folder}:${process.env.PATH}`);
});
afterEach(() => {
  vi.unstubAllEnvs();
  fs.rmSync(folder, { recursive: true });
});

function context(...first: string[]) {
  const settings = { pulumi: { project_dir: folder } } as Settings;
  const tenants = [...first.map(tenantId), ...TENANTS];
  const told: string[] = [];
  const signal = new AbortController().signal;
  const c = { settings, tenants, signal, progress: (text: string) => void told.push(text) };
  return { c: c as unknown as DriftContext, settings, told };
}
function questions() {
  const lines = fs.readFileSync(join(folder, "log"), "utf8").trim().split("\n");
  return lines.map((line) => ({ running: Number.parseInt(line, 10), stack: line.split(" ").at(-1) }));
}

it("asks every other stack too where one isn't there, never more than four at a time, and none again", async () => {
  const { c, settings, told } = context("absent");
  await askStacks(c);
  expect(told.at(-1)).toBe("13 of 13 stacks asked");
  await expect(declaredOf(settings, tenantId("absent"))).rejects.toThrow("no stack named 'tenant-absent'");
  const all = await Promise.all(TENANTS.map((tenant) => declaredOf(settings, tenant)));
  expect(all.map(({ address }) => address)).toEqual(TENANTS.map(() => OUTPUTS.address));
  expect(questions()).toHaveLength(13);
  expect(Math.max(...questions().map(({ running }) => running))).toBeLessThanOrEqual(4);
});

it("has no more engines than that where looks ask by themselves", async () => {
  const { settings } = context();
  await Promise.all(TENANTS.map((tenant) => declaredOf(settings, tenant)));
  expect(Math.max(...questions().map(({ running }) => running))).toBeLessThanOrEqual(4);
});

it("waits once for a backend that hangs, and says of the others why they weren't asked", async () => {
  const hanging = ["hangs-1", "hangs-2", "hangs-3", "hangs-4"];
  const { c, settings, told } = context(...hanging);
  await askStacks(c, 1);
  expect(told.at(-1)).toBe("16 of 16 stacks asked");
  for (const one of hanging)
    await expect(declaredOf(settings, tenantId(one))).rejects.toThrow("pulumi stack did not end within 1 s");
  for (const one of TENANTS)
    await expect(declaredOf(settings, one)).rejects.toMatchObject({
      message: `Stack tenant-${one} was not asked what it declares: pulumi stack did not end within 1 s`,
      next: expect.stringContaining("pulumi stack output --json --stack tenant-hangs-"),
    });
  expect(
    questions()
      .map(({ stack }) => stack)
      .sort(),
  ).toEqual(hanging.map((one) => `tenant-${one}`));
});
