// What no stack declares of a tenant in Vault: broken as somebody with too many rights would, found once, and mended.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { ACME, TENANTS } from "../../scripts/lab/tenants.ts";
import {
  KV_MOUNT,
  metadataPath,
  RECORDS,
  recordPath,
  TRANSIT_MOUNT,
  transitKey,
} from "../../stacks/names.ts";
import { markCompromised, writeRecord } from "./door.ts";
import { checkDrift, READER } from "./drift.ts";
import { hostless } from "./hostless.ts";
import { lab, record, runbook, vault } from "./lab.ts";

const look = () => checkDrift(["--only", "vault", "--stack", "tenant-acme"]);

async function expectFound(...ids: string[]) {
  const { found, unchecked, code, findings, stderr } = await look();
  expect({ found, unchecked, code }, stderr).toEqual({
    found: ids.map((id) => `vault/${id}`),
    unchecked: [],
    code: ids.length > 0 ? 7 : 0,
  });
  return findings[0];
}

const key = `${TRANSIT_MOUNT}/keys/${transitKey(ACME.id)}`;
const Key = z.object({ data: z.object({ min_available_version: z.number() }) });
const rotationOf = async () => (await record(ACME.id, "rotation")).fields;

let whole: Record<string, unknown>;
beforeAll(async () => {
  // A rotation with all its states behind it: the key's minimum is then what it raised it to.
  const reason = ["--reason", "drift is looked for"];
  const { code, stderr } = await runbook([
    ...["emergency-reset", "--tenant", ACME.id, "--incident", "DRIFT-1", "--again", "--wrap", "--yes"],
    ...reason,
  ]);
  expect(code, stderr).toBe(0);
  whole = await rotationOf();
  expect(whole.state).toBe("RETIRED");
});

test("a record that was deleted, destroyed or cut short is found by its name, with what brings it back", async () => {
  await expectFound();
  const tls = await record(ACME.id, "tls");
  await vault("DELETE", recordPath(ACME.id, "tls"));
  const deleted = await expectFound("record-missing/acme/tls");
  expect(deleted?.mend).toBe(`vault kv undelete -mount=smtp -versions=${tls.version} acme/tls`);
  await vault("POST", `${KV_MOUNT}/undelete/acme/tls`, { versions: [tls.version] });
  await expectFound();
  await vault("DELETE", metadataPath(ACME.id, "tls"));
  expect((await expectFound("record-missing/acme/tls"))?.mend).toBe(
    "npx runbook save-host-state --tenant acme",
  );
  await writeRecord(ACME, "tls", tls.fields);
  const { dns_txt: _, ...cut } = (await record(ACME.id, "dkim")).fields;
  await writeRecord(ACME, "dkim", cut);
  expect((await expectFound("record-incomplete/acme/dkim"))?.what).toBe("smtp/acme/dkim has no dns_txt");
  await writeRecord(ACME, "dkim", { ...cut, dns_txt: _ });
  await expectFound();
});

test("a rotation that a dead run left is found; one that a living run holds is work and no drift", async () => {
  const holder = {
    ...{ run: "r", machine: "elsewhere", pid: 1, process_start: "1", user: "somebody" },
    since: new Date().toISOString(),
  };
  const at = (heartbeat: Date) => ({
    ...whole,
    state: "SET",
    holder: { ...holder, heartbeat: heartbeat.toISOString() },
  });
  try {
    await writeRecord(ACME, "rotation", at(new Date(Date.now() - 120_000)));
    const found = await expectFound("rotation-unfinished/acme");
    expect(found?.mend).toBe("npx runbook resume --tenant acme");
    await writeRecord(ACME, "rotation", at(new Date()));
    await expectFound();
    await writeRecord(ACME, "rotation", { ...whole, state: "ACCEPTED", kind: "recovery", holder: null });
    expect((await expectFound("rotation-unfinished/acme"))?.mend).toBe("pulumi up --stack tenant-acme");
  } finally {
    await writeRecord(ACME, "rotation", whole);
  }
  await expectFound();
});

test("a mark on the current version is found; one on an older version is how it should be", async () => {
  const before = z
    .object({ data: z.object({ custom_metadata: z.record(z.string(), z.string()).nullable() }) })
    .parse(await vault("GET", metadataPath(ACME.id, "admin"))).data.custom_metadata;
  await markCompromised(ACME, "1,%");
  expect((await expectFound("compromised-in-use/acme"))?.mend).toContain("emergency-reset --tenant acme");
  await markCompromised(ACME, "1");
  await expectFound();
  await vault("POST", metadataPath(ACME.id, "admin"), { custom_metadata: before ?? {} });
});

test("a key that may be deleted, and one that decrypts what was retired", async () => {
  await vault("POST", `${key}/config`, { deletion_allowed: true });
  const found = await expectFound("key-setting/acme/deletion_allowed");
  expect(found?.mend).toBe(`vault write ${key}/config deletion_allowed=false`);
  await vault("POST", `${key}/config`, { deletion_allowed: false });
  // As far back as it goes: what was shredded by others on this lab can't be had again.
  const { min_available_version } = Key.parse(await vault("GET", key)).data;
  const oldest = Math.max(1, min_available_version);
  await vault("POST", `${key}/config`, { min_decryption_version: oldest, min_encryption_version: oldest });
  const lowered = await expectFound("key-minimum/acme");
  const [minimum = ""] = /min_decryption_version=\d+/.exec(lowered?.mend ?? "") ?? [];
  const version = Number(minimum.split("=")[1]);
  await vault("POST", `${key}/config`, { min_decryption_version: version, min_encryption_version: version });
  await expectFound();
});

test("a tenant without a stack has no host's records, and its stack is what is missing", async () => {
  const { id } = await hostless("stackless");
  const { found, unchecked } = await checkDrift(["--stack", `tenant-${id}`, "--only", "infra,vault"]);
  expect({ found, unchecked }).toEqual({ found: [`infra/stack-missing/tenant-${id}`], unchecked: [] });
});

describe("the token that hosted CI gets", () => {
  const ask = async (path: string, body: unknown): Promise<number> => {
    const answer = await fetch(`${lab.place.vaultAddr}/v1/${path}`, {
      method: "POST",
      headers: { "X-Vault-Token": READER.VAULT_TOKEN },
      body: JSON.stringify(body),
    });
    return answer.status;
  };

  test("decrypts no ciphertext of any tenant, whichever way", async () => {
    let tried = 0;
    for (const { id } of TENANTS) {
      for (const name of RECORDS) {
        const { fields } = await record(id, name);
        for (const ciphertext of Object.values(fields).filter((one) => /^vault:v\d+:/.test(String(one)))) {
          tried += 1;
          for (const way of ["decrypt", "rewrap"])
            expect([way, id, name, await ask(`${TRANSIT_MOUNT}/${way}/${id}`, { ciphertext })]).toContain(
              403,
            );
          const batch_input = [{ ciphertext }];
          expect(await ask(`${TRANSIT_MOUNT}/decrypt/${id}`, { batch_input })).toBe(403);
        }
      }
      for (const way of [
        `datakey/plaintext/${id}`,
        `encrypt/${id}`,
        `keys/${id}/config`,
        `keys/${id}/rotate`,
      ])
        expect(await ask(`${TRANSIT_MOUNT}/${way}`, { plaintext: "eA==" }), way).toBe(403);
    }
    // admin, mailu, dkim, tls and rotation of both.
    expect(tried).toBe(10);
  });
});

afterAll(async () => {
  expect((await look()).found).toEqual([]);
});
