// The password itself: every character that it can contain comes through Mailu, SMTP, IMAP and the environment whole,
// and all of it counts. Programs in another language, with other libraries, log in with it.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { GLOBEX } from "../../scripts/lab/tenants.ts";
import { adminAddress } from "../../stacks/names.ts";
import { awkwardPassword, encrypt, writeRecord } from "./door.ts";
import { addressOf, lab, program } from "./lab.ts";
import { credentialOf, expectReset, logsIn, newIncident, pendingRotation, reset } from "./resets.ts";

test("a password of +, / and = is set, proven, stored and usable from the environment as it stands", async () => {
  const incident = newIncident("AWKWARD");
  const was = await credentialOf(GLOBEX);
  const password = awkwardPassword();
  const pending = { incident_id: incident, password: await encrypt(GLOBEX, password) };
  await writeRecord(GLOBEX, "rotation", await pendingRotation(GLOBEX, pending));
  const done = await reset(GLOBEX, incident);
  expect(done.code, done.stderr).toBe(0);
  expect((await expectReset(GLOBEX, was, incident)).password).toBe(password);
  expect(await fromEnvironment(password)).toBe("SMTP 235\nIMAP OK\n");
  expect(await fromEnvironment(was.password)).toBe("SMTP 535\nIMAP NO\n");
});

test("a password that a reset makes is 48 bytes in base64, logs in from the environment, and counts to its last character", async () => {
  const incident = newIncident("MADE");
  const was = await credentialOf(GLOBEX);
  const done = await reset(GLOBEX, incident);
  expect(done.code, done.stderr).toBe(0);
  const { password } = await expectReset(GLOBEX, was, incident);
  expect(password).toMatch(/^[A-Za-z0-9+/]{64}$/);
  expect(Buffer.from(password, "base64")).toHaveLength(48);
  expect(await fromEnvironment(password)).toBe("SMTP 235\nIMAP OK\n");
  const last = password.endsWith("A") ? "B" : "A";
  expect(await logsIn(GLOBEX, password.slice(0, -1) + last)).toBe(false);
  expect(await logsIn(GLOBEX, password.slice(0, -1))).toBe(false);
});

/** Logs in as a program does that finds its password in a file of variables: unquoted, as people write it. */
async function fromEnvironment(password: string): Promise<string> {
  const file = join(lab.place.dir, "smtp.env");
  await writeFile(file, `SMTP_PASSWORD=${password}\n`, { mode: 0o600 });
  const script = `set -a; . ${file}; exec python3 -c "$PROGRAM"`;
  const host = await addressOf(GLOBEX.id);
  const env = { PROGRAM, SMTP_HOST: host, SMTP_USER: adminAddress(GLOBEX.domain) };
  const done = await program("sh", ["-c", script], { env });
  expect(done.code, done.stderr).toBe(0);
  return done.stdout;
}

const PROGRAM = `
import imaplib, os, smtplib, ssl
context = ssl._create_unverified_context()
host, user, password = (os.environ["SMTP_" + name] for name in ("HOST", "USER", "PASSWORD"))
with smtplib.SMTP_SSL(host, 465, context=context) as smtp:
    try:
        print("SMTP", smtp.login(user, password)[0])
    except smtplib.SMTPAuthenticationError as error:
        print("SMTP", error.smtp_code)
with imaplib.IMAP4_SSL(host, 993, ssl_context=context) as imap:
    try:
        print("IMAP", imap.login(user, password)[0])
    except imaplib.IMAP4.error:
        print("IMAP NO")
`;
