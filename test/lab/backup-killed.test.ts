// `runbook backup-vault` killed at each of its steps: no manifest without its object, and the next run completes at once.
import { once } from "node:events";
import { buffer } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import { backUp, beginBackup, events, manifestsOf, run, today, unfinished, versions } from "./backup.ts";
import { withWindow } from "./vault-window.ts";

describe("killed, and run again", () => {
  const STEPS = [
    "→ write the canary",
    "✓ write the canary",
    "→ stream the snapshot",
    "✓ stream the snapshot",
    "→ read it back",
    "✓ read it back",
    "→ write its manifest",
    "✓ write its manifest",
  ];
  test.each(STEPS)(
    "at '%s': no manifest without its object, and the next run completes at once",
    async (mark) => {
      const before = await manifestsOf(today());
      const killed = beginBackup();
      await killed.said(mark);
      killed.signal("SIGKILL");
      await killed.ended;
      const left = (await manifestsOf(today())).length - before.length;
      expect(left).toBeLessThanOrEqual(1);
      const begun = performance.now();
      const { version_id } = await backUp();
      expect(performance.now() - begun).toBeLessThan(60_000);
      expect(await unfinished()).toBe(0);
      const all = await manifestsOf(today());
      expect(all.length).toBe(before.length + left + 1);
      // Also of a backup whose run didn't get to say so.
      const told = events("vault_backup_stored").map((one) => one.version_id);
      for (const one of all) expect(told).toContain(one.version_id);
      expect(told).toContain(version_id);
      expect((await run(["verify-backup"])).code).toBe(0);
    },
  );

  test("in the middle of the stream: nothing is there, and the next run completes", async () => {
    const before = await versions();
    await withWindow(
      async (window) => {
        const killed = beginBackup(window.env);
        await killed.said("MiB of the snapshot");
        killed.signal("SIGKILL");
        await killed.ended;
      },
      undefined,
      undefined,
      async (archive, answer) => {
        const whole = await buffer(archive);
        answer.write(whole.subarray(0, 30_000));
        await once(answer, "close");
      },
    );
    expect(await versions()).toEqual(before);
    await backUp();
  });
});
