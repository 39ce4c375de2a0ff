// What the engine sees, and what it can't look at: drift is made behind everybody's back, by other clients than the
// stacks', and mended by the very commands that the report names.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { hostname } from "node:os";
import { join } from "node:path";
import {
  AuthorizeSecurityGroupIngressCommand,
  DescribeSecurityGroupsCommand,
  EC2Client,
} from "@aws-sdk/client-ec2";
import {
  ChangeResourceRecordSetsCommand,
  ListHostedZonesCommand,
  Route53Client,
} from "@aws-sdk/client-route-53";
import { DeleteBucketLifecycleCommand, PutPublicAccessBlockCommand } from "@aws-sdk/client-s3";
import { describe, expect, test } from "vitest";
import { awsClient } from "../../scripts/lab/cloud.ts";
import { ACME } from "../../scripts/lab/tenants.ts";
import { BACKUP_BUCKET, mailHost, PROJECT } from "../../stacks/names.ts";
import { s3 } from "./backup.ts";
import { checkDrift, READER } from "./drift.ts";
import { lab, pulumi, runbook, vault } from "./lab.ts";
import { filesUnder } from "./needles.ts";
import { withS3Window } from "./s3-window.ts";
import { withWindow } from "./vault-window.ts";

const aws = awsClient(lab.place.awsEndpoint);

/** Every file of the stacks' state and its content. */
function stateOf(): Record<string, string> {
  const all = filesUnder(join(lab.place.dir, "state")).filter((file) => !file.includes("/backups/"));
  return Object.fromEntries(
    all.map((file) => [file, createHash("sha256").update(readFileSync(file)).digest("hex")]),
  );
}

/** Operations on Vault by its own account: the audit device's new lines, as `operation path`. */
function audited(from: number): string[] {
  const lines = readFileSync(join(lab.place.dir, "vault", "audit.log"), "utf8")
    .slice(from)
    .trim()
    .split("\n");
  return lines
    .map((line) => JSON.parse(line) as { type: string; request: { operation: string; path: string } })
    .filter(({ type }) => type === "request")
    .map(({ request }) => `${request.operation} ${request.path}`);
}

test("a clean lab has no drift, twice, and nothing is written: no state, nothing in Vault, nothing in the cloud", async () => {
  const state = stateOf();
  const from = readFileSync(join(lab.place.dir, "vault", "audit.log"), "utf8").length;
  const calls = await withWindow((throughVault) =>
    withS3Window(async (throughAws) => {
      for (const _ of [1, 2]) {
        const env = { ...throughVault.env, ...throughAws.env };
        const { found, unchecked, code, stderr } = await checkDrift(["--only", "infra,vault"], env);
        expect({ found, unchecked, code }, stderr).toEqual({ found: [], unchecked: [], code: 0 });
      }
      return { vault: throughVault.calls, aws: throughAws.calls };
    }),
  );
  expect(stateOf()).toEqual(state);
  expect(calls.vault.filter((call) => !/^GET /.test(call))).toEqual([]);
  expect(calls.vault.length).toBeGreaterThan(100);
  const read =
    /^(?:GET|HEAD) |^POST \/ (?:Action=(?:Describe|Get|List)\w*|TrentService\.(?:Describe|Get|List)\w*)$/;
  expect(calls.aws.filter((call) => !read.test(call))).toEqual([]);
  expect(calls.aws.length).toBeGreaterThan(50);
  expect([...new Set(audited(from).map((one) => one.split(" ")[0]))].sort()).toEqual(["list", "read"]);
});

test("each thing that was changed behind the stacks' back is found once, and nothing else; mended, nothing is", async () => {
  await vault("PUT", "sys/policies/acl/backup-operator", {
    policy: 'path "smtp/*" { capabilities = ["read"] }',
  });
  await vault("POST", "sys/mounts/smtp-transit/tune", { description: "mine" });
  await vault("POST", "smtp/config", { max_versions: 5, cas_required: true });
  await vault("POST", "auth/approle/role/system", {
    token_ttl: "2h",
    token_policies: ["incident-responder"],
  });
  await vault("PUT", "sys/policies/acl/backdoor", { policy: 'path "*" { capabilities = ["read"] }' });
  await vault("PUT", "sys/audit/extra", {
    type: "file",
    options: { file_path: join(lab.place.dir, "vault", "extra.log") },
  });
  await vault("POST", "auth/approle/role/backdoor", { token_policies: ["backdoor"] });
  await vault("POST", "sys/mounts/mine", { type: "kv" });
  await vault("POST", "smtp-transit/keys/nobody", {});
  const Bucket = BACKUP_BUCKET;
  await s3.send(new DeleteBucketLifecycleCommand({ Bucket }));
  const PublicAccessBlockConfiguration = { BlockPublicAcls: false, IgnorePublicAcls: false };
  await s3.send(new PutPublicAccessBlockCommand({ Bucket, PublicAccessBlockConfiguration }));
  await openFirewall();
  await changeRecord();

  // The resolvers answer the changed record too: that is the same drift, and told once.
  const found = await checkDrift(["--only", "infra,vault,dns"]);
  expect(found.code, found.stderr).toBe(7);
  expect(found.unchecked).toEqual([]);
  expect(found.found).toEqual([
    "infra/resource-differs/platform/BucketPublicAccessBlock backups",
    "infra/resource-differs/tenant-acme/SecurityGroup firewall",
    `infra/resource-differs/tenant-acme/${mailHost(ACME.domain)} A`,
    "infra/resource-gone/platform/BucketLifecycleConfiguration backups",
    "vault/resource-differs/platform/AuthBackendRole approle-system",
    "vault/resource-differs/platform/Mount transit",
    "vault/resource-differs/platform/Policy backup-operator",
    "vault/resource-differs/platform/SecretBackendV2 kv-config",
    "vault/stray-key/nobody",
    "vault/undeclared/platform/approle-role backdoor",
    "vault/undeclared/platform/audit-device extra",
    "vault/undeclared/platform/mount mine",
    "vault/undeclared/platform/policy backdoor",
  ]);
  const texts = Object.fromEntries(found.findings.map(({ id, declared, found: is }) => [id, [declared, is]]));
  expect(texts["vault/resource-differs/platform/Mount transit"]).toEqual([
    "description: One key per tenant, for what lies in smtp",
    "description: mine",
  ]);
  const block = texts["infra/resource-differs/platform/BucketPublicAccessBlock backups"];
  expect(block?.[0]).toContain("blockPublicAcls: true");
  expect(block?.[1]).toContain("blockPublicAcls: false");

  // By the commands of the report, as a person who may.
  const mends = new Set(found.findings.map(({ mend }) => mend.split("   #")[0] ?? ""));
  expect(mends).toContain("pulumi up --stack platform");
  expect(mends).toContain("pulumi up --stack tenant-acme");
  for (const stack of ["platform", "tenant-acme"]) {
    const up = await pulumi(["up", "--yes", "--skip-preview", "--stack", stack]);
    expect(up.code, up.stderr + up.stdout).toBe(0);
  }
  for (const path of [
    "sys/policies/acl/backdoor",
    "sys/audit/extra",
    "auth/approle/role/backdoor",
    "sys/mounts/mine",
  ])
    await vault("DELETE", path);
  await vault("POST", "smtp-transit/keys/nobody/config", { deletion_allowed: true });
  await vault("DELETE", "smtp-transit/keys/nobody");
  const after = await checkDrift(["--only", "infra,vault,dns"]);
  expect({ found: after.found, unchecked: after.unchecked, code: after.code }).toEqual({
    found: [],
    unchecked: [],
    code: 0,
  });
});

async function openFirewall(): Promise<void> {
  const ec2 = new EC2Client(aws);
  const { SecurityGroups = [] } = await ec2.send(new DescribeSecurityGroupsCommand({}));
  const group = SecurityGroups.find(({ Tags }) => Tags?.some(({ Value }) => Value === "acme"));
  const rule = {
    GroupId: group?.GroupId,
    IpProtocol: "tcp",
    FromPort: 3306,
    ToPort: 3306,
    CidrIp: "0.0.0.0/0",
  };
  await ec2.send(new AuthorizeSecurityGroupIngressCommand(rule));
}

async function changeRecord(): Promise<void> {
  const route53 = new Route53Client(aws);
  const { HostedZones = [] } = await route53.send(new ListHostedZonesCommand({}));
  const zone = HostedZones.find(({ Name }) => Name === `${ACME.domain}.`);
  const ResourceRecordSet = {
    Name: mailHost(ACME.domain),
    Type: "A",
    TTL: 300,
    ResourceRecords: [{ Value: "192.0.2.66" }],
  } as const;
  await route53.send(
    new ChangeResourceRecordSetsCommand({
      HostedZoneId: zone?.Id,
      ChangeBatch: {
        Changes: [
          {
            Action: "UPSERT",
            ResourceRecordSet: {
              ...ResourceRecordSet,
              ResourceRecords: [...ResourceRecordSet.ResourceRecords],
            },
          },
        ],
      },
    }),
  );
}

const GLOBEX = ["--stack", "tenant-globex"];

test("a configuration that nobody brought up is one finding of its own", async () => {
  const file = join(lab.place.dir, "project", "stacks", "Pulumi.tenant-globex.yaml");
  const was = readFileSync(file, "utf8");
  try {
    writeFileSync(file, was.replace("it@people.example", "else@people.example"));
    const { found, findings, code } = await checkDrift(["--only", "infra", ...GLOBEX]);
    expect([found, code]).toEqual([["infra/not-applied/tenant-globex"], 7]);
    expect(findings[0]?.what).toContain("Command credentials");
  } finally {
    writeFileSync(file, was);
  }
  expect((await checkDrift(["--only", "infra", ...GLOBEX])).found).toEqual([]);
});

describe("what can't be looked at is said, in bounded time, and the rest is done", () => {
  const abouts = (unchecked: { check: string; about: string }[]) =>
    unchecked.map(({ check, about }) => `${check} ${about}`).sort();

  test("a stack that somebody works on", async () => {
    const folder = join(lab.place.dir, "state", ".pulumi", "locks", "organization", PROJECT, "tenant-globex");
    mkdirSync(folder, { recursive: true });
    const lock = {
      pid: process.pid,
      username: "test",
      hostname: hostname(),
      timestamp: new Date().toISOString(),
    };
    const file = join(folder, "of-a-test.json");
    writeFileSync(file, JSON.stringify(lock));
    try {
      const { code, found, unchecked } = await checkDrift(["--only", "infra,vault", ...GLOBEX]);
      expect([code, found, abouts(unchecked)]).toEqual([1, [], ["infra tenant-globex"]]);
      expect(unchecked[0]?.why).toContain(`process ${process.pid} on ${hostname()}`);
      expect(unchecked[0]?.next).toContain("pulumi cancel tenant-globex");
    } finally {
      rmSync(file);
    }
  });

  test("a Vault that is sealed, and one that isn't there", async () => {
    const args = ["--only", "infra,vault", ...GLOBEX];
    await vault("PUT", "sys/seal");
    try {
      const begin = performance.now();
      const { code, found, unchecked } = await checkDrift(args);
      expect([code, found, abouts(unchecked)]).toEqual([1, [], ["infra stacks", "vault vault"]]);
      expect(unchecked[0]?.why).toContain("sealed");
      expect(performance.now() - begin).toBeLessThan(60_000);
    } finally {
      const keys = readFileSync(join(lab.place.dir, "unseal-keys"), "utf8").trim().split("\n");
      for (const key of keys.slice(0, 2)) await vault("PUT", "sys/unseal", { key });
    }
    const addr = "http://127.0.0.1:9";
    const file = join(lab.place.dir, "recovery-nowhere.yaml");
    const own = readFileSync(join(lab.place.dir, "recovery.yaml"), "utf8");
    writeFileSync(file, own.replace(lab.place.vaultAddr, addr));
    const env = { VAULT_ADDR: addr, RECOVERY_CONFIG: file };
    const away = await checkDrift(["--only", "infra,vault", "--stack", "platform"], env);
    expect([away.code, away.found, abouts(away.unchecked)]).toEqual([
      1,
      [],
      ["infra platform", "infra stacks", "vault platform", "vault vault"],
    ]);
  });

  test("credentials that are over, of Vault and of the cloud", async () => {
    const server = createServer((asked, answer) => {
      asked.resume();
      const text =
        "<Code>ExpiredToken</Code><Message>The security token included in the request is expired</Message>";
      answer.writeHead(403, { "content-type": "application/xml" }).end(`<Error>${text}</Error>`);
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    try {
      const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const begin = performance.now();
      const args = ["--only", "infra,vault,backups", "--stack", "platform"];
      const { code, found, unchecked } = await checkDrift(args, { AWS_ENDPOINT_URL: endpoint });
      expect([code, found, abouts(unchecked)]).toEqual([
        1,
        [],
        ["backups bucket", "infra platform", "vault platform", "vault undeclared"],
      ]);
      expect(unchecked.find(({ check }) => check === "infra")?.why).toMatch(/expired/i);
      expect(performance.now() - begin).toBeLessThan(120_000);
    } finally {
      server.closeAllConnections();
      server.close();
    }
    const wrong = await checkDrift(["--only", "vault", ...GLOBEX], { VAULT_TOKEN: "hvs.wrong" });
    expect([wrong.code, abouts(wrong.unchecked)]).toEqual([1, ["vault vault"]]);
    expect(wrong.unchecked[0]?.why).toContain("VAULT_TOKEN is wrong, expired or revoked");
  });
});

test("what is wrong with the command line is exit 2 before anything is asked", async () => {
  const file = join(lab.place.dir, "accept.yaml");
  for (const [content, says] of [
    ["- {id: a, until: tomorrow, reason: b}", "0.until takes a day"],
    ["- {id: a, until: 2026-02-28}", "0.reason"],
    ["- {id: a, until: 2026-02-28, reason: b}\n- {id: a, until: 2026-02-28, reason: b}", "twice"],
    ["{", "can't be read"],
  ] as const) {
    writeFileSync(file, content);
    const { code, stderr } = await runbook(["check-drift", "--accept", file], { env: READER });
    expect([code, stderr.includes("→")], stderr).toEqual([2, false]);
    expect(stderr).toContain(says);
  }
  for (const args of [
    ["--only", "infra,moon"],
    ["--stack", "moon"],
    ["--json", "--markdown"],
    ["--accept", "/none"],
  ]) {
    const { code, stderr } = await runbook(["check-drift", ...args], { env: READER });
    expect([args, code, stderr.includes("→")], stderr).toEqual([args, 2, false]);
  }
});
