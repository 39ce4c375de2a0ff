// aws:ebs/volume:Volume and aws:ec2/volumeAttachment:VolumeAttachment: data that outlives the instance it's on.
import { createHash } from "node:crypto";
import type { EC2, Volume, VolumeType } from "@aws-sdk/client-ec2";
import { flag, needed, number, text } from "../../protocol/props.ts";
import type { Context, Resource } from "../../protocol/resource.ts";
import type { Props } from "../../protocol/values.ts";
import { regionOf } from "../account.ts";
import { ec2, unlessGone } from "../client.ts";
import { tagOutputs } from "../tags.ts";
import { arnOf, tagSpecifications, until, updateTags } from "./shared.ts";

export const volume: Resource = {
  replaceOn: [
    "availabilityZone",
    "encrypted",
    "kmsKeyId",
    "multiAttachEnabled",
    "outpostArn",
    "region",
    "snapshotId",
  ],
  computed: ["arn", "createTime", "encrypted", "iops", "kmsKeyId", "size", "tagsAll", "throughput", "type"],
  create: async (inputs, context) => {
    const client = await ec2(context, inputs);
    const { VolumeId } = await client.createVolume({
      AvailabilityZone: needed(inputs, "availabilityZone"),
      Encrypted: flag(inputs, "encrypted"),
      Iops: number(inputs, "iops"),
      KmsKeyId: text(inputs, "kmsKeyId"),
      MultiAttachEnabled: flag(inputs, "multiAttachEnabled"),
      Size: number(inputs, "size"),
      SnapshotId: text(inputs, "snapshotId"),
      Throughput: number(inputs, "throughput"),
      VolumeType: text(inputs, "type") as VolumeType | undefined,
      TagSpecifications: tagSpecifications("volume", inputs, context),
    });
    if (VolumeId === undefined) throw new Error("EC2 created no volume");
    await available(client, VolumeId, context);
    return { id: VolumeId };
  },
  read: async (id, state, context) => {
    const found = await describe(await ec2(context, state), id);
    if (found === undefined || found.State === "deleting" || found.State === "deleted") return undefined;
    return {
      arn: await arnOf("volume", id, state, context),
      availabilityZone: found.AvailabilityZone,
      createTime: found.CreateTime?.toISOString(),
      encrypted: found.Encrypted ?? false,
      iops: found.Iops,
      kmsKeyId: found.KmsKeyId,
      region: regionOf(context, state),
      size: found.Size,
      throughput: found.Throughput,
      type: found.VolumeType,
      ...tagOutputs(found.Tags, state, context),
    };
  },
  update: async (change, context) => {
    await updateTags(change, context);
    if (["iops", "size", "throughput", "type"].some((key) => change.changed.has(key))) {
      await (await ec2(context, change.inputs)).modifyVolume({
        VolumeId: change.id,
        Iops: number(change.inputs, "iops"),
        Size: number(change.inputs, "size"),
        Throughput: number(change.inputs, "throughput"),
        VolumeType: text(change.inputs, "type") as VolumeType | undefined,
      });
    }
    return undefined;
  },
  delete: async (id, state, context) => {
    await unlessGone((await ec2(context, state)).deleteVolume({ VolumeId: id }));
  },
};

export const volumeAttachment: Resource = {
  replaceOn: ["deviceName", "instanceId", "region", "volumeId"],
  create: async (inputs, context) => {
    const client = await ec2(context, inputs);
    const [device, instance, volumeId] = partsOf(inputs);
    // Attached already where an engine was killed before it could note that.
    if (!isAttached(await describe(client, volumeId), instance)) {
      await available(client, volumeId, context);
      await client.attachVolume({ Device: device, InstanceId: instance, VolumeId: volumeId });
    }
    await until(
      `${volumeId} to be attached`,
      async () => isAttached(await describe(client, volumeId), instance),
      context,
    );
    const hash = createHash("sha256").update([device, instance, volumeId].join("\n")).digest("hex");
    return { id: `vai-${hash.slice(0, 10)}` };
  },
  read: async (_id, state, context) => {
    const [deviceName, instanceId, volumeId] = partsOf(state);
    const found = await describe(await ec2(context, state), volumeId);
    if (!isAttached(found, instanceId)) return undefined;
    return { deviceName, instanceId, volumeId, region: regionOf(context, state) };
  },
  // What is left says only how it is to be detached.
  update: async () => undefined,
  delete: async (_id, state, context) => {
    if (flag(state, "skipDestroy")) return;
    const client = await ec2(context, state);
    const [device, instance, volumeId] = partsOf(state);
    if (!isAttached(await describe(client, volumeId), instance)) return;
    const Force = flag(state, "forceDetach");
    await unlessGone(
      client.detachVolume({ Device: device, InstanceId: instance, VolumeId: volumeId, Force }),
    );
    await available(client, volumeId, context);
  },
};

const partsOf = (props: Props): [device: string, instance: string, volume: string] => [
  needed(props, "deviceName"),
  needed(props, "instanceId"),
  needed(props, "volumeId"),
];

const isAttached = (found: Volume | undefined, instance: string): boolean =>
  found?.Attachments?.some(({ InstanceId, State }) => InstanceId === instance && State === "attached") ??
  false;

async function describe(client: EC2, id: string): Promise<Volume | undefined> {
  return (await unlessGone(client.describeVolumes({ VolumeIds: [id] })))?.Volumes?.[0];
}

async function available(client: EC2, id: string, context: Context): Promise<void> {
  await until(
    `${id} to be available`,
    async () => (await describe(client, id))?.State === "available",
    context,
  );
}
