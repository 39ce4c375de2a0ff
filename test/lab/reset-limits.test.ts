// Whoever guesses 50 wrong passwords blocks an account for a day: Mailu answers even the right one with 451, from every
// address that isn't exempt. A stranger does it before the reset, from an address of his own.
import { connect as connectTcp } from "node:net";
import { connect } from "node:tls";
import { expect, test } from "vitest";
import { GLOBEX } from "../../scripts/lab/tenants.ts";
import { adminAddress, COMPOSE_FILE, IMAP_PORT, MAILU_DATA, MAILU_ENV_FILE } from "../../stacks/names.ts";
import { onHost } from "./door.ts";
import { addressOf } from "./lab.ts";
import {
  credentialOf,
  events,
  expectIncomplete,
  expectReset,
  logsIn,
  newIncident,
  reset,
  rotationOf,
} from "./resets.ts";

/** Where the stranger sits; the tests and the runbooks are at 127.0.0.1. */
const STRANGER = "127.0.0.66";
const OURS = "127.0.0.1/32";
const NOBODY = "192.0.2.0/24";

test("a network of ours that is exempt proves everything, whatever a stranger did before", async () => {
  const incident = newIncident("EXEMPT");
  await withExempt(OURS, async () => {
    const was = await credentialOf(GLOBEX);
    await block(was.password);
    const done = await reset(GLOBEX, incident);
    expect(done.code, done.stderr).toBe(0);
    const now = await expectReset(GLOBEX, was, incident);
    expect(await rotationOf(GLOBEX)).toMatchObject({ new_proof: "login", old_proof: "refused" });
    expect(await answers([now.password])).toEqual([expect.stringContaining("NO [LIMIT]")]);
  });
});

test("one that isn't takes no 451 for a refusal: the hash proves the new password, the old one is proven later", async () => {
  const incident = newIncident("LIMITED");
  const was = await credentialOf(GLOBEX);
  await withExempt(NOBODY, async () => {
    await block(was.password);
    const done = await reset(GLOBEX, incident);
    expectIncomplete(done, /old password is not proven dead: SMTP: .*451/);
    expect(done.stderr).toMatch(
      /new password is proven by its changed hash alone.*exemptNetworks of tenant-globex/,
    );
    expect(done.stderr).toContain("the key's old versions stay until the old password is proven dead");
    expect(JSON.parse(done.stdout)).toMatchObject({ old_password: "inconclusive", version: was.version + 1 });
    const unproven = { state: "CLEARED", new_proof: "hash", old_proof: "inconclusive", holder: null };
    expect(await rotationOf(GLOBEX)).toMatchObject(unproven);
    const again = await reset(GLOBEX, incident);
    expectIncomplete(again, /old password is not proven dead: SMTP: .*451/);
    expect(await rotationOf(GLOBEX)).toMatchObject(unproven);
  });
  expect(await logsIn(GLOBEX, (await credentialOf(GLOBEX)).password)).toBe(true);
  const done = await reset(GLOBEX, incident);
  expect(done.code, done.stderr).toBe(0);
  await expectReset(GLOBEX, was, incident);
  expect(await rotationOf(GLOBEX)).toMatchObject({ new_proof: "login", old_proof: "refused" });
  expect(await events(GLOBEX, incident, "old_credential_proven_dead")).toHaveLength(1);
});

/** Has the stranger guess until nobody gets in from where he sits. */
async function block(password: string): Promise<void> {
  const guesses = Array.from({ length: 50 }, (_, at) => `wrong-${at}`);
  const said = await answers([...guesses, password]);
  expect(said.slice(0, 50).filter((line) => !line.includes("NO [AUTHENTICATIONFAILED]"))).toEqual([]);
  expect(said[50]).toContain("NO [LIMIT]");
}

/** What IMAP answers to the stranger's logins, one after another over one connection. */
async function answers(passwords: string[]): Promise<string[]> {
  const host = await addressOf(GLOBEX.id);
  const there = connectTcp({ host, port: IMAP_PORT, localAddress: STRANGER });
  const socket = connect({ socket: there, rejectUnauthorized: false });
  const said: string[] = [];
  const logIn = (): void => {
    const password = passwords[said.length];
    if (password === undefined) socket.end();
    else socket.write(`a${said.length} LOGIN ${adminAddress(GLOBEX.domain)} "${password}"\r\n`);
  };
  let greeted = false;
  let rest = "";
  socket.setEncoding("utf8").on("data", (text: string) => {
    rest += text;
    for (let end = rest.indexOf("\r\n"); end >= 0; end = rest.indexOf("\r\n")) {
      if (greeted) said.push(rest.slice(0, end));
      greeted = true;
      rest = rest.slice(end + 2);
      logIn();
    }
  });
  await new Promise<void>((resolve, reject) => socket.once("close", resolve).once("error", reject));
  return said;
}

/** Runs `work` while Mailu exempts this network alone and remembers nobody; puts its settings back afterwards. */
async function withExempt(network: string, work: () => Promise<void>): Promise<void> {
  const kept = `${MAILU_ENV_FILE}.kept`;
  const setting = "AUTH_RATELIMIT_EXEMPTION";
  await restart(
    `cp ${MAILU_ENV_FILE} ${kept} && sed -i 's|^${setting}=.*|${setting}=${network}|' ${MAILU_ENV_FILE}`,
  );
  try {
    await work();
  } finally {
    await restart(`mv ${kept} ${MAILU_ENV_FILE}`);
  }
}

async function restart(change: string): Promise<void> {
  const compose = `docker compose -f ${COMPOSE_FILE}`;
  // Redis remembers who guessed, and who logged in and is exempt for a day.
  const forget = `rm -f ${MAILU_DATA}/redis/dump.rdb`;
  await onHost(GLOBEX, `${compose} stop && ${change} && ${forget} && ${compose} up -d --wait`);
}
