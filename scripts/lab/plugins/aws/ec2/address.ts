// aws:ec2/eip:Eip and aws:ec2/eipAssociation:EipAssociation: an address outlives the instance that has it.
import type { Address, EC2, Filter } from "@aws-sdk/client-ec2";
import { flag, text } from "../../protocol/props.ts";
import type { Resource } from "../../protocol/resource.ts";
import { regionOf } from "../account.ts";
import { ec2, unlessGone } from "../client.ts";
import { tagOutputs } from "../tags.ts";
import { arnOf, tagSpecifications, updateTags } from "./shared.ts";

export const eip: Resource = {
  replaceOn: ["address", "domain", "networkBorderGroup", "publicIpv4Pool", "region"],
  computed: [
    "allocationId",
    "arn",
    "associationId",
    "domain",
    "instance",
    "networkInterface",
    "privateIp",
    "publicDns",
    "publicIp",
    "tagsAll",
  ],
  create: async (inputs, context) => {
    const client = await ec2(context, inputs);
    const { AllocationId } = await client.allocateAddress({
      Domain: "vpc",
      Address: text(inputs, "address"),
      TagSpecifications: tagSpecifications("elastic-ip", inputs, context),
    });
    if (AllocationId === undefined) throw new Error("EC2 allocated no address");
    const instance = text(inputs, "instance");
    if (instance !== undefined) await client.associateAddress({ AllocationId, InstanceId: instance });
    return { id: AllocationId };
  },
  read: async (id, state, context) => {
    const found = await describe(await ec2(context, state), "allocation-id", id);
    return (
      found && {
        allocationId: id,
        arn: await arnOf("elastic-ip", id, state, context),
        associationId: found.AssociationId ?? "",
        domain: found.Domain,
        instance: found.InstanceId ?? "",
        networkInterface: found.NetworkInterfaceId ?? "",
        privateIp: found.PrivateIpAddress,
        publicDns: found.PublicIp && `ec2-${found.PublicIp.replaceAll(".", "-")}.compute-1.amazonaws.com`,
        publicIp: found.PublicIp,
        region: regionOf(context, state),
        ...tagOutputs(found.Tags, state, context),
      }
    );
  },
  update: async (change, context) => {
    await updateTags(change, context);
    if (!change.changed.has("instance")) return undefined;
    const client = await ec2(context, change.inputs);
    const instance = text(change.inputs, "instance");
    if (instance === undefined) await disassociate(client, text(change.state, "associationId"));
    else
      await client.associateAddress({
        AllocationId: change.id,
        InstanceId: instance,
        AllowReassociation: true,
      });
    return undefined;
  },
  delete: async (id, state, context) => {
    const client = await ec2(context, state);
    const found = await describe(client, "allocation-id", id);
    if (found === undefined) return;
    await disassociate(client, found.AssociationId);
    await unlessGone(client.releaseAddress({ AllocationId: id }));
  },
};

export const eipAssociation: Resource = {
  replaceOn: ["*"],
  computed: ["allocationId", "instanceId", "networkInterfaceId", "privateIpAddress", "publicIp"],
  create: async (inputs, context) => {
    const client = await ec2(context, inputs);
    const { AssociationId } = await client.associateAddress({
      AllocationId: text(inputs, "allocationId"),
      PublicIp: text(inputs, "publicIp"),
      InstanceId: text(inputs, "instanceId"),
      NetworkInterfaceId: text(inputs, "networkInterfaceId"),
      AllowReassociation: flag(inputs, "allowReassociation"),
    });
    if (AssociationId === undefined) throw new Error("EC2 associated no address");
    return { id: AssociationId };
  },
  read: async (id, state, context) => {
    const found = await describe(await ec2(context, state), "association-id", id);
    return (
      found && {
        allocationId: found.AllocationId,
        instanceId: found.InstanceId,
        networkInterfaceId: found.NetworkInterfaceId,
        privateIpAddress: found.PrivateIpAddress,
        publicIp: found.PublicIp,
        region: regionOf(context, state),
      }
    );
  },
  delete: async (id, state, context) => {
    await disassociate(await ec2(context, state), id);
  },
};

/** By a filter, which answers with nothing where an id would be an error. */
async function describe(client: EC2, name: string, value: string): Promise<Address | undefined> {
  const Filters: Filter[] = [{ Name: name, Values: [value] }];
  return (await client.describeAddresses({ Filters })).Addresses?.[0];
}

/** Losing its instance has ended it already. */
async function disassociate(client: EC2, association: string | undefined): Promise<void> {
  if (association) await unlessGone(client.disassociateAddress({ AssociationId: association }));
}
