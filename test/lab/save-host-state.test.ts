// The certificate that a host got anew is in Vault afterwards, as the host has it.
import { createPrivateKey, X509Certificate } from "node:crypto";
import { expect, test } from "vitest";
import { decrypt, readRecord, versions } from "../../scripts/drill/doors.ts";
import { GLOBEX } from "../../scripts/lab/tenants.ts";
import { onHost } from "./door.ts";
import { lab, runbook } from "./lab.ts";

const save = (tenant: string = GLOBEX.id) =>
  runbook(["save-host-state", "--tenant", tenant, "--yes", "--json"]);

const RENEW =
  "cd /mailu/certs && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=mail.globex.example " +
  "-addext subjectAltName=DNS:mail.globex.example -keyout key.new -out cert.new 2>/dev/null && mv key.new key.pem && mv cert.new cert.pem && cat key.pem";

test("save-host-state stores a renewed certificate encrypted, and the same one only once", async () => {
  const before = (await versions(lab, GLOBEX)).tls ?? 0;
  const key = await onHost(GLOBEX, RENEW);
  for (const fresh of [true, false]) {
    const saved = await save();
    expect(saved.code, saved.stderr).toBe(0);
    expect(JSON.parse(saved.stdout).saved).toBe(fresh);
    expect((await versions(lab, GLOBEX)).tls).toBe(before + 1);
  }
  const { fields } = await readRecord(lab, GLOBEX, "tls");
  expect(fields.private_key).toMatch(/^vault:v\d+:/);
  expect(JSON.stringify(fields)).not.toContain("PRIVATE KEY");
  expect(await decrypt(lab, GLOBEX, fields.private_key)).toBe(key);
  expect(new X509Certificate(String(fields.certificate)).checkPrivateKey(createPrivateKey(key))).toBe(true);
});

test("two save-host-state at once store a renewed certificate, and neither fails", async () => {
  const before = (await versions(lab, GLOBEX)).tls ?? 0;
  const key = await onHost(GLOBEX, RENEW);
  const runs = await Promise.all([save(), save()]);
  expect(
    runs.map(({ code }) => code),
    runs.map(({ stderr }) => stderr).join("\n"),
  ).toEqual([0, 0]);
  expect((await versions(lab, GLOBEX)).tls).toBe(before + 1);
  const { fields } = await readRecord(lab, GLOBEX, "tls");
  expect(await decrypt(lab, GLOBEX, fields.private_key)).toBe(key);
});

test("save-host-state keeps what Vault has when the host's key belongs to another certificate", async () => {
  const before = await versions(lab, GLOBEX);
  await onHost(
    GLOBEX,
    "cd /mailu/certs && cp key.pem key.kept && openssl genpkey -algorithm ed25519 -out key.pem",
  );
  const done = await save();
  await onHost(GLOBEX, "cd /mailu/certs && mv key.kept key.pem");
  expect(done.code).toBe(1);
  expect(done.stderr).toMatch(/doesn't belong to[\s\S]*next: {2}\S/);
  expect(await versions(lab, GLOBEX)).toEqual(before);
});

test("recovery puts Vault's certificate back where a host died in the middle of a renewal", async () => {
  const { fields } = await readRecord(lab, GLOBEX, "tls");
  await onHost(GLOBEX, "openssl genpkey -algorithm ed25519 -out /mailu/certs/key.pem");
  const done = await runbook(["recover-credentials", "--tenant", GLOBEX.id, "--yes"]);
  expect(done.code, done.stderr).toBe(0);
  expect(await onHost(GLOBEX, "cat /mailu/certs/cert.pem")).toBe(fields.certificate);
  expect(await onHost(GLOBEX, "cat /mailu/certs/key.pem")).toBe(
    await decrypt(lab, GLOBEX, fields.private_key),
  );
});

test("save-host-state for an unknown tenant names the cause and the next command", async () => {
  const done = await save("nobody");
  expect(done.code).toBe(2);
  expect(done.stderr).toMatch(/doesn't know where tenant nobody lives[\s\S]*next: {2}\S/);
});
