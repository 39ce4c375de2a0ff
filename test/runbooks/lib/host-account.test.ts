// Looking at an account over ssh and shutting it, on a lab host with real sshd, SMTP and IMAP.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ImapFlow } from "imapflow";
import { createTransport } from "nodemailer";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { accountState, disableAccount, sweepAccount } from "../../../runbooks/lib/host-account.ts";
import type { Settings } from "../../../runbooks/lib/settings.ts";
import { setFaults } from "../../../scripts/lab/mailu/faults.ts";
import { ADMIN, COMPOSE, DOMAIN, type MailHost, mailHost } from "../../scripts/lab/mailu-host.ts";

let mail: MailHost;
let settings: Settings;
beforeAll(async () => {
  mail = await mailHost();
  settings = {
    ...({} as Settings),
    ssh: { user: "root", identity_file: join(mail.dir, "id") },
  };
  await mail.call("POST", "/user", { email: `other@${DOMAIN}`, raw_password: "other-password" });
});
afterEach(() => setFaults(mail.host.disk, undefined));
afterAll(() => mail.close());

const host = () => ({ address: mail.host.address, hostKey: mail.host.hostKey });
const sweep = (end: boolean) => sweepAccount(settings, host(), ADMIN, { end });
const enable = () => mail.call("PATCH", `/user/${ADMIN}`, { enabled: true, global_admin: true });

/** A client of a real library that has logged in and stays; `ended` resolves when the server cuts it off. */
async function imapClient(): Promise<{ ended: Promise<void> }> {
  const client = new ImapFlow({
    host: mail.host.address,
    port: 993,
    secure: true,
    auth: { user: ADMIN, pass: "first-password" },
    tls: { rejectUnauthorized: false },
    logger: false,
  });
  const ended = new Promise<void>((resolve) => client.once("close", () => resolve()));
  client.on("error", () => {});
  await client.connect();
  return { ended };
}

/** A pool of one SMTP connection, which has sent a mail and is kept open. */
async function smtpPool(user = ADMIN, pass = "first-password") {
  const pool = createTransport({
    pool: true,
    maxConnections: 1,
    host: mail.host.address,
    port: 465,
    secure: true,
    auth: { user, pass },
    tls: { rejectUnauthorized: false },
  });
  await pool.sendMail({ from: user, to: ADMIN, subject: "hello", text: "hello" });
  return pool;
}

describe("sweepAccount", () => {
  test("ends the account's IMAP and SMTP connections and nobody else's", async () => {
    const own = await imapClient();
    const pools = [await smtpPool(), await smtpPool(`other@${DOMAIN}`, "other-password")];
    expect(await accountState(settings, host(), ADMIN)).toEqual({ enabled: true, connections: 2 });
    expect((await sweep(false)).ended).toBe(false);
    expect((await accountState(settings, host(), ADMIN))?.connections).toBe(2);
    expect((await sweep(true)).ended).toBe(true);
    await own.ended;
    await expect
      .poll(async () => (await accountState(settings, host(), ADMIN))?.connections, { timeout: 5_000 })
      .toBe(0);
    expect((await accountState(settings, host(), `other@${DOMAIN}`))?.connections).toBe(1);
    for (const pool of pools) pool.close();
  });

  test("is content when nobody is connected", async () => {
    expect(await sweep(true)).toEqual({ ended: true, sieve: [], fetchmail: [], managers: [] });
  });

  test("lists Sieve scripts with their sums, follows no link, and stands any name", async () => {
    const script = 'redirect "spy@away.example";\n';
    const box = `/mailu/mail/${ADMIN}`;
    const odd = 'it\'s \\n "odd" $(touch owned)\n.sieve';
    await mail.run(
      `mkdir -p ${box}/sieve/deep /tmp/out && touch -d @86400 ${box}/x
      cat >${box}/sieve/deep/filter.sieve && cp ${box}/sieve/deep/filter.sieve /tmp/out/far.sieve
      touch -d @86400 ${box}/sieve/deep/filter.sieve; ln -s /tmp/out ${box}/away; ln -s deep/filter.sieve ${box}/sieve/link.sieve`,
      script,
    );
    await mail.run(`cd ${box} && : >"$(cat)"`, odd);
    const { sieve } = await sweep(false);
    const sha256 = createHash("sha256").update(script).digest("hex");
    expect(sieve).toHaveLength(2);
    expect(sieve).toContainEqual({
      path: `${box}/sieve/deep/filter.sieve`,
      sha256,
      modified: "1970-01-02T00:00:00.000Z",
    });
    expect(sieve.map(({ path }) => path)).toContain(`${box}/${odd}`);
    expect(existsSync(join(mail.host.disk, "root/owned"))).toBe(false);
    await mail.run(`rm -rf ${box}/sieve ${box}/away ${box}/it*`);
  });

  test("lists everybody's fetchmail accounts and domain managers, without a password", async () => {
    const fetches = [
      { protocol: "imap", host: "away.example", port: 993, username: "spy", password: "hush-hush" },
    ];
    const given = JSON.stringify({ user: [{ email: `other@${DOMAIN}`, fetches }] });
    await mail.run(`${COMPOSE} exec -T admin flask mailu config-import -u -q`, given);
    await mail.call("POST", `/domain/${DOMAIN}/manager`, { user_email: `other@${DOMAIN}` });
    const found = await sweep(false);
    expect(found.fetchmail).toEqual([
      { email: `other@${DOMAIN}`, host: "away.example", username: "spy", protocol: "imap" },
    ]);
    expect(found.managers).toEqual([{ email: `other@${DOMAIN}`, domain: DOMAIN }]);
    expect(JSON.stringify(found)).not.toContain("hush");
  });

  test("says that connections were not ended when doveadm fails", async () => {
    for (const match of ["front doveadm", "imap doveadm"]) {
      setFaults(mail.host.disk, { exec: [{ match, code: 75 }] });
      expect((await sweep(true)).ended).toBe(false);
      expect(await accountState(settings, host(), ADMIN)).toEqual({ enabled: true, connections: undefined });
    }
  });

  test("ends connections also where the accounts can't be listed, and then fails with what was said", async () => {
    const own = await imapClient();
    setFaults(mail.host.disk, { exec: [{ match: "admin flask", code: 1 }] });
    await expect(sweep(true)).rejects.toThrow(/can't be asked: Error: told to fail/);
    await own.ended;
  });

  test("takes no name that could be a path or a flag", async () => {
    for (const name of [`../${ADMIN}`, "-f@x.example", "no address", ""])
      await expect(sweepAccount(settings, host(), name, { end: false })).rejects.toThrow(/no account's name/);
  });
});

describe("disableAccount", () => {
  test("refuses the password and every app token from then on, and takes the administrator's rights", async () => {
    const app = (await mail.call("POST", "/token", { email: ADMIN })).body as { token: string };
    expect(await mail.smtp(ADMIN, app.token)).toBe(235);
    await disableAccount(settings, host(), ADMIN);
    for (const password of ["first-password", app.token]) {
      expect(await mail.smtp(ADMIN, password)).toBe(535);
      expect(await mail.imap(ADMIN, password)).toMatch(/credentials invalid/);
    }
    expect(await accountState(settings, host(), ADMIN)).toEqual({ enabled: false, connections: 0 });
    expect((await mail.call("GET", `/user/${ADMIN}`)).body).toMatchObject({
      enabled: false,
      global_admin: false,
    });
    await disableAccount(settings, host(), ADMIN);
    await enable();
    expect(await mail.smtp(ADMIN, "first-password")).toBe(235);
  });

  test("fails for an account that isn't there, with Mailu's words", async () => {
    await expect(disableAccount(settings, host(), `absent@${DOMAIN}`)).rejects.toThrow(/failed: .*required/);
    expect(await accountState(settings, host(), `absent@${DOMAIN}`)).toBeUndefined();
  });

  test("fails for a change that was lost on its way, and for Mailu that is down", async () => {
    setFaults(mail.host.disk, { exec: [{ match: "admin flask mailu config-import", code: 0 }] });
    await expect(disableAccount(settings, host(), ADMIN)).rejects.toThrow(/keeps admin@acme.example enabled/);
    setFaults(mail.host.disk, undefined);
    await mail.run(`${COMPOSE} stop`);
    await expect(disableAccount(settings, host(), ADMIN)).rejects.toMatchObject({
      exitCode: 1,
      next: expect.stringMatching(/^ssh root@/),
    });
    await mail.run(`${COMPOSE} start; ${COMPOSE} up -d --wait`);
  });

  test("believes no other host key", async () => {
    const other = `ssh-ed25519 ${Buffer.from(`\0\0\0\x0bssh-ed25519\0\0\0\x20${"x".repeat(32)}`).toString("base64")}`;
    await expect(disableAccount(settings, { ...host(), hostKey: other }, ADMIN)).rejects.toMatchObject({
      exitCode: 4,
    });
    expect(await mail.smtp(ADMIN, "first-password")).toBe(235);
  });
});
