// A tenant whose machine is rented is taken away with it: however often that dies on the way, and if the machine is dead.
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { decrypt, dns, readRecord, versions } from "../../scripts/drill/doors.ts";
import { mailHost } from "../../stacks/names.ts";
import { begin } from "./killed.ts";
import { hosts, killVps, lab, runbook } from "./lab.ts";
import { living } from "./living.ts";
import {
  BOTH,
  events,
  keyOf,
  offboard,
  offboardArgs,
  stackIsEmpty,
  stored,
  tombstonesOf,
} from "./offboarded.ts";

describe("a tenant on EC2", () => {
  test("whose offboarding dies at every step, one after the other, is gone in the end: one tombstone, one event each", async () => {
    const tenant = await living("dying", "ec2");
    const { fields } = await readRecord(lab, tenant, "admin");
    const dry = await runbook(offboardArgs(tenant, "--dry-run"), { env: BOTH });
    const Steps = z.object({ steps: z.array(z.object({ title: z.string(), kind: z.string() })) });
    const titles = Steps.parse(JSON.parse(dry.stdout)).steps.filter(({ kind }) => kind === "change");
    expect(titles.length).toBeGreaterThan(7);
    const marks = titles.flatMap(({ title }) =>
      title.startsWith("take down")
        ? [`→ ${title}`, "deleting (0s)", " deleted (", `✓ ${title}`]
        : [`→ ${title}`],
    );
    let killed = 0;
    for (const mark of marks) {
      const run = begin(offboardArgs(tenant), BOTH);
      // A step that takes a few milliseconds may be over before the signal comes.
      const died = await run.said(mark).then(
        () => true,
        () => false,
      );
      run.signal("SIGKILL");
      const ended = await run.ended;
      if (died && ended.code === null) killed += 1;
      else expect(ended.code, ended.stderr).toBe(0);
    }
    expect(killed).toBeGreaterThan(titles.length - 2);
    const done = await offboard(tenant, BOTH);
    expect(done.code, done.stderr).toBe(0);
    expect(await stackIsEmpty(tenant)).toBe(true);
    expect(await dns(lab, tenant, mailHost(tenant.domain), "A")).toEqual([]);
    expect(Object.keys(await versions(lab, tenant))).toEqual(["rotation"]);
    await expect(keyOf(tenant)).rejects.toThrow(/404/);
    await expect(decrypt(lab, tenant, fields.password)).rejects.toThrow();
    expect((await hosts()).filter(({ name, alive }) => alive && name.includes(tenant.id))).toEqual([]);
    expect(await tombstonesOf(tenant)).toEqual([`tombstones/${tenant.id}.json`]);
    expect((await events(tenant)).map(({ event }) => event).sort()).toEqual([
      "tenant_offboarded",
      "transit_key_deleted",
    ]);
  }, 600_000);

  test("whose host is dead goes all the same, and that is said", async () => {
    const tenant = await living("dead", "ec2");
    await killVps(tenant.id, "dead");
    const done = await offboard(tenant, BOTH);
    expect(done.code, done.stderr).toBe(0);
    expect(JSON.parse(done.stdout).account).toMatch(/^not disabled: Mailu on .* can't be asked/);
    expect(await stackIsEmpty(tenant)).toBe(true);
    expect(await stored(`${tenant.id}.json`)).toMatchObject({ own_host: false });
  });
});
