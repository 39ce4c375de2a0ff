// aws:route53/zone:Zone and aws:route53/record:Record.
import { randomUUID } from "node:crypto";
import type { ResourceRecordSet, Route53, RRType } from "@aws-sdk/client-route-53";
import { flag, needed, number, text, texts } from "../protocol/props.ts";
import type { Context, Resource } from "../protocol/resource.ts";
import type { Props } from "../protocol/values.ts";
import { route53, unlessGone } from "./client.ts";
import { asList, tagChanges, tagOutputs, wanted } from "./tags.ts";

export const zone: Resource = {
  replaceOn: ["delegationSetId", "name", "vpcs"],
  computed: ["arn", "nameServers", "primaryNameServer", "tagsAll", "zoneId"],
  defaults: () => ({ comment: "Managed by Pulumi", forceDestroy: false }),
  create: async (inputs, context) => {
    const client = await route53(context, inputs);
    const { HostedZone } = await client.createHostedZone({
      Name: needed(inputs, "name"),
      CallerReference: randomUUID(),
      HostedZoneConfig: { Comment: text(inputs, "comment") },
    });
    const id = bare(HostedZone?.Id ?? "");
    const AddTags = asList(wanted(inputs, context));
    if (AddTags.length > 0) {
      await client.changeTagsForResource({ ResourceType: "hostedzone", ResourceId: id, AddTags });
    }
    return { id };
  },
  read: async (id, state, context) => {
    const client = await route53(context, state);
    const found = await unlessGone(client.getHostedZone({ Id: id }));
    if (found?.HostedZone === undefined) return undefined;
    const tags = await client.listTagsForResource({ ResourceType: "hostedzone", ResourceId: id });
    const nameServers = [...(found.DelegationSet?.NameServers ?? [])].sort();
    return {
      arn: `arn:aws:route53:::hostedzone/${id}`,
      comment: found.HostedZone.Config?.Comment,
      name: undotted(found.HostedZone.Name ?? ""),
      nameServers,
      primaryNameServer: nameServers[0],
      zoneId: id,
      ...tagOutputs(tags.ResourceTagSet?.Tags, state, context),
    };
  },
  update: async (change, context) => {
    const client = await route53(context, change.inputs);
    if (change.changed.has("comment")) {
      await client.updateHostedZoneComment({ Id: change.id, Comment: text(change.inputs, "comment") ?? "" });
    }
    if (change.changed.has("tags")) {
      const { put, remove } = tagChanges(wanted(change.oldInputs, context), wanted(change.inputs, context));
      await client.changeTagsForResource({
        ResourceType: "hostedzone",
        ResourceId: change.id,
        ...(put.length > 0 ? { AddTags: put } : {}),
        ...(remove.length > 0 ? { RemoveTagKeys: remove } : {}),
      });
    }
    return undefined;
  },
  delete: async (id, state, context) => {
    const client = await route53(context, state);
    if (flag(state, "forceDestroy")) await empty(client, id);
    await unlessGone(client.deleteHostedZone({ Id: id }));
  },
};

async function empty(client: Route53, HostedZoneId: string): Promise<void> {
  const listed = await unlessGone(client.listResourceRecordSets({ HostedZoneId }));
  const own = (listed?.ResourceRecordSets ?? []).filter(({ Type }) => Type !== "NS" && Type !== "SOA");
  for (const ResourceRecordSet of own) {
    const ChangeBatch = { Changes: [{ Action: "DELETE" as const, ResourceRecordSet }] };
    await client.changeResourceRecordSets({ HostedZoneId, ChangeBatch });
  }
}

export const record: Resource = {
  replaceOn: ["name", "setIdentifier", "type", "zoneId"],
  computed: ["fqdn"],
  sets: ["records"],
  problems: (inputs) =>
    Object.fromEntries(
      ["aliases", "failoverRoutingPolicies", "latencyRoutingPolicies", "weightedRoutingPolicies"]
        .filter((key) => inputs[key] !== undefined)
        .map((key) => [key, "the lab's aws provider has simple records only"]),
    ),
  create: async (inputs, context) => {
    // A record that somebody made by hand isn't taken over unasked.
    await change(flag(inputs, "allowOverwrite") ? "UPSERT" : "CREATE", inputs, context);
    return { id: `${needed(inputs, "zoneId")}_${needed(inputs, "name")}_${needed(inputs, "type")}` };
  },
  read: async (_id, state, context) => {
    const client = await route53(context, state);
    const name = await fullName(client, state);
    const listed = await unlessGone(
      client.listResourceRecordSets({
        HostedZoneId: needed(state, "zoneId"),
        StartRecordName: name,
        StartRecordType: needed(state, "type") as RRType,
        MaxItems: 1,
      }),
    );
    const found = listed?.ResourceRecordSets?.[0];
    if (found === undefined || decoded(found) !== name || found.Type !== state.type) return undefined;
    return {
      fqdn: name,
      records: (found.ResourceRecords ?? []).map(({ Value = "" }) => unquoted(Value, found)),
      ttl: found.TTL,
      type: found.Type,
    };
  },
  update: async ({ inputs }, context) => {
    await change("UPSERT", inputs, context);
    return undefined;
  },
  delete: async (_id, state, context) => {
    try {
      await unlessGone(change("DELETE", state, context));
    } catch (error) {
      // Deleting takes the very values; without them, or without the record, there's nothing of ours left.
      if (!(error instanceof Error) || !/not found|values provided do not match/.test(error.message))
        throw error;
    }
  },
};

async function change(
  Action: "CREATE" | "UPSERT" | "DELETE",
  inputs: Props,
  context: Context,
): Promise<object> {
  const client = await route53(context, inputs);
  const Type = needed(inputs, "type") as RRType;
  const ResourceRecordSet: ResourceRecordSet = {
    Name: await fullName(client, inputs),
    Type,
    TTL: number(inputs, "ttl"),
    SetIdentifier: text(inputs, "setIdentifier"),
    ResourceRecords: (texts(inputs, "records") ?? []).map((value) => ({ Value: quoted(value, Type) })),
  };
  return client.changeResourceRecordSets({
    HostedZoneId: needed(inputs, "zoneId"),
    ChangeBatch: { Changes: [{ Action, ResourceRecordSet }] },
  });
}

/** A name that doesn't end with the zone's is relative to it. */
async function fullName(client: Route53, props: Props): Promise<string> {
  const name = undotted(needed(props, "name")).toLowerCase();
  const { HostedZone } = await client.getHostedZone({ Id: needed(props, "zoneId") });
  const zoneName = undotted(HostedZone?.Name ?? "");
  if (name === "" || name === zoneName) return zoneName;
  return name.endsWith(`.${zoneName}`) ? name : `${name}.${zoneName}`;
}

/** The provider, not the program, puts the quotes around a TXT value. */
const quoted = (value: string, type: string | undefined): string =>
  type === "TXT" || type === "SPF" ? `"${value}"` : value;
const unquoted = (value: string, { Type }: ResourceRecordSet): string =>
  Type === "TXT" || Type === "SPF" ? value.replace(/^"|"$/g, "") : value;

const decoded = ({ Name = "" }: ResourceRecordSet): string =>
  undotted(Name).replaceAll("\\052", "*").toLowerCase();
const undotted = (name: string): string => name.replace(/\.$/, "");
const bare = (id: string): string => id.replace(/^\/hostedzone\//, "");
