// What outlives a password: app tokens, open connections, forwards, other administrators and managers, Sieve scripts,
// fetchmail accounts. After a compromise what nobody vouched for is gone, and the rest is told.
import { connect as connectTcp } from "node:net";
import { connect, type TLSSocket } from "node:tls";
import { afterEach, expect, test } from "vitest";
import { z } from "zod";
import { readRecord } from "../../scripts/drill/doors.ts";
import { GLOBEX } from "../../scripts/lab/tenants.ts";
import { adminAddress, COMPOSE_FILE, IMAP_PORT, MAILU_DATA, SMTP_PORT } from "../../stacks/names.ts";
import { onHost, writeRecord } from "./door.ts";
import { withFaults } from "./faults.ts";
import { addressOf, hosts, lab, runbook } from "./lab.ts";
import { mailuApi } from "./mailu-api.ts";
import {
  credentialOf,
  events,
  expectIncomplete,
  expectReset,
  logsIn,
  newIncident,
  noticesOf,
  reset,
  rotationOf,
} from "./resets.ts";

const ADMIN = adminAddress(GLOBEX.domain);
const SECOND = `second@${GLOBEX.domain}`;

const respond = (incident: string) =>
  runbook([
    "respond-to-compromise",
    "--incident",
    incident,
    "--details",
    "a test",
    "--tenant",
    GLOBEX.id,
    "--yes",
  ]);

const sockets: TLSSocket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});

test("tokens that nobody sanctioned and open connections are ended, and the tenant is told which devices need new ones", async () => {
  const incident = newIncident("TOKENS");
  const was = await credentialOf(GLOBEX);
  const [phone, unnamed, printer] = [await token("phone"), await token(), await token("printer")];
  await sanction(printer.id);
  const open = [await openImap(was.password), await openSmtp(was.password), await openImap(phone.secret)];
  const done = await respond(incident);
  expect(done.code, done.stderr).toBe(0);
  await expectReset(GLOBEX, was, incident);
  await Promise.all(open.map((connection) => connection.ended));
  expect(await logsIn(GLOBEX, phone.secret)).toBe(false);
  expect(await logsIn(GLOBEX, printer.secret)).toBe(true);
  expect(await tokenIds()).toEqual([printer.id]);
  const [event] = await events(GLOBEX, incident);
  expect(event?.details.tokens_deleted).toEqual([
    { id: phone.id, comment: "phone", created: expect.any(String) },
    { id: unnamed.id, comment: null, created: expect.any(String) },
  ]);
  const notice = tenantNotice(incident);
  expect(notice).toContain("Subject: SMTP Credentials Rotated - Security Incident");
  expect(notice).toContain(`- phone (number ${phone.id},`);
  expect(notice).toContain(`- without a comment (number ${unnamed.id},`);
  expect(notice).not.toMatch(/No action is required|printer/);
  await mailuApi(GLOBEX, "DELETE", `/token/${printer.id}`);
  await sanction();
});

test("what may be somebody's honest setting stays, and is reported to people", async () => {
  const incident = newIncident("DOORS");
  const was = await credentialOf(GLOBEX);
  await mailuApi(GLOBEX, "POST", "/user", { email: SECOND, raw_password: "another one", global_admin: true });
  await mailuApi(GLOBEX, "POST", `/domain/${GLOBEX.domain}/manager`, { user_email: SECOND });
  const forward = { forward_enabled: true, forward_destination: ["thief@elsewhere.example"] };
  for (const user of [ADMIN, SECOND]) await mailuApi(GLOBEX, "PATCH", `/user/${user}`, forward);
  const sieve = `${MAILU_DATA}/mail/${ADMIN}/sieve/steal.sieve`;
  await onHost(
    GLOBEX,
    `mkdir -p $(dirname ${sieve}) && echo 'redirect "thief@elsewhere.example";' > ${sieve}`,
  );
  await importUser({ email: ADMIN, fetches: [FETCHED] });
  try {
    const done = await reset(GLOBEX, incident);
    expect(done.code, done.stderr).toBe(0);
    await expectReset(GLOBEX, was, incident);
    const reported = [
      `the administrator's mail is forwarded: ${ADMIN} to thief@elsewhere.example`,
      `mail is forwarded out of ${GLOBEX.domain}: ${SECOND} to thief@elsewhere.example`,
      `${SECOND} is an administrator of this Mailu too`,
      `${SECOND} manages the domain ${GLOBEX.domain}`,
      expect.stringMatching(`a Sieve script filters the mail: ${sieve}, changed 20\\d\\d-`),
      `mail is fetched for ${ADMIN} from pop.elsewhere.example as thief`,
    ];
    expect(JSON.parse(done.stdout).look_at).toEqual(reported);
    const [event] = await events(GLOBEX, incident);
    expect(event?.details).toMatchObject({ reported, tokens_deleted: [], unknown: [] });
    const posted = noticesOf(incident).find(({ via }) => via === "webhook");
    expect(JSON.parse(posted?.text ?? "")).toMatchObject({ fields: { reported } });
    expect(await mailuApi(GLOBEX, "GET", `/user/${ADMIN}`)).toMatchObject(forward);
    expect(await onHost(GLOBEX, `cat ${sieve}`)).toContain("redirect");
  } finally {
    await mailuApi(GLOBEX, "DELETE", `/user/${SECOND}`);
    await mailuApi(GLOBEX, "PATCH", `/user/${ADMIN}`, { forward_enabled: false, forward_destination: [] });
    await onHost(GLOBEX, `rm ${sieve}`);
    await importUser({ email: ADMIN, fetches: [{ "-id": 1 }] });
  }
});

test("a response that deleted nothing says that nothing is to be done", async () => {
  const incident = newIncident("QUIET");
  const done = await respond(incident);
  expect(done.code, done.stderr).toBe(0);
  expect(tenantNotice(incident)).toContain("No action is required from you");
});

test("a host that doesn't answer ssh holds up no reset: what wasn't looked at is named, and looked at later", async () => {
  const incident = newIncident("SSH");
  const was = await credentialOf(GLOBEX);
  const address = await addressOf(GLOBEX.id);
  const sshd = (await hosts()).find((host) => host.address === address)?.pid ?? 0;
  expect(sshd).toBeGreaterThan(1);
  const imap = await openImap(was.password);
  // The host's first process is its sshd; its mail server goes on.
  process.kill(sshd, "SIGSTOP");
  const done = await reset(GLOBEX, incident).finally(() => process.kill(sshd, "SIGCONT"));
  expectIncomplete(
    done,
    /not looked at: open connections, Sieve scripts and fetchmail accounts: ssh to root@/,
  );
  await expectReset(GLOBEX, was, incident);
  expect(sockets[0]?.destroyed).toBe(false);
  const again = await reset(GLOBEX, incident);
  expect(again.code, again.stderr).toBe(0);
  await imap.ended;
  expect((await rotationOf(GLOBEX)).findings).toMatchObject({ unknown: [] });
  await expectReset(GLOBEX, was, incident);
});

test("an API that lists no tokens holds up no reset either: they are deleted by the same command, and told of", async () => {
  const incident = newIncident("LIST");
  const was = await credentialOf(GLOBEX);
  const laptop = await token("laptop");
  const unlisted = { api: [{ match: "GET /tokenuser/", status: 500 as const }] };
  const done = await withFaults(GLOBEX, unlisted, () => reset(GLOBEX, incident));
  expectIncomplete(done, /not looked at: app tokens: .*answered 500 to GET \/tokenuser/);
  expect(await logsIn(GLOBEX, laptop.secret)).toBe(true);
  const again = await reset(GLOBEX, incident);
  expect(again.code, again.stderr).toBe(0);
  expect(await logsIn(GLOBEX, laptop.secret)).toBe(false);
  expect(JSON.parse(again.stdout).tokens_deleted).toMatchObject([{ id: laptop.id, comment: "laptop" }]);
  await expectReset(GLOBEX, was, incident);
});

const FETCHED = {
  protocol: "pop3",
  host: "pop.elsewhere.example",
  port: 995,
  tls: true,
  username: "thief",
  password: "secret",
};

/** Vouches for these app tokens and no other. */
async function sanction(...sanctioned_app_tokens: string[]): Promise<void> {
  const { fields } = await readRecord(lab, GLOBEX, "mailu");
  await writeRecord(GLOBEX, "mailu", { ...fields, sanctioned_app_tokens });
}

const Token = z.object({ id: z.union([z.string(), z.number()]).transform(String), token: z.string() });

/** Makes an app token of the administrator's. */
async function token(comment?: string): Promise<{ id: string; secret: string }> {
  const body = comment === undefined ? {} : { comment };
  const made = Token.parse(await mailuApi(GLOBEX, "POST", `/tokenuser/${ADMIN}`, body));
  return { id: made.id, secret: made.token };
}

const tokenIds = async (): Promise<string[]> =>
  z
    .array(z.object({ id: z.union([z.string(), z.number()]).transform(String) }))
    .parse(await mailuApi(GLOBEX, "GET", `/tokenuser/${ADMIN}`))
    .map(({ id }) => id);

/** Changes a user by Mailu's own program, which knows of fetchmail accounts. */
async function importUser(user: object): Promise<void> {
  const flask = `docker compose -f ${COMPOSE_FILE} exec -T admin flask mailu config-import -u -q`;
  await onHost(GLOBEX, `${flask} <<'END'\n${JSON.stringify({ user: [user] })}\nEND`);
}

/** The text of the mail to the tenant. */
function tenantNotice(incident: string): string {
  const mail = noticesOf(incident).find(({ text }) => text.includes(`To: ${GLOBEX.contactEmail}`));
  return mail?.text.replaceAll(/=\r?\n/g, "") ?? "none";
}

interface OpenConnection {
  /** Resolves once the server has ended it. */
  readonly ended: Promise<void>;
}

const openImap = (password: string): Promise<OpenConnection> =>
  openAt(IMAP_PORT, [`a LOGIN ${ADMIN} "${password}"`], /^a OK/m);

const openSmtp = (password: string): Promise<OpenConnection> => {
  const plain = Buffer.from(`\0${ADMIN}\0${password}`).toString("base64");
  return openAt(SMTP_PORT, ["EHLO test", `AUTH PLAIN ${plain}`], /^235 /m);
};

/** A connection that logs in and stays, as a thief's would. */
async function openAt(port: number, lines: string[], accepted: RegExp): Promise<OpenConnection> {
  const socket = connect({
    socket: connectTcp({ host: await addressOf(GLOBEX.id), port }),
    rejectUnauthorized: false,
  });
  sockets.push(socket);
  socket.on("error", () => {});
  const ended = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    let said = "";
    socket.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      if (accepted.test(said)) resolve();
      const line = lines.shift();
      if (line !== undefined) socket.write(`${line}\r\n`);
    });
    socket.once("close", () => reject(new Error(`It was closed before it logged in: ${said}`)));
  });
  return { ended };
}
