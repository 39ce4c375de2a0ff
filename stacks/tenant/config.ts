// What a tenant's stack can be told. `.describe` texts are shown in errors and are the documentation.
import { z } from "zod";
import { domain, network } from "../config.ts";

const hostKey = z
  .string()
  .regex(/^ssh-ed25519 AAAA[A-Za-z0-9+/]+={0,2}$/, "takes one line 'ssh-ed25519 AAAA…' without a comment");
const publicKey = z
  .string()
  .regex(
    /^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp256) AAAA[A-Za-z0-9+/]+={0,2}( [ -~]*)?$/,
    "takes an OpenSSH public key",
  );

const ec2 = z.strictObject({
  /** A Debian or Ubuntu image. Another one here replaces the instance at the next `up`. */
  ami: z.string().regex(/^ami-[0-9a-z]+$/, "takes an image id such as ami-0123456789abcdef0"),
  instanceType: z.string().default("t3.medium"),
  /** Zone of instance and data volume. The volume can't move: another zone fails at preview. */
  availabilityZone: z.string().min(1),
  subnetId: z.string().optional(),
  vpcId: z.string().optional(),
  /** Size of the data volume. It can grow only. */
  dataVolumeGib: z.number().int().min(1).max(16384).default(20),
  /** Who may log in over ssh: read at the instance's first boot only. */
  sshPublicKeys: z.array(publicKey).min(1),
});

const existing = z.strictObject({
  /** IPv4 address of a host that the operator already has, with Docker and OpenSSH. */
  address: z.ipv4(),
  /**
   * The host's ed25519 key, if known beforehand; otherwise what it shows at first contact is pinned. Pulumi's ssh
   * client prefers ECDSA keys: have the host offer only ed25519 (`HostKey /etc/ssh/ssh_host_ed25519_key`).
   */
  hostKey: hostKey.optional(),
  /** Any other number means: this is a new machine, build everything on it again. */
  generation: z.number().int().min(1).default(1),
});

const dns = z.discriminatedUnion("provider", [
  z.strictObject({ provider: z.literal("route53"), zoneId: z.string().min(1) }),
  z.strictObject({ provider: z.literal("zone-file") }),
]);

export const tenantSchema = z
  .object({
    domain: domain.describe("the tenant's mail domain; its host is mail.<domain>"),
    contactEmail: z.email().describe("whom to tell about the tenant's credentials"),
    provider: z
      .enum(["ec2", "existing"])
      .describe("ec2: an instance is made; existing: a host you already have"),
    ec2: ec2.optional().describe("the instance, with provider ec2: ami, availabilityZone, sshPublicKeys, …"),
    existing: existing.optional().describe("the host, with provider existing: address, hostKey, generation"),
    sshUser: z
      .string()
      .regex(/^[a-z_][a-z0-9_-]{0,31}$/, "takes a user's name")
      .default("root")
      .describe("who logs in over ssh: root, or a user that may run sudo without a password"),
    sshFrom: z
      .array(network)
      .default([])
      .describe("networks from which ssh is let in; required with provider ec2"),
    exemptNetworks: z
      .array(network)
      .min(1)
      .describe(
        "networks of operators and CI, exempt from Mailu's login limits so that nobody can block our proof",
      ),
    submission: z.boolean().default(false).describe("also open port 587 (STARTTLS), for old mail programs"),
    mtaSts: z.enum(["none", "testing", "enforce"]).default("testing").describe("mode of the MTA-STS policy"),
    dns: dns.describe('{"provider": "route53", "zoneId": "Z…"} or {"provider": "zone-file"}'),
  })
  .superRefine((config, context) => {
    const missing = (path: string[], message: string) => context.addIssue({ code: "custom", path, message });
    if (config.provider === "ec2") {
      if (config.ec2 === undefined) missing(["ec2"], "is needed with provider ec2");
      if (config.sshFrom.length === 0)
        missing(["sshFrom"], "is needed with provider ec2: the networks ssh is let in from");
    } else if (config.existing === undefined) missing(["existing"], "is needed with provider existing");
  });
export type TenantConfig = z.output<typeof tenantSchema>;
export type Ec2Config = z.output<typeof ec2>;
export type ExistingConfig = z.output<typeof existing>;
