// The programs in the containers that an incident is contained with: doveadm and flask.
import { connect, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { setFaults } from "../../../scripts/lab/mailu/faults.ts";
import { ADMIN, COMPOSE, type MailHost, mailHost } from "./mailu-host.ts";

let mail: MailHost;
beforeAll(async () => {
  mail = await mailHost();
  await mail.call("POST", "/user", { email: "other@acme.example", raw_password: "other-password" });
});
afterAll(() => mail.close());

const exec = (command: string, input = "") => mail.run(`${COMPOSE} exec -T ${command}`, input);
const front = (command: string) => exec(`front doveadm -c /etc/dovecot/proxy.conf ${command}`);

/** A client that has logged in and stays. */
interface Open {
  ended: Promise<string>;
  close(): void;
}

/** Logs in over IMAP or SMTP by hand and says nothing more. */
async function open(protocol: "imap" | "smtp", user = ADMIN, password = "first-password"): Promise<Open> {
  const plain = Buffer.from(`\0${user}\0${password}`).toString("base64");
  const talk =
    protocol === "imap"
      ? [/^\* OK/, `a AUTHENTICATE PLAIN ${plain}`, /a OK/]
      : [/^220 /, "EHLO client.example", /^250 /m, `AUTH PLAIN ${plain}`, /^235 /m];
  const socket = connect({
    host: mail.host.address,
    port: protocol === "imap" ? 993 : 465,
    rejectUnauthorized: false,
  });
  let heard = "";
  socket.setEncoding("utf8").on("data", (text: string) => {
    heard += text;
  });
  for (const step of talk) {
    if (typeof step === "string") {
      heard = "";
      socket.write(`${step}\r\n`);
    } else await until(socket, () => step.test(heard));
  }
  heard = "";
  const ended = new Promise<string>((resolve) => socket.once("close", () => resolve(heard)));
  return { ended, close: () => socket.destroy() };
}

async function until(socket: TLSSocket, reached: () => boolean): Promise<void> {
  while (!reached()) {
    await new Promise<void>((resolve, reject) => {
      socket.once("data", () => resolve());
      socket.once("close", () => reject(new Error("the server ended the connection")));
    });
  }
}

const who = async (user = ADMIN) => {
  const [imap, proxied] = await Promise.all([exec(`imap doveadm who -1 ${user}`), front("proxy list")]);
  const count = (text: string) => text.split("\n").filter((line) => line.startsWith(`${user} `)).length;
  return { mailboxes: count(imap.stdout), proxied: count(proxied.stdout) };
};

describe("doveadm", () => {
  test("in the front container ends IMAP and SMTP connections of one user by `proxy kick`", async () => {
    const own = await Promise.all([open("imap"), open("imap"), open("smtp")]);
    const other = await open("smtp", "other@acme.example", "other-password");
    expect(await who()).toEqual({ mailboxes: 2, proxied: 3 });
    expect(await front(`proxy kick ${ADMIN}`)).toEqual({
      code: 0,
      stdout: "3 connections kicked\n",
      stderr: "",
    });
    await Promise.all(own.map(({ ended }) => ended));
    expect(await who()).toEqual({ mailboxes: 0, proxied: 0 });
    expect(await who("other@acme.example")).toEqual({ mailboxes: 0, proxied: 1 });
    expect((await front(`proxy kick ${ADMIN}`)).stdout).toBe("0 connections kicked\n");
    other.close();
  });

  test("in the front container finds nobody by `kick`: its connections are proxied", async () => {
    const own = await open("smtp");
    expect(await front(`kick ${ADMIN}`)).toEqual({ code: 68, stdout: "no users kicked\n", stderr: "" });
    expect(await who()).toEqual({ mailboxes: 0, proxied: 1 });
    own.close();
    await own.ended;
    await expect.poll(() => who(), { timeout: 15_000 }).toEqual({ mailboxes: 0, proxied: 0 });
    expect((await front(`proxy kick ${ADMIN}`)).stdout).toBe("(null) connections kicked\n");
  });

  test("in the imap container ends IMAP alone, with a word to the client", async () => {
    const [imap, smtp] = await Promise.all([open("imap"), open("smtp")]);
    const kicked = await exec(`imap doveadm kick ${ADMIN}`);
    expect(kicked).toMatchObject({
      code: 0,
      stdout: `kicked connections from the following users:\n${ADMIN} \n`,
    });
    expect(await imap.ended).toMatch(/^\* BYE/);
    expect(await who()).toEqual({ mailboxes: 0, proxied: 1 });
    expect((await exec(`imap doveadm kick ${ADMIN}`)).code).toBe(68);
    smtp.close();
  });

  test.each([
    ["front doveadm -c /etc/dovecot/absent.conf proxy list", 75],
    ["front doveadm frobnicate", 64],
    ["smtp doveadm who", 127],
    ["front flask mailu config-export", 127],
  ])("ends `%s` with %i", async (command, code) => {
    const done = await exec(command);
    expect(done.code).toBe(code);
    expect(done.stderr).not.toBe("");
  });
});

describe("flask mailu", () => {
  const flask = (command: string, input?: unknown) =>
    exec(`admin flask mailu ${command}`, input === undefined ? "" : JSON.stringify(input));
  const exported = async (filters: string) => {
    const done = await flask(`config-export -j ${filters}`);
    expect(done.code, done.stderr).toBe(0);
    return JSON.parse(done.stdout) as { user: Record<string, unknown>[] };
  };
  const admin = async (filters: string) =>
    (await exported(filters)).user.find(({ email }) => email === ADMIN) ?? {};

  test("config-export shows what isn't default, what a filter names, and hides passwords", async () => {
    expect(await admin("user")).toEqual({ email: ADMIN, password: "<hidden>", global_admin: true });
    expect(await admin("user.email user.enabled user.fetches")).toEqual({
      email: ADMIN,
      enabled: true,
      fetches: [],
    });
    expect((await admin("-s user")).password).toMatch(/^\$scrypt\$/);
    expect(Object.keys(await exported("domain.name"))).toEqual(["domain"]);
    for (const [filter, says] of [
      ["nothing", "Unknown section: nothing"],
      ["user.colour", "Invalid filter: user.colour"],
    ] as const) {
      const done = await flask(`config-export -j ${filter}`);
      expect(done).toMatchObject({ code: 1, stdout: "" });
      expect(done.stderr).toContain(says);
    }
  });

  test("config-import -u is taken up at once: a disabled user can't log in, and an enabled one can again", async () => {
    const app = (await mail.call("POST", "/token", { email: ADMIN })).body as { token: string };
    const set = (enabled: boolean) => flask("config-import -u -q", { user: [{ email: ADMIN, enabled }] });
    expect(await set(false)).toEqual({ code: 0, stdout: "", stderr: "" });
    expect((await admin("user.email user.enabled")).enabled).toBe(false);
    expect((await mail.call("GET", `/user/${ADMIN}`)).body).toMatchObject({ enabled: false });
    for (const password of ["first-password", app.token]) {
      expect(await mail.smtp(ADMIN, password)).toBe(535);
      expect(await mail.imap(ADMIN, password)).toMatch(/credentials invalid/);
    }
    await set(true);
    expect(await mail.smtp(ADMIN, "first-password")).toBe(235);
  });

  test("config-import reads YAML, says what it did, and does nothing in a dry run", async () => {
    const text = `user:\n  - email: ${ADMIN}\n    enabled: no\n`;
    const dry = await exec("admin flask mailu config-import -nu -", text);
    expect(dry.stdout).toBe("Dry run. Not commiting changes. Modified: user(1)\n");
    expect(await admin("user.email user.enabled")).toMatchObject({ enabled: true });
    expect((await exec("admin flask mailu config-import -u", text)).stdout).toContain("Modified: user(1)");
    expect((await exec("admin flask mailu config-import -u", text)).stdout).toContain("No changes.");
    await exec("admin flask mailu config-import -u", text.replace("no", "yes"));
    expect(await mail.smtp(ADMIN, "first-password")).toBe(235);
  });

  test("keeps fetchmail accounts, which the API doesn't show, over a restart", async () => {
    const account = { protocol: "imap", host: "away.example", port: 993, username: "spy", password: "hush" };
    const add = { user: [{ email: ADMIN, fetches: [{ ...account, tls: true }] }] };
    expect((await flask("config-import -u -q", add)).code).toBe(0);
    await mail.run(`${COMPOSE} restart admin && ${COMPOSE} up -d --wait`);
    const { fetches } = await admin("user.email user.fetches");
    expect(fetches).toEqual([{ ...account, id: 1, tls: true, password: "<hidden>" }]);
    expect(JSON.stringify((await mail.call("GET", `/user/${ADMIN}`)).body)).not.toContain("away.example");
    await flask("config-import -u -q", { user: [{ email: ADMIN, fetches: [{ "-id": 1 }] }] });
    expect((await admin("user.email user.fetches")).fetches).toEqual([]);
  });

  const refused: [what: string, given: unknown, says: RegExp][] = [
    [
      "a stranger without a password",
      { user: [{ email: "x@acme.example" }] },
      /user\.0\.password +: Missing/,
    ],
    ["a user without an address", { user: [{ enabled: false }] }, /user\.0\.email +: Missing/],
    ["a field that it doesn't know", { user: [{ email: ADMIN, colour: 1 }] }, /colour +: Unknown field/],
    ["a wrong type", { user: [{ email: ADMIN, enabled: "maybe" }] }, /user\.0\.enabled/],
    ["what is no list", { user: { email: ADMIN } }, /user +: Invalid type/],
    ["a section that it doesn't know", { people: [] }, /people +: Unknown field/],
  ];
  test.each(refused)("config-import refuses %s and changes nothing", async (_what, given, says) => {
    const before = (await mail.call("GET", "/user")).body;
    const done = await flask("config-import -u -q", given);
    expect(done).toMatchObject({ code: 1, stdout: "" });
    expect(done.stderr).toMatch(/^Error: \[ValidationError\] 1 error occurred/);
    expect(done.stderr).toMatch(says);
    expect((await mail.call("GET", "/user")).body).toEqual(before);
  });

  test("config-import without -u is refused: the real one would empty Mailu first", async () => {
    expect((await flask("config-import", { user: [] })).stderr).toMatch(/update mode only/);
  });

  test("fails when a test wants it to, and does nothing then", async () => {
    setFaults(mail.host.disk, { exec: [{ match: "admin flask mailu config-import", code: 1, times: 1 }] });
    const off = { user: [{ email: ADMIN, enabled: false }] };
    expect((await flask("config-import -u -q", off)).code).toBe(1);
    expect(await mail.smtp(ADMIN, "first-password")).toBe(235);
    setFaults(mail.host.disk, undefined);
  });

  test("isn't there while the container is down", async () => {
    await mail.run(`${COMPOSE} stop`);
    expect(await flask("config-export -j")).toMatchObject({ code: 1, stdout: "" });
    await mail.run(`${COMPOSE} start; ${COMPOSE} up -d --wait`);
  });
});
