// The inside of a mail host, changed behind everybody's back: each change is seen as just that, and mended by the
// command that stands there. That it is mended is seen by the next test, which finds nothing but its own.
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { readRecord } from "../../scripts/drill/doors.ts";
import { GLOBEX } from "../../scripts/lab/tenants.ts";
import {
  CERTIFICATE_FILE,
  COMPOSE_FILE,
  dkimKeyFile,
  MAILU_ENV_FILE,
  MAILU_HOME,
} from "../../stacks/names.ts";
import { onHost } from "./door.ts";
import { addressOf, lab, runbook } from "./lab.ts";
import { expectNone, expectOnly, look, mend } from "./live-drift.ts";

const globex = () => look("host", GLOBEX);
const host = (command: string) => onHost(GLOBEX, command);
const OVERRIDE = "/mailu/overrides/nginx/mta-sts.conf";
/** Where a file waits that is to be put back. */
const KEPT = `${MAILU_HOME}/kept`;
const UP = `docker compose -f ${COMPOSE_FILE} up -d --wait`;

/** A new certificate of the host's own, valid for so many days. */
const renewed = (days: number): string =>
  `cd /mailu/certs && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days ${days} -subj /CN=mail.globex.example ` +
  "-addext subjectAltName=DNS:mail.globex.example -keyout key.new -out cert.new 2>/dev/null && mv key.new key.pem && mv cert.new cert.pem";

test("nothing is found on hosts that are as declared, twice", async () => {
  for (const _ of [1, 2]) expectNone(await look("host"));
});

test("each file that the stack wrote is found when it was changed or is gone, and up writes it anew", async () => {
  const before = await host(`sha256sum ${COMPOSE_FILE} ${MAILU_ENV_FILE} ${OVERRIDE}`);
  await host(`echo 'REJECT_UNLISTED_RECIPIENT=no' >>${MAILU_ENV_FILE}`);
  const row = expectOnly(await globex(), `host/file-differs/globex/${MAILU_ENV_FILE}`);
  await host(`rm ${OVERRIDE}; echo >>${COMPOSE_FILE}`);
  const { findings } = await globex();
  expect(findings.map(({ id }) => id).sort()).toEqual(
    [
      `host/file-missing/globex/${OVERRIDE}`,
      `host/file-differs/globex/${MAILU_ENV_FILE}`,
      `host/file-differs/globex/${COMPOSE_FILE}`,
    ].sort(),
  );
  await mend(row);
  expect(await host(`sha256sum ${COMPOSE_FILE} ${MAILU_ENV_FILE} ${OVERRIDE}`)).toBe(before);
});

test("a compose file that is none any more is one finding: what runs can't be asked without it", async () => {
  await host(`cp ${COMPOSE_FILE} ${KEPT} && echo '{' >${COMPOSE_FILE}`);
  const looked = await globex();
  await host(`mv ${KEPT} ${COMPOSE_FILE}`);
  expectOnly(looked, `host/file-differs/globex/${COMPOSE_FILE}`);
});

test("containers that were stopped are one finding, though their ports are closed, and are started again", async () => {
  await host(`docker compose -f ${COMPOSE_FILE} stop`);
  const row = expectOnly(await globex(), "host/container-stopped/globex");
  expect(row.found).toContain("front exited");
  await mend(row);
  await host(UP);
});

test("a container of another image is found", async () => {
  await host(`cp ${COMPOSE_FILE} ${KEPT} && sed -i 's,mailu/dovecot:2024.06,mailu/dovecot:1.9,' ${COMPOSE_FILE}
    ${UP} && mv ${KEPT} ${COMPOSE_FILE}`);
  const row = expectOnly(await globex(), "host/image-differs/globex/imap");
  expect([row.declared, row.found]).toEqual(["ghcr.io/mailu/dovecot:2024.06", "ghcr.io/mailu/dovecot:1.9"]);
  await mend(row);
  await host(UP);
});

test("a certificate that Vault hasn't saved is found, and one that soon expires", async () => {
  await host(renewed(60));
  const differs = expectOnly(await globex(), "host/certificate-differs/globex");
  await mend(differs);

  await host(renewed(20));
  expect((await runbook(["save-host-state", "--tenant", GLOBEX.id, "--yes"])).code).toBe(0);
  expectOnly(await globex(), "host/certificate-expires/globex");
  await host(renewed(90));
  expect((await runbook(["save-host-state", "--tenant", GLOBEX.id, "--yes"])).code).toBe(0);
});

test("a certificate that is gone is found, and recovery puts Vault's back", async () => {
  const { fields } = await readRecord(lab, GLOBEX, "tls");
  await host(`rm ${CERTIFICATE_FILE}`);
  const row = expectOnly(await globex(), "host/certificate-missing/globex");
  await mend(row);
  expect(await host(`cat ${CERTIFICATE_FILE}`)).toBe(fields.certificate);
});

test("a DKIM key that signs and that nobody knows is found, and recovery puts Vault's back", async () => {
  const file = dkimKeyFile(GLOBEX.domain);
  const before = await host(`sha256sum ${file}`);
  await host(`openssl genrsa -out ${file} 2048 2>/dev/null`);
  const row = expectOnly(await globex(), "host/dkim-key-differs/globex");
  await mend(row);
  expect(await host(`sha256sum ${file}`)).toBe(before);
});

test("a port that no stack declares is found while something answers there", async () => {
  const address = await addressOf(GLOBEX.id);
  const serve = `require("net").createServer().listen(8081, "${address}")`;
  const pid = (await host(`nohup /lab/node -e '${serve}' >/dev/null 2>&1 & echo $!`)).trim();
  try {
    await host("for try in 1 2 3 4 5 6 7 8 9; do ss -Hltn | grep -q :8081 && exit; sleep 0.3; done; exit 1");
    expectOnly(await globex(), "host/port-open/globex/8081");
  } finally {
    await host(`kill ${pid}`);
  }
});

test("another host key than the pinned one is found, and nothing is asked of such a host", async () => {
  const key = "/etc/ssh/ssh_host_ed25519_key";
  // Read anew for each connection: sshd starts itself again for it.
  await host(
    `cp ${key} ${KEPT} && rm ${key}* && ssh-keygen -q -t ed25519 -N '' -C '' -f ${key} && kill -HUP 1`,
  );
  const looked = await globex();
  await host(`cp ${KEPT} ${key} && ssh-keygen -y -f ${key} >${key}.pub && kill -HUP 1`);
  expectOnly(looked, "host/host-key-differs/globex");
  expectNone(await globex());
});

test("a host that knows only the key exchange which a look doesn't ask for first is looked at all the same", async () => {
  const config = "/etc/ssh/sshd_config";
  await host(
    `cp ${config} ${KEPT} && echo KexAlgorithms sntrup761x25519-sha512@openssh.com >>${config} && kill -HUP 1`,
  );
  const looked = await globex();
  await host(`mv ${KEPT} ${config} && kill -HUP 1`);
  expectNone(looked);
});

test("what a shell's own start says where no shell is above the look, as under a timer, is no part of an answer", async () => {
  const HOME = await mkdtemp(join(tmpdir(), "home-"));
  await writeFile(join(HOME, ".bashrc"), `echo welcome; touch ${HOME}/was-read\n`);
  for (const SHLVL of [undefined, "0"]) {
    expectNone(await look("host", GLOBEX, { HOME, SHLVL }));
    expect(await readdir(HOME)).not.toContain("was-read");
  }
  await rm(HOME, { recursive: true });
});

test("what the stacks declare is asked before anything is looked at, and a stack that can't be asked is told of", async () => {
  const looked = await look("host", GLOBEX, {
    PULUMI_CONFIG_PASSPHRASE_FILE: "/dev/null",
    PULUMI_BACKEND_URL: "file:///dev/null",
  });
  expect(looked.findings).toEqual([]);
  expect(looked.unchecked.map(({ check, about }) => [check, about])).toEqual([["host", "globex"]]);
  const { steps } = JSON.parse(looked.done.stdout) as { steps: { title: string; outcome: string }[] };
  expect(steps.map(({ title, outcome }) => [title, outcome])).toEqual([
    ["ask which stacks and tenants there are", "done"],
    ["ask the stacks what they declare", "done"],
    ["look at host", "done"],
  ]);
});
