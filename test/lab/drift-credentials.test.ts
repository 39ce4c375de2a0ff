// Credentials that drifted behind everybody's back, each seen as just that, and mended by the command that stands there.
// That it is mended is seen by the next test, which finds nothing but its own.
import { generateKeyPairSync } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { readRecord } from "../../scripts/drill/doors.ts";
import { order } from "../../scripts/lab/control.ts";
import { GLOBEX } from "../../scripts/lab/tenants.ts";
import { API_TOKEN_FILE, adminAddress, COMPOSE_FILE } from "../../stacks/names.ts";
import { awkwardPassword, encrypt, mailuCalls, onHost, setInMailu, writeRecord } from "./door.ts";
import { addressOf, killVps, lab } from "./lab.ts";
import { expectNone, expectOnly, look, mend } from "./live-drift.ts";
import { mailuApi } from "./mailu-api.ts";
import { credentialOf, logsIn, until } from "./resets.ts";

const admin = adminAddress(GLOBEX.domain);
const globex = () => look("credentials", GLOBEX);
/** How often Mailu refused a token so far: five an hour, and it refuses the right one too. */
const refusals = async () => (await mailuCalls(GLOBEX)).filter((call) => call.endsWith(" 403")).length;

test("nothing is found where nothing has drifted, by a role that can change nothing, twice", async () => {
  for (const _ of [1, 2]) expectNone(await look("credentials"));
});

test("a password that somebody changed in Mailu by hand is found, and a reset mends it", async () => {
  const other = awkwardPassword();
  await setInMailu(GLOBEX, other);
  const looked = await globex();
  const row = expectOnly(looked, "credentials/login-refused/globex");
  expect(row.found).toMatch(/535/);
  expect(row.mend).toMatch(/^npx runbook emergency-reset --tenant globex /);
  expect(JSON.stringify(looked)).not.toContain(other);
  await mend(row);
  expect(await logsIn(GLOBEX, (await credentialOf(GLOBEX)).password)).toBe(true);
});

test("an app token that nobody vouched for is found and deleted; one that somebody vouched for is none", async () => {
  const made = (await mailuApi(GLOBEX, "POST", "/token", {
    email: admin,
    comment: "my phone",
    AuthorizedIP: [],
  })) as { id: string; token: string };
  const id = String(made.id);
  const looked = await globex();
  const row = expectOnly(looked, `credentials/app-token/globex/${id}`);
  expect(row.found).toContain("my phone");
  expect(JSON.stringify(looked)).not.toContain(made.token);
  const { fields } = await readRecord(lab, GLOBEX, "mailu");
  await writeRecord(GLOBEX, "mailu", { ...fields, sanctioned_app_tokens: [id] });
  expectNone(await globex());
  await writeRecord(GLOBEX, "mailu", fields);
  await mend(row);
  expect(await mailuApi(GLOBEX, "GET", `/tokenuser/${admin}`)).toEqual([]);
});

test("a forward of the administrator's mail is found, and its command ends it", async () => {
  await mailuApi(GLOBEX, "PATCH", `/user/${admin}`, {
    forward_enabled: true,
    forward_destination: ["elsewhere@strangers.example"],
  });
  const row = expectOnly(await globex(), `credentials/forward/globex/${admin}`);
  expect(row.found).toBe("to elsewhere@strangers.example");
  await mend(row);
});

test("another administrator is found, whatever he calls himself, and his rights are taken", async () => {
  const email = "it's-me@globex.example";
  await mailuApi(GLOBEX, "POST", "/user", {
    email,
    raw_password: "something long enough",
    global_admin: true,
  });
  const row = expectOnly(await globex(), `credentials/extra-administrator/globex/${email}`);
  await mend(row);
  await mailuApi(GLOBEX, "DELETE", `/user/${encodeURIComponent(email)}`);
});

test("an API token that the host no longer takes is found with one question, and recovery puts it back", async () => {
  await onHost(
    GLOBEX,
    `printf another >${API_TOKEN_FILE} && docker compose -f ${COMPOSE_FILE} up -d --force-recreate --wait`,
  );
  const before = await refusals();
  const row = expectOnly(await globex(), "credentials/api-token-refused/globex");
  expect((await refusals()) - before).toBe(1);
  await mend(row);
});

test("a password and a key that Vault can't decrypt are found, each by its field", async () => {
  for (const [record, field] of [
    ["admin", "password"],
    ["dkim", "private_key"],
  ] as const) {
    const { fields } = await readRecord(lab, GLOBEX, record);
    const broken = `${String(fields[field]).slice(0, -8)}AAAAAAA=`;
    await writeRecord(GLOBEX, record, { ...fields, [field]: broken });
    const looked = await globex();
    await writeRecord(GLOBEX, record, fields);
    expectOnly(looked, `credentials/undecryptable/globex/${record}/${field}`);
  }
});

test("a private DKIM key that isn't the published one's other half is found", async () => {
  const { fields } = await readRecord(lab, GLOBEX, "dkim");
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  await writeRecord(GLOBEX, "dkim", { ...fields, private_key: await encrypt(GLOBEX, pem) });
  const looked = await globex();
  await writeRecord(GLOBEX, "dkim", fields);
  expectOnly(looked, "credentials/dkim-halves-differ/globex");
  expect(looked.done.stdout).not.toContain(pem.slice(40, 80));
});

test("a host that answers nobody is no drift: it is not checked, within a minute, and the others are", async () => {
  await killVps(GLOBEX.id, "hung");
  const wake = async () => order(lab.place.dir, { order: "wake", address: await addressOf(GLOBEX.id) });
  try {
    const [credentials, host] = await Promise.all([look("credentials"), look("host")]);
    for (const [check, { findings, unchecked, done }] of Object.entries({ credentials, host })) {
      expect(findings).toEqual([]);
      expect(unchecked.map((one) => [one.check, one.about])).toEqual([[check, GLOBEX.id]]);
      expect(unchecked[0]?.next).toMatch(/^(?:npx|ssh) /);
      expect(done.code).toBe(1);
      expect(done.ms).toBeLessThan(60_000);
    }
  } finally {
    await wake();
  }
  expectNone(await look("credentials"));
});

test("a password that a rotation changes at that moment is no drift", async () => {
  const before = await credentialOf(GLOBEX);
  const fresh = awkwardPassword();
  await setInMailu(GLOBEX, fresh);
  const reads = await readsOfAdmin();
  const looking = globex();
  // It has the old password by then, and needs much less than a second to be refused.
  await until(async () => (await readsOfAdmin()) > reads);
  await sleep(1_500);
  await writeRecord(GLOBEX, "admin", { ...before.fields, password: await encrypt(GLOBEX, fresh) });
  expectNone(await looking);
});

/** How often a program of automation has read the stored password, as Vault's audit device tells. */
async function readsOfAdmin(): Promise<number> {
  const lines = (await readFile(join(lab.place.dir, "vault", "audit.log"), "utf8")).split("\n");
  const wanted = ['"type":"response"', '"path":"smtp/data/globex/admin"', '"credential-prober"'];
  return lines.filter((line) => wanted.every((part) => line.includes(part))).length;
}
