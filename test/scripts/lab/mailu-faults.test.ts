import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { setFaults } from "../../../scripts/lab/mailu/faults.ts";
import { ADMIN, type MailHost, mailHost } from "./mailu-host.ts";

const patch = `/user/${ADMIN}`;

describe("a fault switched on by a test", () => {
  let mail: MailHost;
  beforeAll(async () => {
    mail = await mailHost();
  });
  afterEach(() => setFaults(mail.host.disk, undefined));
  afterAll(() => mail.close());

  for (const status of [400, 401, 403, 404, 429, 500] as const) {
    test(`answers ${status} and applies nothing`, async () => {
      setFaults(mail.host.disk, { api: [{ match: "PATCH /user/", status }] });
      expect((await mail.call("PATCH", patch, { raw_password: "x" })).status).toBe(status);
      expect((await mail.call("GET", patch)).status).toBe(200);
      expect(await mail.smtp(ADMIN, "first-password")).toBe(235);
    });
  }

  test("ends after as many calls as it was meant for", async () => {
    setFaults(mail.host.disk, { api: [{ status: 500, times: 2 }] });
    const statuses = [];
    for (let n = 0; n < 3; n++) statuses.push((await mail.call("GET", patch)).status);
    expect(statuses).toEqual([500, 500, 200]);
  });

  test("answers 200 without effect", async () => {
    setFaults(mail.host.disk, { api: [{ match: "PATCH", ignore: true }] });
    expect((await mail.call("PATCH", patch, { raw_password: "x" })).status).toBe(200);
    expect(await mail.smtp(ADMIN, "first-password")).toBe(235);
  });

  test("loses the answer of a call that was applied", async () => {
    setFaults(mail.host.disk, { api: [{ match: "PATCH", loseAnswer: true, times: 1 }] });
    await expect(mail.call("PATCH", patch, { raw_password: "applied" })).rejects.toThrow(
      /socket hang up|ECONNRESET/,
    );
    expect(await mail.smtp(ADMIN, "applied")).toBe(235);
    await mail.call("PATCH", patch, { raw_password: "first-password" });
  });

  test("hangs a call and goes on with others", async () => {
    setFaults(mail.host.disk, { api: [{ match: "PATCH", hang: true }] });
    const hanging = mail.call("PATCH", patch, { raw_password: "x" }).catch(() => "cut");
    expect(await Promise.race([hanging, sleep(400, "nothing yet")])).toBe("nothing yet");
    expect((await mail.call("GET", patch)).status).toBe(200);
  });

  test("delays an answer", async () => {
    setFaults(mail.host.disk, { api: [{ delay: 300 }] });
    const begin = performance.now();
    expect((await mail.call("GET", patch)).status).toBe(200);
    expect(performance.now() - begin).toBeGreaterThan(290);
  });

  test("limits or refuses SMTP and IMAP logins apart from each other", async () => {
    setFaults(mail.host.disk, { smtp: [{ limited: true }], imap: [{ refused: true, times: 1 }] });
    expect(await mail.smtp(ADMIN, "first-password")).toBe(451);
    expect(await mail.imap(ADMIN, "first-password")).toMatch(/credentials invalid/);
    expect(await mail.imap(ADMIN, "first-password")).toBe("ok");
  });

  test("cuts logins off without an answer", async () => {
    setFaults(mail.host.disk, { smtp: [{ cut: true, times: 1 }], imap: [{ cut: true, times: 1 }] });
    expect(await mail.smtp(ADMIN, "first-password")).toBe(0);
    expect(await mail.imap(ADMIN, "first-password")).not.toMatch(/credentials invalid|^ok$/);
    expect(await mail.smtp(ADMIN, "first-password")).toBe(235);
    expect(await mail.imap(ADMIN, "first-password")).toBe("ok");
  });
});

describe("a full data volume", () => {
  const volume = mkdtempSync(join(tmpdir(), "lab-volume-"));
  beforeAll(() => void execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "lab-volume", volume]));
  afterAll(() => {
    execFileSync("umount", [volume]);
    rmSync(volume, { recursive: true });
  });

  test("answers 500, changes nothing and goes on when there is room again", async () => {
    const mail = await mailHost({ dataVolume: volume });
    await mail.run("dd if=/dev/zero of=/mailu/filler bs=1k 2>/dev/null");
    expect(await mail.call("PATCH", patch, { raw_password: "x" })).toEqual({
      status: 500,
      body: { message: "Internal Server Error" },
    });
    expect(await mail.smtp(ADMIN, "first-password")).toBe(235);
    await mail.run("rm /mailu/filler");
    expect((await mail.call("PATCH", patch, { raw_password: "second" })).status).toBe(200);
    expect(await mail.smtp(ADMIN, "second")).toBe(235);
    await mail.close();
  });
});
