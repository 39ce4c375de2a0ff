// Whatever fails under a reset, the tenant can log in with what Vault holds, or the same command brings it there; and
// no password is ever unknown.
import { createHash } from "node:crypto";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { decrypt, readRecord } from "../../scripts/drill/doors.ts";
import type { ApiFault } from "../../scripts/lab/mailu/faults.ts";
import { ACME, GLOBEX } from "../../scripts/lab/tenants.ts";
import { metadataPath } from "../../stacks/names.ts";
import { mailuCalls, setInMailu, writeRecord } from "./door.ts";
import { withFaults } from "./faults.ts";
import { begin } from "./killed.ts";
import { lab, program, vault } from "./lab.ts";
import {
  credentialOf,
  events,
  expectIncomplete,
  expectReset,
  logsIn,
  newIncident,
  noticesOf,
  reset,
  resetArgs,
  rotationOf,
} from "./resets.ts";

describe("Mailu, asked for the new password,", () => {
  const INCIDENT = newIncident("MAILU");
  const failures: { what: string; fault: ApiFault; says: RegExp }[] = [
    ...([400, 401, 403, 429, 500, 503] as const).map((status) => ({
      what: `that answers ${status}`,
      fault: { status },
      says: new RegExp(`answered ${status} to PATCH /user/.*waits in state PREPARED`),
    })),
    // It is made then, and there it is already.
    { what: "that knows of no account", fault: { status: 404 }, says: /answered 409 to POST \/user/ },
    { what: "that hangs", fault: { hang: true }, says: /no answer to PATCH .* within 10 s/ },
    { what: "whose answer is lost", fault: { loseAnswer: true }, says: /can't be asked \(PATCH / },
  ];
  /** One incident goes through all of them, with one password. */
  let prepared: unknown;
  const expectPrepared = async (): Promise<void> => {
    const rotation = await rotationOf(GLOBEX);
    expect(rotation).toMatchObject({ state: "PREPARED", incident_id: INCIDENT, holder: null });
    prepared ??= rotation.password;
    expect(rotation.password).toBe(prepared);
  };

  test.each(failures)("$what leaves the rest to the same command", async ({ fault, says }) => {
    const was = await credentialOf(GLOBEX);
    const done = await withFaults(GLOBEX, { api: [{ match: "PATCH /user/", ...fault }] }, () =>
      reset(GLOBEX, INCIDENT),
    );
    expectIncomplete(done, says);
    expect(await credentialOf(GLOBEX)).toEqual(was);
    expect(await logsIn(GLOBEX, was.password)).toBe(fault.loseAnswer !== true);
    await expectPrepared();
    expect(await events(GLOBEX, INCIDENT)).toEqual([]);
  });

  test("that is well again gets the password that was prepared first", async () => {
    const was = await credentialOf(GLOBEX);
    const done = await reset(GLOBEX, INCIDENT);
    expect(done.code, done.stderr).toBe(0);
    const now = await readRecord(lab, GLOBEX, "admin");
    expect(now.version).toBe(was.version + 1);
    expect(now.fields.password).toBe(prepared ?? now.fields.password);
    await expectReset(GLOBEX, was, INCIDENT);
  });
});

describe("a new password", () => {
  test("that the server takes and then refuses is made anew, and what was refused is kept as evidence", async () => {
    const incident = newIncident("REFUSED");
    const was = await credentialOf(GLOBEX);
    const done = await withFaults(GLOBEX, { smtp: [{ refused: true, times: 1 }] }, () =>
      reset(GLOBEX, incident),
    );
    expect(done.code, done.stderr).toBe(0);
    await expectReset(GLOBEX, was, incident);
    const { rejected } = await rotationOf(GLOBEX);
    expect(rejected).toEqual([
      { sha256: expect.any(String), said: expect.stringContaining("535"), at: expect.any(String) },
    ]);
    const refused = await preparedBefore(String(z.array(Rejected).parse(rejected)[0]?.sha256));
    expect(await logsIn(GLOBEX, await decrypt(lab, GLOBEX, refused))).toBe(false);
    const [event] = await events(GLOBEX, incident);
    expect(event?.details).toMatchObject({ passwords_rejected: 1, old_proof: "refused" });
  });

  test("that was answered 200 and never set is tried three times, and Vault's goes on working", async () => {
    const incident = newIncident("IGNORED");
    const was = await credentialOf(GLOBEX);
    const begun = (await mailuCalls(GLOBEX)).length;
    const done = await withFaults(GLOBEX, { api: [{ match: "PATCH /user/", ignore: true }] }, () =>
      reset(GLOBEX, incident),
    );
    expectIncomplete(done, /took 3 new passwords .* refused each at the login: SMTP.*535/);
    const patches = (await mailuCalls(GLOBEX)).slice(begun).filter((call) => call.startsWith("PATCH "));
    expect(patches).toHaveLength(3);
    expect(await credentialOf(GLOBEX)).toEqual(was);
    expect(await logsIn(GLOBEX, was.password)).toBe(true);
    const again = await reset(GLOBEX, incident);
    expect(again.code, again.stderr).toBe(0);
    await expectReset(GLOBEX, was, incident);
    expect((await rotationOf(GLOBEX)).rejected).toHaveLength(2);
  });
});

describe("in mid-run", () => {
  /** Starts a reset and does `act` while Mailu has the new password and nobody has stored it yet. */
  async function meanwhile(incident: string, act: () => Promise<unknown>, env: Record<string, string> = {}) {
    return withFaults(GLOBEX, { smtp: [{ delay: 3_000, times: 1 }] }, async () => {
      const run = begin(resetArgs(GLOBEX, incident), env);
      await run.said("→ prove the new password");
      await act();
      return run.ended;
    });
  }

  test("somebody sets the old password again in Mailu: it is told aloud, and the same command ends it", async () => {
    const incident = newIncident("UNDONE");
    const was = await credentialOf(GLOBEX);
    const done = await withFaults(GLOBEX, { smtp: [{ times: 1 }, { delay: 4_000, times: 1 }] }, async () => {
      const run = begin(resetArgs(GLOBEX, incident));
      await run.said("→ prove the old password dead");
      await setInMailu(GLOBEX, was.password);
      return run.ended;
    });
    expect(done.code, done.stderr).toBe(1);
    expect(done.stderr).toMatch(/THE OLD PASSWORD STILL LOGS IN: npx runbook contain --tenant globex/);
    expect(await rotationOf(GLOBEX)).toMatchObject({ state: "CLEARED", old_proof: "accepted" });
    const again = await reset(GLOBEX, incident);
    expect(again.code, again.stderr).toBe(0);
    await expectReset(GLOBEX, was, incident);
  });

  test("the role is revoked: somebody who has it finishes the job", async () => {
    const incident = newIncident("REVOKED");
    const was = await credentialOf(GLOBEX);
    const { policy } = z
      .object({ data: z.object({ policy: z.string() }) })
      .parse(await vault("GET", "sys/policies/acl/platform-admin")).data;
    await vault("PUT", "sys/policies/acl/for-a-while", { policy });
    const { client_token: VAULT_TOKEN } = z
      .object({ auth: z.object({ client_token: z.string() }) })
      .parse(await vault("POST", "auth/token/create", { policies: ["for-a-while"], ttl: "10m" })).auth;
    const revoke = () => vault("DELETE", "sys/policies/acl/for-a-while");
    const done = await meanwhile(incident, revoke, { VAULT_TOKEN });
    expectIncomplete(done, /Insufficient permissions: Vault refuses to write smtp\/data\/globex\/rotation/);
    expect(await credentialOf(GLOBEX)).toEqual(was);
    const again = await reset(GLOBEX, incident);
    expect(again.code, again.stderr).toBe(0);
    await expectReset(GLOBEX, was, incident);
  });

  test("Vault is sealed: the same command finishes the job when it is open again", async () => {
    const incident = newIncident("SEALED");
    const was = await credentialOf(GLOBEX);
    const done = await meanwhile(incident, () => vault("PUT", "sys/seal"));
    const keys = (await readFile(join(lab.place.dir, "unseal-keys"), "utf8")).trim().split("\n");
    for (const key of keys.slice(0, 2)) await vault("PUT", "sys/unseal", { key });
    await expect
      .poll(() => vault("GET", "sys/health").then(() => "active", String), { timeout: 15_000 })
      .toBe("active");
    expectIncomplete(done, /is sealed[\s\S]*waits in state SET[\s\S]*vault operator unseal/);
    const again = await reset(GLOBEX, incident);
    expect(again.code, again.stderr).toBe(0);
    await expectReset(GLOBEX, was, incident);
  });
});

describe("the audit log", () => {
  test("that is on a full disk leaves the record open, and gets its event when there is room", async () => {
    const incident = newIncident("FULL");
    const was = await credentialOf(GLOBEX);
    const dir = await mkdtemp(join(lab.place.dir, "full-disk-"));
    const own = await readFile(join(lab.place.dir, "recovery.yaml"), "utf8");
    const RECOVERY_CONFIG = `${dir}.yaml`;
    await writeFile(RECOVERY_CONFIG, own.replace(/log: .*/, `log: ${dir}/audit.jsonl`));
    // In a mount namespace of its own: the full disk is gone with the last command on it.
    const script = `mount -t tmpfs -o size=64k full ${dir}; cat /dev/zero >${dir}/filler 2>/dev/null
      runbook "$@" 2>${dir}.1; echo $? >>${dir}.codes; rm ${dir}/filler
      runbook "$@" 2>${dir}.2; echo $? >>${dir}.codes; cat ${dir}/audit.jsonl >${dir}.log`;
    const args = ["--mount", "sh", "-c", script, "sh", ...resetArgs(GLOBEX, incident)];
    await program("unshare", args, { env: { RECOVERY_CONFIG, TMPDIR: lab.place.dir } });
    const [codes, first, log] = await Promise.all(
      ["codes", "1", "log"].map((end) => readFile(`${dir}.${end}`, "utf8")),
    );
    expect(codes, first).toBe("5\n0\n");
    expect(first).toMatch(/record stays open until the audit log has its events/);
    expect(first).toMatch(/the audit log can't be written: .*disk is full/);
    expect(log?.match(/"event":"smtp_credentials_emergency_reset"/g)).toHaveLength(1);
    await expectReset(GLOBEX, was, incident, { events: 0 });
  });

  test("whose bucket is down leaves the record open; notices wait on the disk until it is back", async () => {
    const incident = newIncident("DOWN");
    const was = await credentialOf(GLOBEX);
    const done = await reset(GLOBEX, incident, { AWS_ENDPOINT_URL: "http://127.0.0.9:9" });
    expectIncomplete(done, /record stays open until the audit log has its events/);
    expect(await logsIn(GLOBEX, (await credentialOf(GLOBEX)).password)).toBe(true);
    expect(await rotationOf(GLOBEX)).toMatchObject({ state: "NOTIFIED" });
    const again = await reset(GLOBEX, incident);
    expect(again.code, again.stderr).toBe(0);
    await expectReset(GLOBEX, was, incident);
    expect(new Set(noticesOf(incident).map(({ id }) => id)).size).toBe(1);
  });
});

describe("other people's metadata", () => {
  const set = (custom_metadata: Record<string, string>) =>
    vault("POST", metadataPath(GLOBEX.id, "admin"), { custom_metadata });
  const marks = async () =>
    z
      .object({ data: z.object({ custom_metadata: z.record(z.string(), z.string()) }) })
      .parse(await vault("GET", metadataPath(GLOBEX.id, "admin"))).data.custom_metadata;
  const theirs = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, at) => [`key-${at}`, "x".repeat(512)]));

  test("that leaves no room for the mark holds up nothing else; with room the same command marks", async () => {
    const incident = newIncident("METADATA");
    const was = await credentialOf(GLOBEX);
    await set(theirs(64));
    const done = await reset(GLOBEX, incident);
    expectIncomplete(done, /is not marked: .*no room for the mark: Vault takes 64 keys, and 5 /);
    await expectReset(GLOBEX, was, incident);
    expect(await marks()).toEqual(theirs(64));
    await set(theirs(59));
    const again = await reset(GLOBEX, incident);
    expect(again.code, again.stderr).toBe(0);
    await expectReset(GLOBEX, was, incident);
    expect(await marks()).toEqual({
      ...theirs(59),
      compromised: "true",
      incident_id: incident,
      reset_by: expect.stringMatching(/\S/),
      reset_at: expect.stringMatching(/^20.*Z$/),
      compromised_versions: String(was.version),
    });
  });

  test("is kept with values of 512 bytes, and so is as much as fits of a long list of versions", async () => {
    const incident = newIncident("LONG");
    const was = await credentialOf(GLOBEX);
    const list = [...Array.from({ length: 72 }, (_, at) => 100_000 + at), 10_000_000].join(",");
    expect(list).toHaveLength(512);
    await set({ ...theirs(3), compromised: "true", compromised_versions: list });
    const done = await reset(GLOBEX, incident);
    expect(done.code, done.stderr).toBe(0);
    const after = await marks();
    expect(after).toMatchObject(theirs(3));
    expect(after.compromised_versions).toBe(`${was.version},${list.replace("100000,", "")}`);
    await set({});
  });
});

test("a DKIM key that can't be decrypted holds up no notice, and is named; mended, the same command ends it", async () => {
  const incident = newIncident("DKIM");
  const was = await credentialOf(ACME);
  const { fields } = await readRecord(lab, ACME, "dkim");
  const sealed = String(fields.private_key);
  const at = sealed.length >> 1;
  const damaged = sealed.slice(0, at) + (sealed[at] === "A" ? "B" : "A") + sealed.slice(at + 1);
  await writeRecord(ACME, "dkim", { ...fields, private_key: damaged });
  const done = await reset(ACME, incident).finally(() => writeRecord(ACME, "dkim", fields));
  expectIncomplete(done, /key's old versions are not retired: .*smtp\/acme\/dkim private_key can't be/);
  expect(await logsIn(ACME, (await credentialOf(ACME)).password)).toBe(true);
  expect(await logsIn(ACME, was.password)).toBe(false);
  expect(noticesOf(incident).map(({ via }) => via)).toEqual(["mail", "webhook", "webhook"]);
  expect(await rotationOf(ACME)).toMatchObject({ state: "CLEARED" });
  const again = await reset(ACME, incident);
  expect(again.code, again.stderr).toBe(0);
  await expectReset(ACME, was, incident);
});

const Rejected = z.object({ sha256: z.string() });

/** The ciphertext of that SHA-256, out of the rotation record's older versions. */
async function preparedBefore(sha256: string): Promise<string> {
  const { version } = await readRecord(lab, GLOBEX, "rotation");
  for (let older = version; older > 0; older--) {
    const { fields } = await readRecord(lab, GLOBEX, "rotation", older);
    const password = String(fields.password);
    if (createHash("sha256").update(password).digest("hex") === sha256) return password;
  }
  throw new Error("No version of the record has it");
}
