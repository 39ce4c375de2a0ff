// What may reach an EC2 host: mail and web from everywhere, ssh from named networks, nothing else.
import { SecurityGroup } from "@pulumi/aws/ec2/securityGroup.js";
import type { Resource } from "@pulumi/pulumi";

export interface FirewallArgs {
  /** Networks in CIDR notation from which ssh is let in; never the whole internet. */
  sshFrom: readonly string[];
  /** Also open port 587. */
  submission: boolean;
  vpcId: string | undefined;
  tags: Record<string, string>;
}

const ANY_V4 = "0.0.0.0/0";
const ANY_V6 = "::/0";

/** Mail's ports: 80 and 443 for webmail, the API and mail programs' autoconfiguration. */
export const mailPorts = (submission: boolean): number[] => [
  25,
  80,
  443,
  465,
  ...(submission ? [587] : []),
  993,
];

/** Whatever else answers on a mail host is drift. */
export const declaredPorts = (submission: boolean): number[] => [22, ...mailPorts(submission)];

export function createFirewall(parent: Resource, args: FirewallArgs): SecurityGroup {
  return new SecurityGroup(
    "firewall",
    {
      description: "Mail and web from everywhere, ssh from the operators' networks",
      ...(args.vpcId === undefined ? {} : { vpcId: args.vpcId }),
      ingress: [
        ...mailPorts(args.submission).map((port) => tcp(port, [ANY_V4], [ANY_V6])),
        ssh(args.sshFrom),
      ],
      egress: [{ protocol: "-1", fromPort: 0, toPort: 0, cidrBlocks: [ANY_V4], ipv6CidrBlocks: [ANY_V6] }],
      tags: args.tags,
    },
    { parent },
  );
}

const isV6 = (network: string): boolean => network.includes(":");
const ssh = (networks: readonly string[]) =>
  tcp(
    22,
    networks.filter((network) => !isV6(network)),
    networks.filter(isV6),
  );

function tcp(port: number, cidrBlocks: string[], ipv6CidrBlocks: string[]) {
  return { protocol: "tcp", fromPort: port, toPort: port, cidrBlocks, ipv6CidrBlocks };
}
