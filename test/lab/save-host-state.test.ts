// The certificate that a host got anew is in Vault afterwards, as the host has it.
import { createPrivateKey, X509Certificate } from "node:crypto";
import { expect, test } from "vitest";
import { decrypt, readRecord, versions } from "../../scripts/drill/doors.ts";
import { GLOBEX } from "../../scripts/lab/tenants.ts";
import { addressOf, lab, program, runbook } from "./lab.ts";

test("save-host-state stores a renewed certificate encrypted, and the same one only once", async () => {
  const before = (await versions(lab, GLOBEX)).tls ?? 0;
  const address = await addressOf(GLOBEX.id);
  const trust = [
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
  ];
  const renew =
    "cd /mailu/certs && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=mail.globex.example " +
    "-addext subjectAltName=DNS:mail.globex.example -keyout key.new -out cert.new 2>/dev/null && mv key.new key.pem && mv cert.new cert.pem && cat key.pem";
  const key = (await program("ssh", [...trust, `root@${address}`, renew])).stdout;
  for (const _ of [1, 2]) {
    const saved = await runbook(["save-host-state", "--tenant", GLOBEX.id, "--yes", "--json"]);
    expect(saved.code, saved.stderr).toBe(0);
    expect((await versions(lab, GLOBEX)).tls).toBe(before + 1);
  }
  const { fields } = await readRecord(lab, GLOBEX, "tls");
  expect(await decrypt(lab, GLOBEX, fields.private_key)).toBe(key);
  expect(new X509Certificate(String(fields.certificate)).checkPrivateKey(createPrivateKey(key))).toBe(true);
});
