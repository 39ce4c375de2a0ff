// aws:ec2/securityGroup:SecurityGroup, with its rules inside it.
import type { EC2, SecurityGroup } from "@aws-sdk/client-ec2";
import { needed, text } from "../../protocol/props.ts";
import type { Change, Context, Resource } from "../../protocol/resource.ts";
import { regionOf } from "../account.ts";
import { ec2, unlessGone } from "../client.ts";
import { tagOutputs } from "../tags.ts";
import { fromEc2, rulesFor, setRules } from "./rules.ts";
import { arnOf, tagSpecifications, until, updateTags } from "./shared.ts";

export const securityGroup: Resource = {
  replaceOn: ["description", "name", "namePrefix", "region", "vpcId"],
  computed: ["arn", "egress", "ingress", "ownerId", "tagsAll", "vpcId"],
  sets: ["egress", "ingress"],
  generated: "name",
  defaults: () => ({ description: "Managed by Pulumi", revokeRulesOnDelete: false }),
  create: async (inputs, context) => {
    const client = await ec2(context, inputs);
    const { GroupId } = await client.createSecurityGroup({
      GroupName: needed(inputs, "name"),
      Description: needed(inputs, "description"),
      VpcId: text(inputs, "vpcId"),
      TagSpecifications: tagSpecifications("security-group", inputs, context),
    });
    if (GroupId === undefined) throw new Error("EC2 created no security group");
    // EC2 lets a new group talk to everyone; Pulumi's has only the rules it names.
    const IpPermissions = (await describe(client, GroupId))?.IpPermissionsEgress;
    if (IpPermissions?.length) await client.revokeSecurityGroupEgress({ GroupId, IpPermissions });
    await setRules(client, GroupId, "ingress", [], inputs);
    await setRules(client, GroupId, "egress", [], inputs);
    return { id: GroupId };
  },
  read: async (id, state, context) => {
    const found = await describe(await ec2(context, state), id);
    if (found === undefined) return undefined;
    return {
      arn: await arnOf("security-group", id, state, context),
      description: found.Description,
      egress: rulesFor(found.IpPermissionsEgress, id, state, "egress"),
      ingress: rulesFor(found.IpPermissions, id, state, "ingress"),
      name: found.GroupName,
      ownerId: found.OwnerId,
      region: regionOf(context, state),
      vpcId: found.VpcId,
      ...tagOutputs(found.Tags, state, context),
    };
  },
  update: async (change: Change, context: Context) => {
    await updateTags(change, context);
    const client = await ec2(context, change.inputs);
    const found = await describe(client, change.id);
    const present = { ingress: found?.IpPermissions, egress: found?.IpPermissionsEgress };
    for (const way of ["ingress", "egress"] as const) {
      if (change.changed.has(way)) {
        await setRules(client, change.id, way, fromEc2(present[way]), change.inputs);
      }
    }
    return undefined;
  },
  delete: async (id, state, context) => {
    const client = await ec2(context, state);
    // A terminated instance lets go of its groups a little later.
    const removed = async () => {
      try {
        await unlessGone(client.deleteSecurityGroup({ GroupId: id }));
        return true;
      } catch (error) {
        if (error instanceof Error && error.name === "DependencyViolation") return false;
        throw error;
      }
    };
    await until(`${id} to be used by nobody`, removed, context);
  },
};

async function describe(client: EC2, id: string): Promise<SecurityGroup | undefined> {
  return (await unlessGone(client.describeSecurityGroups({ GroupIds: [id] })))?.SecurityGroups?.[0];
}
