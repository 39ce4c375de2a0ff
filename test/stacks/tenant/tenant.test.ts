// The tenant stack as declared: order, protection, ports, and that nothing secret or machine-specific is in it.
import { createHash } from "node:crypto";
import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { credentialsUrn, filesUrn, tenantId, vpsUrn } from "../../../stacks/names.ts";
import { type Declared, declare, type Program } from "../declare.ts";

const PUBLIC_KEY = `ssh-ed25519 ${"AAAAC3NzaC1lZDI1NTE5AAAAI".padEnd(68, "x")} operator@desk`;
const EC2 = {
  domain: "acme.example",
  contactEmail: "it@contact.example",
  provider: "ec2",
  ec2: { ami: "ami-0123", availabilityZone: "eu-central-1a", sshPublicKeys: [PUBLIC_KEY] },
  sshFrom: ["198.51.100.0/24", "2001:db8::/32"],
  exemptNetworks: ["198.51.100.0/24", "203.0.113.7/32"],
  dns: { provider: "route53", zoneId: "Z1" },
};
const EXISTING = {
  domain: "globex.example",
  contactEmail: "it@contact.example",
  provider: "existing",
  existing: { address: "203.0.113.25" },
  exemptNetworks: ["198.51.100.0/24"],
  dns: { provider: "zone-file" },
};

let acme: Program;
let globex: Program;
beforeAll(async () => {
  acme = await declare("tenant-acme", EC2);
  globex = await declare("tenant-globex", EXISTING);
});
const command = (program: Program, where: "local" | "remote", name: string) =>
  program.the(`command:${where}:Command`, name);

describe("a tenant on EC2", () => {
  it("keeps its address and its data when the instance goes", () => {
    expect(acme.all("aws:ec2/eip:Eip").map((eip) => eip.protect)).toEqual([true]);
    expect(
      acme.all("aws:ebs/volume:Volume").map((volume) => [volume.protect, volume.inputs.encrypted]),
    ).toEqual([[true, true]]);
    expect(acme.the("aws:ec2/instance:Instance", "vps").protect).toBe(false);
  });

  it("gives the old instance up before the new one takes its address and volume", () => {
    const instance = acme.the("aws:ec2/instance:Instance", "vps");
    expect(instance.deleteBeforeReplace).toBe(true);
    expect(instance.urn).toBe(vpsUrn(tenantId("acme"), "ec2"));
    expect(acme.the("aws:ec2/eipAssociation:EipAssociation", "address").inputs).toEqual({
      allocationId: "address-id",
      instanceId: "vps-id",
    });
    const attachment = acme.the("aws:ec2/volumeAttachment:VolumeAttachment", "data");
    expect(attachment.inputs).toMatchObject({ instanceId: "vps-id", volumeId: "data-id", forceDetach: true });
    expect(attachment.deleteBeforeReplace).toBe(true);
  });

  it("does not touch a running instance when an operator's key is added", () => {
    expect(acme.the("aws:ec2/instance:Instance", "vps").ignoreChanges).toEqual(["userData"]);
  });

  it("lets in mail and web from everywhere, ssh from the named networks, nothing else", () => {
    const { ingress } = acme.the("aws:ec2/securityGroup:SecurityGroup", "firewall").inputs as {
      ingress: {
        fromPort: number;
        toPort: number;
        protocol: string;
        cidrBlocks: string[];
        ipv6CidrBlocks: string[];
      }[];
    };
    expect(ingress.map((rule) => rule.fromPort)).toEqual([25, 80, 443, 465, 993, 22]);
    for (const rule of ingress) {
      expect(rule.toPort).toBe(rule.fromPort);
      expect(rule.protocol).toBe("tcp");
      if (rule.fromPort !== 22) expect(rule.cidrBlocks).toEqual(["0.0.0.0/0"]);
    }
    expect(ingress.at(-1)).toMatchObject({
      cidrBlocks: ["198.51.100.0/24"],
      ipv6CidrBlocks: ["2001:db8::/32"],
    });
  });

  it("opens 587 on demand, in firewall and Mailu alike", async () => {
    const program = await declare("tenant-acme", { ...EC2, submission: true });
    const { ingress } = program.the("aws:ec2/securityGroup:SecurityGroup", "firewall").inputs as {
      ingress: { fromPort: number }[];
    };
    expect(ingress.map((rule) => rule.fromPort)).toContain(587);
    expect(command(program, "remote", "files").inputs.stdin).toContain("PORTS=25,80,443,465,587,993");
  });

  it("boots with public text only: the operators' keys and Docker", () => {
    const { userData } = acme.the("aws:ec2/instance:Instance", "vps").inputs;
    expect(userData).toMatch(/^#cloud-config\n/);
    expect(userData).toContain(PUBLIC_KEY);
    expect(userData).toContain("docker-compose-plugin");
  });
});

describe("the order of a rebuild", () => {
  it("is host, host key, files, credentials, DNS", () => {
    expect(command(acme, "local", "host-key").after).toEqual(
      expect.arrayContaining(["vps", "address", "data"]),
    );
    expect(command(acme, "remote", "files").after).toContain("host-key");
    expect(command(acme, "local", "credentials").after).toContain("files");
    const records = acme.all("aws:route53/record:Record");
    expect(records.length).toBeGreaterThan(0);
    for (const record of records) expect(record.after).toContain("credentials");
  });

  it.each([
    ["acme", () => acme, "vps-id"],
    ["globex", () => globex, "existing-0123456789abcdef"],
  ] as const)("starts again for %s when its host is another one", (_tenant, program, identity) => {
    const steps = [
      command(program(), "local", "host-key"),
      command(program(), "remote", "files"),
      command(program(), "local", "credentials"),
    ];
    for (const step of steps) expect(step.inputs.triggers).toContain(identity);
  });

  it("runs the recovery again when Mailu's files change", async () => {
    const other = await declare("tenant-acme", { ...EC2, exemptNetworks: ["192.0.2.0/24"] });
    const digest = (program: Program) =>
      (command(program, "local", "credentials").inputs.triggers as string[])[1];
    expect(digest(acme)).toMatch(/^[0-9a-f]{64}$/);
    expect(digest(other)).not.toBe(digest(acme));
  });

  it("has nothing that would run against a dead host when a resource goes", () => {
    for (const program of [acme, globex]) {
      for (const resource of program.resources) expect(resource.inputs).not.toHaveProperty("delete");
    }
  });
});

describe("a host that the operator already has", () => {
  it("is known by a word of its own, renewed by replacement or another generation", async () => {
    const identity = command(globex, "local", "vps");
    expect(identity.urn).toBe(vpsUrn(tenantId("globex"), "existing"));
    expect(identity.inputs.triggers).toEqual(["203.0.113.25", 1]);
    const next = await declare("tenant-globex", {
      ...EXISTING,
      existing: { address: "203.0.113.25", generation: 2 },
    });
    expect(command(next, "local", "vps").inputs.triggers).toEqual(["203.0.113.25", 2]);
  });

  it("makes nothing in AWS when its DNS is hosted elsewhere", () => {
    expect(globex.resources.filter((resource) => resource.type.startsWith("aws:"))).toEqual([]);
    expect(globex.outputs.zoneFile).toContain("mail.globex.example. 300 IN A 203.0.113.25");
    expect(acme.outputs).not.toHaveProperty("zoneFile");
  });
});

describe("what the engine can't look at", () => {
  const Declared = z.object({
    files: z.record(z.string(), z.string()),
    images: z.record(z.string(), z.string()),
    ports: z.array(z.number()),
    records: z.array(z.object({ name: z.string(), type: z.string(), value: z.string() })),
  });
  const declared = (program: Program) => Declared.parse(program.outputs.declared);

  it("is an output: the digest of each file as the host gets it", () => {
    const { files } = declared(acme);
    const script = String(command(acme, "remote", "files").inputs.stdin);
    expect(Object.keys(files)).toHaveLength(3);
    for (const [path, sha256] of Object.entries(files)) {
      const [, content = ""] = new RegExp(`printf %s '((?:[^']|'\\\\'')*)' >'${path}'`).exec(script) ?? [];
      expect(content, path).not.toBe("");
      const hash = createHash("sha256").update(content.replaceAll("'\\''", "'"));
      expect(sha256).toBe(hash.digest("hex"));
    }
  });

  it("is an output: images, ports and every DNS record, wherever the zone is", () => {
    expect(declared(acme).images).toMatchObject({
      front: "ghcr.io/mailu/nginx:2024.06",
      redis: "redis:7-alpine",
    });
    for (const program of [acme, globex]) {
      const { records } = declared(program);
      expect(records.map(({ name, type }) => `${name} ${type}`)).toContain(
        `mail.${program.outputs.domain} A`,
      );
      expect(records.find(({ name }) => name.startsWith("dkim._domainkey"))?.value).toMatch(/^v=DKIM1;/);
    }
    expect(declared(acme).records).toHaveLength(acme.all("aws:route53/record:Record").length);
  });

  it("can be written anew by name, as a finding of drift says", () => {
    expect(command(acme, "remote", "files").urn).toBe(filesUrn(tenantId("acme")));
    expect(command(acme, "local", "credentials").urn).toBe(credentialsUrn(tenantId("acme")));
  });
});

describe("nothing secret", () => {
  const everything = () => [...acme.resources, ...globex.resources];

  it("is an output", () => {
    expect(acme.outputs).toEqual({
      address: "192.0.2.25",
      vpsId: "vps-id",
      hostKey: "ssh-ed25519 AAAAC3Nza",
      apiUrl: "https://192.0.2.25/api/v1",
      domain: "acme.example",
      contactEmail: "it@contact.example",
      declared: expect.objectContaining({ ports: [22, 25, 80, 443, 465, 993] }),
    });
  });

  it("is an input: only the provider's own marking of `connection` is there, without key or password", () => {
    for (const resource of everything()) {
      expect([resource.name, resource.secret]).toEqual([
        resource.name,
        resource.type === "command:remote:Command" ? ["connection"] : [],
      ]);
      if (resource.type === "command:remote:Command") {
        const { connection } = resource.inputs as { connection: Record<string, unknown> };
        expect(Object.keys(connection).sort()).toEqual([
          "dialErrorLimit",
          "host",
          "hostKey",
          "perDialTimeout",
          "port",
          "user",
        ]);
        expect(connection.hostKey).toBe("ssh-ed25519 AAAAC3Nza");
      }
    }
  });

  it("is passed to the recovery, which is told where and not what", () => {
    const { create, environment, stdin } = command(acme, "local", "credentials").inputs;
    expect(environment).toBeUndefined();
    expect(stdin).toBeUndefined();
    expect(create).toContain(
      "../runbooks/main.ts recover-credentials --tenant 'acme' --domain 'acme.example' " +
        "--contact-email 'it@contact.example' --address '192.0.2.25' --host-key 'ssh-ed25519 AAAAC3Nza' --yes --json",
    );
  });

  it("and nothing of this machine is in any input", () => {
    const texts = everything().map((resource: Declared) => JSON.stringify(resource.inputs));
    for (const text of texts) {
      expect(text).not.toContain(process.cwd());
      expect(text).not.toContain(process.env.HOME ?? "no home");
      expect(text).not.toContain("SSH_AUTH_SOCK");
    }
  });
});

describe("a program for another stack", () => {
  it.each(["tenant-", "tenant-Acme", "tenant-../x", "tenant-canary", "dev", "platforms"])(
    "'%s' does not exist",
    async (stack) => {
      await expect(declare(stack, {})).rejects.toThrow(/it is called 'platform' .* or 'tenant-<id>'/);
    },
  );
});
