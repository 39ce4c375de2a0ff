// aws:vpc/securityGroupIngressRule and …EgressRule: single rules of a group that names none itself.
import type { EC2, IpPermission, SecurityGroupRule, SecurityGroupRuleRequest } from "@aws-sdk/client-ec2";
import { needed, number, text } from "../../protocol/props.ts";
import type { Resource } from "../../protocol/resource.ts";
import type { Props } from "../../protocol/values.ts";
import { regionOf } from "../account.ts";
import { ec2, unlessGone } from "../client.ts";
import { tagOutputs } from "../tags.ts";
import { arnOf, tagSpecifications, updateTags } from "./shared.ts";

export const ingressRule: Resource = ruleResource("ingress");
export const egressRule: Resource = ruleResource("egress");

function ruleResource(way: "ingress" | "egress"): Resource {
  return {
    replaceOn: ["region", "securityGroupId"],
    computed: ["arn", "securityGroupRuleId", "tagsAll"],
    create: async (inputs, context) => {
      const client = await ec2(context, inputs);
      const request = {
        GroupId: needed(inputs, "securityGroupId"),
        IpPermissions: [permission(inputs)],
        TagSpecifications: tagSpecifications("security-group-rule", inputs, context),
      };
      const { SecurityGroupRules } =
        way === "ingress"
          ? await client.authorizeSecurityGroupIngress(request)
          : await client.authorizeSecurityGroupEgress(request);
      const id = SecurityGroupRules?.[0]?.SecurityGroupRuleId;
      if (id === undefined) throw new Error("EC2 made no rule");
      return { id };
    },
    read: async (id, state, context) => {
      const found = await describe(await ec2(context, state), id);
      return (
        found && {
          arn: await arnOf("security-group-rule", id, state, context),
          cidrIpv4: found.CidrIpv4,
          cidrIpv6: found.CidrIpv6,
          description: found.Description || undefined,
          fromPort: found.IpProtocol === "-1" ? undefined : found.FromPort,
          ipProtocol: found.IpProtocol,
          prefixListId: found.PrefixListId,
          referencedSecurityGroupId: found.ReferencedGroupInfo?.GroupId,
          region: regionOf(context, state),
          securityGroupId: found.GroupId,
          securityGroupRuleId: id,
          toPort: found.IpProtocol === "-1" ? undefined : found.ToPort,
          ...tagOutputs(found.Tags, state, context),
        }
      );
    },
    update: async (change, context) => {
      await updateTags(change, context);
      const rest = [...change.changed].some((key) => key !== "tags");
      if (rest) {
        await (await ec2(context, change.inputs)).modifySecurityGroupRules({
          GroupId: needed(change.inputs, "securityGroupId"),
          SecurityGroupRules: [{ SecurityGroupRuleId: change.id, SecurityGroupRule: request(change.inputs) }],
        });
      }
      return undefined;
    },
    delete: async (id, state, context) => {
      const client = await ec2(context, state);
      const rule = { GroupId: needed(state, "securityGroupId"), SecurityGroupRuleIds: [id] };
      if (way === "ingress") await unlessGone(client.revokeSecurityGroupIngress(rule));
      else await unlessGone(client.revokeSecurityGroupEgress(rule));
    },
  };
}

const request = (inputs: Props): SecurityGroupRuleRequest => ({
  IpProtocol: needed(inputs, "ipProtocol"),
  FromPort: number(inputs, "fromPort"),
  ToPort: number(inputs, "toPort"),
  CidrIpv4: text(inputs, "cidrIpv4"),
  CidrIpv6: text(inputs, "cidrIpv6"),
  PrefixListId: text(inputs, "prefixListId"),
  ReferencedGroupId: text(inputs, "referencedSecurityGroupId"),
  Description: text(inputs, "description"),
});

function permission(inputs: Props): IpPermission {
  const { IpProtocol, FromPort, ToPort, CidrIpv4, CidrIpv6, PrefixListId, ReferencedGroupId, Description } =
    request(inputs);
  return {
    IpProtocol,
    FromPort,
    ToPort,
    ...(CidrIpv4 === undefined ? {} : { IpRanges: [{ CidrIp: CidrIpv4, Description }] }),
    ...(CidrIpv6 === undefined ? {} : { Ipv6Ranges: [{ CidrIpv6, Description }] }),
    ...(PrefixListId === undefined ? {} : { PrefixListIds: [{ PrefixListId, Description }] }),
    ...(ReferencedGroupId === undefined
      ? {}
      : { UserIdGroupPairs: [{ GroupId: ReferencedGroupId, Description }] }),
  };
}

async function describe(client: EC2, id: string): Promise<SecurityGroupRule | undefined> {
  const answer = await unlessGone(client.describeSecurityGroupRules({ SecurityGroupRuleIds: [id] }));
  return answer?.SecurityGroupRules?.find(({ SecurityGroupRuleId }) => SecurityGroupRuleId === id);
}
