// A VPS is lost and the real engine brings it back: by `pulumi up`, after a killed engine, and by replace-vps. What
// came back is seen through other clients: raw HTTP to Vault, mail logins, TLS, ssh, EC2's API.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { cp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { connect } from "node:tls";
import { expect, test } from "vitest";
import { z } from "zod";
import { canLogIn, decrypt, readRecord, versions } from "../../scripts/drill/doors.ts";
import { order } from "../../scripts/lab/control.ts";
import { ACME, GLOBEX, type LabTenant } from "../../scripts/lab/tenants.ts";
import { REPOSITORY } from "../../scripts/toolchain/paths.ts";
import { dkimKeyFile, PLATFORM_STACK, tenantStack } from "../../stacks/names.ts";
import { addressOf, hosts, killVps, lab, program, pulumi, record, runbook } from "./lab.ts";

const STACK = tenantStack(ACME.id);
const up = (...more: string[]) => pulumi(["up", "--yes", "--skip-preview", "--stack", STACK, ...more]);

/** What must come back as it was: digests and public things only. */
async function identity(tenant: LabTenant) {
  const address = await addressOf(tenant.id);
  return {
    address,
    certificate: await certificateAt(address),
    dkim: digest(await onHost(tenant, `cat ${dkimKeyFile(tenant.domain)}`)),
    admin: (await record(tenant.id, "admin")).version,
  };
}

async function expectLogin(tenant: LabTenant): Promise<void> {
  const password = await decrypt(lab, tenant, (await readRecord(lab, tenant, "admin")).fields.password);
  expect(await canLogIn(await addressOf(tenant.id), tenant, password)).toBe(true);
}

test("a second up changes nothing and runs no command, on the platform and on a tenant", async () => {
  const log = join(lab.place.dir, "audit.jsonl");
  const before = { versions: await versions(lab, ACME), log: await readFile(log, "utf8") };
  for (const stack of [PLATFORM_STACK, STACK]) {
    const again = await pulumi(["up", "--yes", "--skip-preview", "--stack", stack, "--expect-no-changes"]);
    expect(again.code, again.stdout).toBe(0);
  }
  for (const verb of [["preview"], ["refresh", "--yes", "--skip-preview"]]) {
    const seen = await pulumi([...verb, "--stack", STACK, "--expect-no-changes"]);
    expect(seen.code, seen.stdout).toBe(0);
  }
  expect({ versions: await versions(lab, ACME), log: await readFile(log, "utf8") }).toEqual(before);
});

test("a terminated host comes back with its address, its keys and its data volume", async () => {
  const before = await identity(ACME);
  const mail = "/mailu/mail/still-here";
  await onHost(ACME, `mkdir -p /mailu/mail && echo kept > ${mail}`);
  await killVps(ACME.id, "terminated", true);
  const done = await up();
  expect(done.code, done.stdout).toBe(0);
  expect(await identity(ACME)).toEqual(before);
  expect(await onHost(ACME, `cat ${mail}`)).toBe("kept\n");
  await expectLogin(ACME);
});

test("a host lost with its data volume gets its keys from Vault", async () => {
  const before = await identity(ACME);
  await killVps(ACME.id, "terminated");
  const done = await up();
  expect(done.code, done.stdout).toBe(0);
  expect(await identity(ACME)).toEqual(before);
  await expectLogin(ACME);
});

// Machine, data volume, files, recovery; every step of the recovery itself is killed in recover-credentials.test.ts.
const MOMENTS = [
  "ec2:Instance vps creating",
  "ec2:VolumeAttachment data creating",
  "remote:Command files creating",
  "→ set the password",
];

test.each(MOMENTS)("an up killed hard at '%s' is completed by the next one", async (moment) => {
  const before = await identity(ACME);
  await killVps(ACME.id, "terminated");
  await killedUp(moment);
  const locked = await up();
  expect(locked.code, "a dead engine's lock is refused").not.toBe(0);
  expect((await pulumi(["cancel", "--yes", "--stack", STACK])).code).toBe(0);
  const done = await up();
  expect(done.code, done.stdout + done.stderr).toBe(0);
  expect(await identity(ACME)).toEqual(before);
  await expectLogin(ACME);
});

test("replace-vps completes a killed up by itself: it removes a dead engine's lock", async () => {
  await killVps(ACME.id, "terminated");
  await killedUp("→ set the password");
  // The host of the interrupted rebuild answers already.
  const done = await runbook(["replace-vps", "--tenant", ACME.id, "--force", "--yes", "--json"]);
  expect(done.code, done.stderr).toBe(0);
  expect(done.stderr).toMatch(/remove the lock that a killed pulumi/);
  await expectLogin(ACME);
});

test("replace-vps leaves a healthy host alone", async () => {
  const before = await hosts();
  const done = await runbook(["replace-vps", "--tenant", ACME.id, "--yes", "--json"]);
  expect(done.code).toBe(4);
  expect(done.stderr).toMatch(/a healthy host is not replaced/);
  expect(await hosts()).toEqual(before);
});

test.each([
  { how: "hung" as const, problem: /ssh: .*no answer.*SMTP/ },
  { how: "dead" as const, problem: /ssh: .*ECONNREFUSED.*SMTP/ },
])(
  "replace-vps replaces a $how host that is still listed, and says what was wrong and how long it took",
  async ({ how, problem }) => {
    const before = await identity(ACME);
    await killVps(ACME.id, how);
    const dry = await runbook(["replace-vps", "--tenant", ACME.id, "--dry-run", "--json"]);
    expect(dry.code, dry.stderr).toBe(0);
    const done = await runbook(["replace-vps", "--tenant", ACME.id, "--yes", "--json"]);
    expect(done.code, done.stderr).toBe(0);
    const result = z
      .object({ problems: z.array(z.string()), measured_rto_s: z.number(), within_rto: z.literal(true) })
      .parse(JSON.parse(done.stdout));
    expect(result.problems.join()).toMatch(problem);
    expect(await identity(ACME)).toEqual(before);
    await expectLogin(ACME);
  },
);

test("an own host that was reinstalled at its address is refused until replace-vps pins its new key", async () => {
  const address = await addressOf(GLOBEX.id);
  const old = (await hosts()).find((host) => host.address === address);
  await killVps(GLOBEX.id, "dead");
  const dead = await runbook(["replace-vps", "--tenant", GLOBEX.id, "--yes"]);
  expect(dead.code).toBe(4);
  expect(dead.stderr).toMatch(/nobody can reach it/);
  await order(lab.place.dir, { order: "boot", name: "globex-again", address });
  const stranger = await runbook(["recover-credentials", "--tenant", GLOBEX.id, "--yes"]);
  expect(stranger.code).toBe(4);
  expect(stranger.stderr).toMatch(/another SSH host key/);
  const done = await runbook(["replace-vps", "--tenant", GLOBEX.id, "--yes", "--json"]);
  expect(done.code, done.stderr).toBe(0);
  const now = (await record(GLOBEX.id, "server")).fields.host_key;
  expect(now).not.toBe(old?.hostKey);
  expect(now).toBe((await hosts()).find((host) => host.address === address)?.hostKey);
  await expectLogin(GLOBEX);
});

test("a tenant's stack is destroyed although its host is dead, Vault keeps the credentials, and up brings it back", async () => {
  const before = await versions(lab, ACME);
  await killVps(ACME.id, "dead");
  const at = ["--yes", "--stack", STACK];
  expect(
    (await pulumi(["destroy", "--skip-preview", ...at])).code,
    "what must not be lost is protected",
  ).not.toBe(0);
  expect((await pulumi(["state", "unprotect", "--all", ...at])).code).toBe(0);
  const gone = await pulumi(["destroy", "--skip-preview", ...at]);
  expect(gone.code, gone.stdout).toBe(0);
  expect(await versions(lab, ACME)).toEqual(before);
  const done = await up();
  expect(done.code, done.stdout).toBe(0);
  expect((await versions(lab, ACME)).admin).toBe(before.admin);
  await expectLogin(ACME);
});

const PROTECTED = [
  {
    what: "data volume",
    stack: STACK,
    file: `Pulumi.${STACK}.yaml`,
    from: "us-east-1a",
    to: "us-east-1b",
    names: "Volume::data",
  },
  {
    what: "address",
    stack: STACK,
    file: "tenant/vps.ts",
    from: 'domain: "vpc"',
    to: 'domain: "standard"',
    names: "Eip::address",
  },
  {
    what: "mount",
    stack: PLATFORM_STACK,
    file: "names.ts",
    from: 'KV_MOUNT = "smtp"',
    to: 'KV_MOUNT = "post"',
    names: "Mount::kv",
  },
  {
    what: "key",
    stack: PLATFORM_STACK,
    file: "platform/keys.ts",
    from: "enableKeyRotation: true",
    to: 'customerMasterKeySpec: "RSA_4096"',
    names: "kms/key:Key::",
  },
  {
    what: "bucket",
    stack: PLATFORM_STACK,
    file: "names.ts",
    from: '"penguinmails-audit"',
    to: '"another-audit"',
    names: "bucket:Bucket::audit",
  },
];

test.each(PROTECTED)(
  "a change that would replace the $what fails at preview",
  async ({ stack, file, from, to, names }) => {
    const project = join(lab.place.dir, "changed");
    await rm(project, { recursive: true, force: true });
    await cp(join(lab.place.dir, "project", "stacks"), join(project, "stacks"), {
      recursive: true,
      dereference: true,
    });
    for (const name of ["Pulumi.yaml", "package.json", "node_modules", "runbooks"])
      await symlink(join(REPOSITORY, name), join(project, name));
    const changed = join(project, "stacks", file);
    const text = await readFile(changed, "utf8");
    expect(text).toContain(from);
    await writeFile(changed, text.replace(from, to));
    const seen = await pulumi(["preview", "--stack", stack], { env: { PULUMI_OPTION_CWD: project } });
    expect(seen.code).not.toBe(0);
    expect(seen.stdout + seen.stderr).toMatch(
      new RegExp(`unable to replace resource "[^"]*${names}[\\s\\S]*protection`),
    );
  },
);

/** Starts `pulumi up` and kills the engine hard as soon as its output says `moment`. */
async function killedUp(moment: string): Promise<void> {
  const args = ["up", "--yes", "--skip-preview", "--stack", STACK, "--non-interactive", "--color", "never"];
  const engine = spawn("pulumi", args, { env: lab.env, stdio: ["ignore", "pipe", "pipe"] });
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals | null>();
  engine.once("exit", (_code, signal) => resolve(signal));
  let said = "";
  for (const stream of [engine.stdout, engine.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      if (said.includes(moment)) engine.kill("SIGKILL");
    });
  }
  expect(await promise, `it never said '${moment}':\n${said}`).toBe("SIGKILL");
}

async function onHost(tenant: LabTenant, command: string): Promise<string> {
  const address = await addressOf(tenant.id);
  const trust = [
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
  ];
  const done = await program("ssh", [...trust, `root@${address}`, command]);
  expect(done.code, done.stderr).toBe(0);
  return done.stdout;
}

/** SHA-256 fingerprint of the certificate that IMAP shows. */
async function certificateAt(address: string): Promise<string> {
  const socket = connect({ host: address, port: 993, rejectUnauthorized: false });
  try {
    await new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
    return socket.getPeerCertificate().fingerprint256;
  } finally {
    socket.destroy();
  }
}

const digest = (text: string): string => createHash("sha256").update(text).digest("hex");
