// A VPS is lost and `pulumi up` brings it back, with the real engine. What came back is seen through other clients:
// raw HTTP to Vault, mail logins, TLS, ssh, Route 53's API.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createTransport } from "nodemailer";
import { describe, expect, test } from "vitest";
import { dns, versions } from "../../scripts/drill/doors.ts";
import { order } from "../../scripts/lab/control.ts";
import { setFaults } from "../../scripts/lab/mailu/faults.ts";
import { ACME, GLOBEX, TENANTS } from "../../scripts/lab/tenants.ts";
import { adminAddress, mailHost, PLATFORM_STACK, SMTP_PORT, tenantStack } from "../../stacks/names.ts";
import { cancel, killedUp } from "./killed-up.ts";
import { addressOf, killVps, lab, pulumi, record } from "./lab.ts";
import { expectLogin, identity, onHost, passwordOf, rebuild, up } from "./rebuilt.ts";

test("up, preview and refresh again change nothing and run no command, on the platform and on a tenant", async () => {
  const traces = async () => ({
    versions: await Promise.all(TENANTS.map((tenant) => versions(lab, tenant))),
    log: await readFile(join(lab.place.dir, "audit.jsonl"), "utf8"),
  });
  const before = await traces();
  await Promise.all(
    [PLATFORM_STACK, tenantStack(ACME.id)].map(async (stack) => {
      for (const verb of [["preview"], ["refresh", "--yes"], ["up", "--yes", "--skip-preview"]]) {
        const seen = await pulumi([...verb, "--stack", stack, "--expect-no-changes"]);
        expect(seen.code, `${verb[0]} ${stack}: ${seen.stdout}`).toBe(0);
      }
    }),
  );
  expect(await traces()).toEqual(before);
});

test("a terminated host comes back with its address, its keys, and the mail on its data volume", async () => {
  const before = await identity(ACME);
  const self = adminAddress(ACME.domain);
  const smtp = createTransport({
    host: before.address,
    port: SMTP_PORT,
    secure: true,
    auth: { user: self, pass: await passwordOf(ACME) },
    tls: { rejectUnauthorized: false },
  });
  await smtp.sendMail({ from: self, to: self, subject: "still here", text: "delivered before" });
  smtp.close();
  await killVps(ACME.id, "terminated", true);
  await rebuild(ACME);
  expect(await identity(ACME)).toEqual(before);
  expect(await onHost(ACME, `grep -rl "still here" /mailu/mail | wc -l`)).toBe("1\n");
  await expectLogin(ACME);
});

describe("a host of one's own that moves to another address", () => {
  const configure = (address: string) =>
    pulumi(["config", "set", "--path", "existing.address", address, "--stack", tenantStack(GLOBEX.id)]);
  const inDns = () => dns(lab, GLOBEX, mailHost(GLOBEX.domain), "A");

  test("may not be another tenant's: up is refused, and nothing there or in DNS has changed", async () => {
    const before = { acme: await identity(ACME), globex: await identity(GLOBEX), dns: await inDns() };
    const files = () => onHost(ACME, "sha256sum /opt/mailu/* 2>/dev/null; ls -l /opt/mailu");
    const onDisk = await files();
    await configure(before.acme.address);
    const done = await up(GLOBEX);
    expect(done.code).not.toBe(0);
    expect(done.stdout + done.stderr).toMatch(/already the Mailu of .*acme.*one Mailu serves one tenant/);
    expect({ acme: await identity(ACME), globex: await identity(GLOBEX), dns: await inDns() }).toEqual(
      before,
    );
    expect(await files()).toBe(onDisk);
  });

  test("gets its name in DNS only after the login there was proven, also when the engine dies just then", async () => {
    const before = await identity(GLOBEX);
    await killVps(GLOBEX.id, "terminated");
    const [host] = (await order(lab.place.dir, { order: "boot", name: "globex-moved" })).hosts;
    const address = host?.address ?? "";
    const disk = join(lab.place.dir, "hosts", host?.id ?? "", "root");
    await configure(address);

    setFaults(disk, { smtp: [{ refused: true }] });
    const refused = await up(GLOBEX);
    setFaults(disk, undefined);
    expect(refused.code).not.toBe(0);
    expect(refused.stdout + refused.stderr).toContain("Failed to verify MailU access after recovery");
    expect(await inDns()).toEqual([before.address]);
    expect(await addressOf(GLOBEX.id)).toBe(before.address);

    await killedUp(GLOBEX, `A-${mailHost(GLOBEX.domain)} updating`, "the engine and all it started");
    expect((await record(GLOBEX.id, "server")).fields.vps_ip).toBe(address);
    await expectLogin(GLOBEX);
    await cancel(GLOBEX);
    await rebuild(GLOBEX);
    expect(await identity(GLOBEX)).toEqual({ ...before, address, dns: [address] });
  });
});
