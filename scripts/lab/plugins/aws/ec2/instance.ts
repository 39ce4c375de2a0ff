// aws:ec2/instance:Instance. One that is terminated, or about to be, is gone: this is how a lost VPS is noticed.
import type { _InstanceType, EC2, Instance } from "@aws-sdk/client-ec2";
import { flag, number, object, text, texts } from "../../protocol/props.ts";
import type { Change, Context, Resource } from "../../protocol/resource.ts";
import type { Props } from "../../protocol/values.ts";
import { regionOf } from "../account.ts";
import { ec2, unlessGone } from "../client.ts";
import { tagOutputs } from "../tags.ts";
import { arnOf, tagSpecifications, until, updateTags } from "./shared.ts";

export const instance: Resource = {
  replaceOn: [
    "ami",
    "associatePublicIpAddress",
    "availabilityZone",
    "keyName",
    "placementGroup",
    "privateIp",
    "region",
    "securityGroups",
    "subnetId",
    "tenancy",
  ],
  replaceAlso: (inputs) => (flag(inputs, "userDataReplaceOnChange") ? ["userData", "userDataBase64"] : []),
  computed: [
    "arn",
    "instanceState",
    "primaryNetworkInterfaceId",
    "privateDns",
    "publicDns",
    "publicIp",
    "tagsAll",
    // Asked for or given by EC2.
    "availabilityZone",
    "privateIp",
    "subnetId",
    "vpcSecurityGroupIds",
  ],
  sets: ["vpcSecurityGroupIds", "securityGroups"],
  defaults: (inputs) => ({
    ...(inputs.instanceType === undefined ? {} : { userDataReplaceOnChange: false }),
  }),
  create: async (inputs, context) => {
    const client = await ec2(context, inputs);
    const answer = await client.runInstances({
      MinCount: 1,
      MaxCount: 1,
      ImageId: text(inputs, "ami"),
      InstanceType: text(inputs, "instanceType") as _InstanceType | undefined,
      KeyName: text(inputs, "keyName"),
      SubnetId: text(inputs, "subnetId"),
      SecurityGroupIds: texts(inputs, "vpcSecurityGroupIds"),
      SecurityGroups: texts(inputs, "securityGroups"),
      PrivateIpAddress: text(inputs, "privateIp"),
      DisableApiTermination: flag(inputs, "disableApiTermination"),
      EbsOptimized: flag(inputs, "ebsOptimized"),
      UserData: userData(inputs),
      ...(text(inputs, "availabilityZone") === undefined
        ? {}
        : { Placement: { AvailabilityZone: text(inputs, "availabilityZone") } }),
      ...(await blockDevices(client, inputs)),
      TagSpecifications: tagSpecifications("instance", inputs, context),
    });
    const id = answer.Instances?.[0]?.InstanceId;
    if (id === undefined) throw new Error("EC2 started no instance");
    return { id };
  },
  ready: async (id, inputs, context) => reach(await ec2(context, inputs), id, "running", context),
  read: async (id, state, context) => {
    const found = await describe(await ec2(context, state), id);
    if (found === undefined || isEnding(found)) return undefined;
    return {
      ami: found.ImageId,
      arn: await arnOf("instance", id, state, context),
      availabilityZone: found.Placement?.AvailabilityZone,
      instanceState: found.State?.Name,
      instanceType: found.InstanceType,
      keyName: found.KeyName,
      primaryNetworkInterfaceId: found.NetworkInterfaces?.[0]?.NetworkInterfaceId,
      privateDns: found.PrivateDnsName,
      privateIp: found.PrivateIpAddress,
      publicDns: found.PublicDnsName,
      publicIp: found.PublicIpAddress,
      region: regionOf(context, state),
      subnetId: found.SubnetId,
      vpcSecurityGroupIds: (found.SecurityGroups ?? []).map(({ GroupId }) => GroupId ?? ""),
      ...tagOutputs(found.Tags, state, context),
    };
  },
  update: async (change, context) => {
    const client = await ec2(context, change.inputs);
    await updateTags(change, context);
    await updateOnline(client, change);
    await updateStopped(client, change, context);
    return undefined;
  },
  delete: async (id, state, context) => {
    const client = await ec2(context, state);
    await unlessGone(client.terminateInstances({ InstanceIds: [id] }));
    const isGone = async () => {
      const found = await describe(client, id);
      return found === undefined || found.State?.Name === "terminated";
    };
    await until(`${id} to be terminated`, isGone, context);
  },
};

async function updateOnline(client: EC2, { id, inputs, changed }: Change): Promise<void> {
  if (changed.has("vpcSecurityGroupIds")) {
    await client.modifyInstanceAttribute({
      InstanceId: id,
      Groups: texts(inputs, "vpcSecurityGroupIds") ?? [],
    });
  }
  if (changed.has("disableApiTermination")) {
    const Value = flag(inputs, "disableApiTermination") ?? false;
    await client.modifyInstanceAttribute({ InstanceId: id, DisableApiTermination: { Value } });
  }
}

/** What EC2 changes only on a stopped instance. */
async function updateStopped(client: EC2, { id, inputs, changed }: Change, context: Context): Promise<void> {
  const type = changed.has("instanceType");
  const data = changed.has("userData") || changed.has("userDataBase64");
  if (!type && !data) return;
  await client.stopInstances({ InstanceIds: [id] });
  await reach(client, id, "stopped", context);
  if (type) {
    await client.modifyInstanceAttribute({
      InstanceId: id,
      InstanceType: { Value: text(inputs, "instanceType") },
    });
  }
  if (data) {
    const Value = Buffer.from(userData(inputs) ?? "", "base64");
    await client.modifyInstanceAttribute({ InstanceId: id, UserData: { Value } });
  }
  await client.startInstances({ InstanceIds: [id] });
  await reach(client, id, "running", context);
}

async function describe(client: EC2, id: string): Promise<Instance | undefined> {
  const answer = await unlessGone(client.describeInstances({ InstanceIds: [id] }));
  return answer?.Reservations?.[0]?.Instances?.[0];
}

const isEnding = ({ State }: Instance): boolean =>
  State?.Name === "terminated" || State?.Name === "shutting-down";

async function reach(client: EC2, id: string, state: string, context: Context): Promise<void> {
  const reached = async () => {
    const found = await describe(client, id);
    if (found && isEnding(found))
      throw new Error(`${id} is ${found.State?.Name}: ${found.StateReason?.Message ?? ""}`);
    return found?.State?.Name === state;
  };
  await until(`${id} to be ${state}`, reached, context);
}

const userData = (inputs: Props): string | undefined => {
  const plain = text(inputs, "userData");
  return plain === undefined ? text(inputs, "userDataBase64") : Buffer.from(plain).toString("base64");
};

/** The size is the image's unless one is asked for; moto doesn't look it up. */
const ROOT_GIB = 8;

async function blockDevices(client: EC2, inputs: Props) {
  const root = object(inputs, "rootBlockDevice");
  if (root === undefined) return {};
  const { Images } = await client.describeImages({ ImageIds: [text(inputs, "ami") ?? ""] });
  return {
    BlockDeviceMappings: [
      {
        DeviceName: Images?.[0]?.RootDeviceName ?? "/dev/sda1",
        Ebs: {
          VolumeSize: number(root, "volumeSize") ?? ROOT_GIB,
          VolumeType: text(root, "volumeType") as "gp3" | undefined,
          Encrypted: flag(root, "encrypted"),
          KmsKeyId: text(root, "kmsKeyId"),
          DeleteOnTermination: flag(root, "deleteOnTermination") ?? true,
        },
      },
    ],
  };
}
