// The rules inside a security group. EC2 groups and splits them as it likes, so they are compared as what they
// come down to: one protocol, port range and peer each.
import type { EC2, IpPermission } from "@aws-sdk/client-ec2";
import { flag, needed, number, objects, text, texts } from "../../protocol/props.ts";
import { equal, type Props } from "../../protocol/values.ts";

export type Way = "ingress" | "egress";

/** A rule that can't be split any further. */
interface Atom {
  protocol: string;
  from: number;
  to: number;
  peer: { CidrIp: string } | { CidrIpv6: string } | { GroupId: string } | { PrefixListId: string };
  description: string;
}

/** Brings a group's rules of one direction from `present` to what the inputs name. */
export async function setRules(
  client: EC2,
  GroupId: string,
  way: Way,
  present: Atom[],
  inputs: Props,
): Promise<void> {
  const wanted = fromPulumi(objects(inputs, way), GroupId);
  const missing = less(wanted, present).map(toEc2);
  const excess = less(present, wanted).map(toEc2);
  const [authorize, revoke] =
    way === "ingress"
      ? [client.authorizeSecurityGroupIngress.bind(client), client.revokeSecurityGroupIngress.bind(client)]
      : [client.authorizeSecurityGroupEgress.bind(client), client.revokeSecurityGroupEgress.bind(client)];
  if (missing.length > 0) await authorize({ GroupId, IpPermissions: missing });
  if (excess.length > 0) await revoke({ GroupId, IpPermissions: excess });
}

/** The state's own rules if EC2's come down to the same, else EC2's, one for each peer. */
export function rulesFor(found: IpPermission[] | undefined, id: string, state: Props, way: Way): unknown {
  const atoms = fromEc2(found);
  const mine = fromPulumi(objects(state, way), id);
  return less(atoms, mine).length === 0 && less(mine, atoms).length === 0 ? state[way] : atoms.map(toPulumi);
}

function fromPulumi(rules: Props[], self: string): Atom[] {
  return rules.flatMap((rule) => {
    const peers = [
      ...(texts(rule, "cidrBlocks") ?? []).map((CidrIp) => ({ CidrIp })),
      ...(texts(rule, "ipv6CidrBlocks") ?? []).map((CidrIpv6) => ({ CidrIpv6 })),
      ...(texts(rule, "securityGroups") ?? []).map((GroupId) => ({ GroupId })),
      ...(texts(rule, "prefixListIds") ?? []).map((PrefixListId) => ({ PrefixListId })),
      ...(flag(rule, "self") ? [{ GroupId: self }] : []),
    ];
    const protocol = needed(rule, "protocol");
    const ports = portsOf(protocol, number(rule, "fromPort"), number(rule, "toPort"));
    return peers.map((peer) => ({ protocol, ...ports, peer, description: text(rule, "description") ?? "" }));
  });
}

/** What EC2 says a group has. */
export function fromEc2(permissions: IpPermission[] | undefined): Atom[] {
  return (permissions ?? []).flatMap((permission) => {
    const protocol = permission.IpProtocol ?? "-1";
    const ports = portsOf(protocol, permission.FromPort, permission.ToPort);
    const atom = (peer: Atom["peer"], Description: string | undefined): Atom => ({
      protocol,
      ...ports,
      peer,
      description: Description ?? "",
    });
    return [
      ...(permission.IpRanges ?? []).map(({ CidrIp = "", Description }) => atom({ CidrIp }, Description)),
      ...(permission.Ipv6Ranges ?? []).map(({ CidrIpv6 = "", Description }) =>
        atom({ CidrIpv6 }, Description),
      ),
      ...(permission.UserIdGroupPairs ?? []).map(({ GroupId = "", Description }) =>
        atom({ GroupId }, Description),
      ),
      ...(permission.PrefixListIds ?? []).map(({ PrefixListId = "", Description }) =>
        atom({ PrefixListId }, Description),
      ),
    ];
  });
}

/** All protocols means all ports, however it's said. */
const portsOf = (protocol: string, from: number | undefined, to: number | undefined) =>
  protocol === "-1" ? { from: 0, to: 0 } : { from: from ?? 0, to: to ?? 0 };

function toEc2({ protocol, from, to, peer, description }: Atom): IpPermission {
  const described = { ...peer, ...(description ? { Description: description } : {}) };
  return {
    IpProtocol: protocol,
    ...(protocol === "-1" ? {} : { FromPort: from, ToPort: to }),
    ...("CidrIp" in peer ? { IpRanges: [described] } : {}),
    ...("CidrIpv6" in peer ? { Ipv6Ranges: [described] } : {}),
    ...("GroupId" in peer ? { UserIdGroupPairs: [described] } : {}),
    ...("PrefixListId" in peer ? { PrefixListIds: [described] } : {}),
  };
}

const toPulumi = ({ protocol, from, to, peer, description }: Atom): Props => ({
  protocol,
  fromPort: from,
  toPort: to,
  ...("CidrIp" in peer ? { cidrBlocks: [peer.CidrIp] } : {}),
  ...("CidrIpv6" in peer ? { ipv6CidrBlocks: [peer.CidrIpv6] } : {}),
  ...("GroupId" in peer ? { securityGroups: [peer.GroupId] } : {}),
  ...("PrefixListId" in peer ? { prefixListIds: [peer.PrefixListId] } : {}),
  ...(description ? { description } : {}),
});

const less = (atoms: Atom[], others: Atom[]): Atom[] =>
  atoms.filter((atom) => !others.some((other) => equal(atom, other)));
