// Every way to get a stack's configuration wrong that somebody is likely to find, and what he's told.

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { parseConfig } from "../../stacks/config.ts";
import { PROJECT } from "../../stacks/names.ts";
import { platformSchema } from "../../stacks/platform/config.ts";
import { tenantSchema } from "../../stacks/tenant/config.ts";
import { declare } from "./declare.ts";

const TENANT = {
  domain: "globex.example",
  contactEmail: "it@contact.example",
  provider: "existing",
  existing: { address: "203.0.113.25" },
  exemptNetworks: ["198.51.100.0/24"],
  dns: { provider: "zone-file" },
};
const PLATFORM = { awsAccountId: "123456789012", operationsNetworks: ["198.51.100.7/32"] };

const texts = (config: Record<string, unknown>) =>
  Object.fromEntries(
    Object.entries(config)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
  );
function problems(
  schema: typeof tenantSchema | typeof platformSchema,
  config: Record<string, unknown>,
): string[] {
  const result = parseConfig(schema, texts(config));
  return "problems" in result ? result.problems : [];
}

describe("a tenant's configuration", () => {
  it("is taken as it is when it's right", () => {
    expect(problems(tenantSchema, TENANT)).toEqual([]);
  });

  it.each([
    ["domain", "Globex.example", "got \"Globex.example\": 'Globex.example' is not a domain"],
    [
      "domain",
      undefined,
      "domain: is missing (domain: the tenant's mail domain; its host is mail.<domain>). Next: pulumi config set domain …",
    ],
    ["domain", "12", 'domain: got "12"'],
    ["contactEmail", "nobody", 'contactEmail: got "nobody"'],
    ["provider", "ovh", 'provider: got "ovh"'],
    ["existing", undefined, "existing: is missing"],
    ["existing", { address: "mail.globex.example" }, 'existing.address: got "mail.globex.example"'],
    [
      "existing",
      { address: "203.0.113.25", hostKey: "ssh-rsa AAAA" },
      "existing.hostKey: got \"ssh-rsa AAAA\": takes one line 'ssh-ed25519 AAAA…'",
    ],
    ["existing", { address: "203.0.113.25", adress: 1 }, "existing.adress: there is no such key"],
    ["exemptNetworks", [], "exemptNetworks: got []"],
    [
      "exemptNetworks",
      ["198.51.100.0"],
      'exemptNetworks.0: got "198.51.100.0": takes a network such as 192.0.2.0/24',
    ],
    ["sshFrom", ["0.0.0.0/0"], 'sshFrom.0: got "0.0.0.0/0": is the whole internet: anyone could try'],
    ["sshFrom", ["::/0"], 'sshFrom.0: got "::/0": is the whole internet'],
    ["sshFrom", ["10.0.0.0/0"], 'sshFrom.0: got "10.0.0.0/0": is the whole internet'],
    ["submission", "yes", 'submission: got "yes"'],
    ["dns", { provider: "route53" }, "dns.zoneId: is missing"],
    ["dns", "route53", 'dns: got "route53"'],
    ["sshUser", "root; rm -rf /", 'sshUser: got "root; rm -rf /": takes a user\'s name'],
    ["sshform", "x", "sshform: there is no such key; the keys are contactEmail, dns, domain"],
  ])("%s = %j is refused by name", (key, value, message) => {
    expect(problems(tenantSchema, { ...TENANT, [key]: value })).toEqual([expect.stringContaining(message)]);
  });

  it("on EC2 says from where ssh is let in", () => {
    const ec2 = { ami: "ami-1", availabilityZone: "a", sshPublicKeys: ["ssh-ed25519 AAAAC3Nza"] };
    expect(problems(tenantSchema, { ...TENANT, provider: "ec2", ec2 })).toEqual([
      expect.stringContaining(
        "sshFrom: is missing (sshFrom: networks from which ssh is let in; required with provider ec2)",
      ),
    ]);
    expect(problems(tenantSchema, { ...TENANT, provider: "ec2", sshFrom: ["198.51.100.0/24"] })).toEqual([
      expect.stringContaining("ec2: is missing"),
    ]);
  });

  it("is refused as a whole, with every problem at once, before anything is declared", async () => {
    await expect(declare("tenant-globex", { ...TENANT, domain: "x", provider: "y" })).rejects.toThrow(
      /The configuration of the stack 'tenant-globex' can't be used:\n {2}- domain: .*\n {2}- provider: /,
    );
  });
});

describe("a secret in the configuration", () => {
  it("is refused by name, and its value isn't shown", async () => {
    const refused = declare("tenant-globex", { ...TENANT, sshUser: "hunter2" }, ["sshUser"]);
    await expect(refused).rejects.toThrow(/- sshUser: is set as a secret, and secrets belong in Vault/);
    await expect(refused).rejects.not.toThrow(/hunter2/);
  });
});

describe("the platform's configuration", () => {
  it("is taken as it is when it's right", () => {
    expect(problems(platformSchema, PLATFORM)).toEqual([]);
  });

  it.each([
    ["awsAccountId", "1234", 'awsAccountId: got "1234": takes 12 digits'],
    ["operationsNetworks", undefined, "operationsNetworks: is missing"],
    ["operationsNetworks", ["0.0.0.0/0"], "is the whole internet"],
    ["tenants", ["acme", "canary"], "'canary' is reserved"],
    ["tenants", ["../x"], "'../x' is not a tenant id"],
    ["auditFile", "audit.log", "takes an absolute path on the Vault server"],
    ["backupLockDays", 0, "backupLockDays: got 0"],
    ["lockMode", "NONE", 'lockMode: got "NONE"'],
    ["principals", { backup: ["*"] }, 'principals.backup.0: got "*": takes the ARN of an IAM principal'],
    ["principals", { prunner: [] }, "principals.prunner: there is no such key"],
    [
      "ci",
      { discoveryUrl: "https://ci.example", audience: "vault", claims: {} },
      "any job of that provider could log in",
    ],
    ["ci", { audience: "vault", claims: { a: "b" } }, "takes discoveryUrl or publicKeys"],
    ["people", { discoveryUrl: "https://id.example", audience: "v", roles: { root: ["x"] } }, "people.roles"],
  ])("%s = %j is refused by name", (key, value, message) => {
    expect(problems(platformSchema, { ...PLATFORM, [key]: value })).toEqual([
      expect.stringContaining(message),
    ]);
  });
});

describe("the examples", () => {
  it.each([
    ["platform", platformSchema],
    ["tenant-acme", tenantSchema],
    ["tenant-globex", tenantSchema],
  ] as const)("Pulumi.%s.yaml is a configuration that is taken", (stack, schema) => {
    const file = new URL(`../../docs/examples/Pulumi.${stack}.yaml`, import.meta.url);
    const { config } = parse(readFileSync(file, "utf8")) as { config: Record<string, unknown> };
    const own = Object.entries(config).map(([key, value]) => {
      expect(key.startsWith(`${PROJECT}:`)).toBe(true);
      return [key.slice(PROJECT.length + 1), value];
    });
    expect(problems(schema, Object.fromEntries(own))).toEqual([]);
  });
});
