// aws:kms/key:Key and aws:kms/alias:Alias. A key that is waiting for its deletion is gone.
import type { KeySpec, KeyUsageType, KMS } from "@aws-sdk/client-kms";
import { flag, needed, number, text } from "../protocol/props.ts";
import type { Change, Resource } from "../protocol/resource.ts";
import type { Props } from "../protocol/values.ts";
import { regionOf } from "./account.ts";
import { kms, unlessGone } from "./client.ts";
import { tagChanges, tagOutputs, wanted } from "./tags.ts";

export const key: Resource = {
  replaceOn: ["customKeyStoreId", "customerMasterKeySpec", "keyUsage", "multiRegion", "region", "xksKeyId"],
  computed: ["arn", "description", "keyId", "multiRegion", "policy", "rotationPeriodInDays", "tagsAll"],
  json: ["policy"],
  defaults: () => ({
    customerMasterKeySpec: "SYMMETRIC_DEFAULT",
    isEnabled: true,
    keyUsage: "ENCRYPT_DECRYPT",
  }),
  create: async (inputs, context) => {
    const client = await kms(context, inputs);
    const { KeyMetadata } = await client.createKey({
      Description: text(inputs, "description"),
      KeySpec: text(inputs, "customerMasterKeySpec") as KeySpec | undefined,
      KeyUsage: text(inputs, "keyUsage") as KeyUsageType | undefined,
      MultiRegion: flag(inputs, "multiRegion"),
      Policy: text(inputs, "policy"),
      BypassPolicyLockoutSafetyCheck: flag(inputs, "bypassPolicyLockoutSafetyCheck"),
      Tags: asKmsTags(wanted(inputs, context)),
    });
    const id = KeyMetadata?.KeyId;
    if (id === undefined) throw new Error("KMS created no key");
    if (flag(inputs, "enableKeyRotation")) await rotate(client, id, inputs);
    if (flag(inputs, "isEnabled") === false) await client.disableKey({ KeyId: id });
    return { id };
  },
  read: async (id, state, context) => {
    const client = await kms(context, state);
    const found = (await unlessGone(client.describeKey({ KeyId: id })))?.KeyMetadata;
    if (found === undefined || found.KeyState === "PendingDeletion") return undefined;
    const { Policy } = await client.getKeyPolicy({ KeyId: id, PolicyName: "default" });
    const { Tags } = await client.listResourceTags({ KeyId: id });
    const symmetric = found.KeySpec === "SYMMETRIC_DEFAULT";
    const rotation = symmetric ? await client.getKeyRotationStatus({ KeyId: id }) : undefined;
    const rotates = rotation?.KeyRotationEnabled ?? false;
    return {
      arn: found.Arn,
      customerMasterKeySpec: found.KeySpec,
      description: found.Description || undefined,
      enableKeyRotation: rotates || (state.enableKeyRotation === undefined ? undefined : false),
      isEnabled: found.Enabled,
      keyId: id,
      keyUsage: found.KeyUsage,
      multiRegion: found.MultiRegion ?? false,
      policy: Policy,
      region: regionOf(context, state),
      rotationPeriodInDays: rotates ? rotation?.RotationPeriodInDays : undefined,
      ...tagOutputs(fromKmsTags(Tags), state, context),
    };
  },
  update: async (change, context) => {
    const client = await kms(context, change.inputs);
    await updateKey(client, change);
    if (change.changed.has("tags")) {
      const { put, remove } = tagChanges(wanted(change.oldInputs, context), wanted(change.inputs, context));
      if (remove.length > 0) await client.untagResource({ KeyId: change.id, TagKeys: remove });
      if (put.length > 0) {
        const Tags = put.map(({ Key, Value }) => ({ TagKey: Key, TagValue: Value }));
        await client.tagResource({ KeyId: change.id, Tags });
      }
    }
    return undefined;
  },
  delete: async (id, state, context) => {
    const PendingWindowInDays = number(state, "deletionWindowInDays") ?? 30;
    await unlessGone((await kms(context, state)).scheduleKeyDeletion({ KeyId: id, PendingWindowInDays }));
  },
};

async function updateKey(client: KMS, { id: KeyId, inputs, changed }: Change): Promise<void> {
  // A disabled key takes no other change.
  if (changed.has("isEnabled") && flag(inputs, "isEnabled")) await client.enableKey({ KeyId });
  if (changed.has("description")) {
    await client.updateKeyDescription({ KeyId, Description: text(inputs, "description") ?? "" });
  }
  if (changed.has("policy") && inputs.policy !== undefined) {
    await client.putKeyPolicy({ KeyId, PolicyName: "default", Policy: needed(inputs, "policy") });
  }
  if (changed.has("enableKeyRotation") || changed.has("rotationPeriodInDays")) {
    if (flag(inputs, "enableKeyRotation")) await rotate(client, KeyId, inputs);
    else await client.disableKeyRotation({ KeyId });
  }
  if (changed.has("isEnabled") && flag(inputs, "isEnabled") === false) await client.disableKey({ KeyId });
}

const rotate = (client: KMS, KeyId: string, inputs: Props) =>
  client.enableKeyRotation({ KeyId, RotationPeriodInDays: number(inputs, "rotationPeriodInDays") });

const asKmsTags = (tags: Record<string, string>) =>
  Object.entries(tags).map(([TagKey, TagValue]) => ({ TagKey, TagValue }));

const fromKmsTags = (
  tags: readonly { TagKey?: string | undefined; TagValue?: string | undefined }[] | undefined,
) => tags?.map(({ TagKey, TagValue }) => ({ Key: TagKey, Value: TagValue }));

export const alias: Resource = {
  replaceOn: ["name", "namePrefix", "region"],
  computed: ["arn", "targetKeyArn"],
  defaults: (_inputs, name) => ({ name: `alias/${name}` }),
  create: async (inputs, context) => {
    const name = needed(inputs, "name");
    await (await kms(context, inputs)).createAlias({
      AliasName: name,
      TargetKeyId: needed(inputs, "targetKeyId"),
    });
    return { id: name };
  },
  read: async (id, state, context) => {
    const client = await kms(context, state);
    for (let Marker: string | undefined; ; ) {
      const page = await client.listAliases({ Marker });
      const found = page.Aliases?.find(({ AliasName }) => AliasName === id);
      if (found?.TargetKeyId) {
        // An ARN that names the same key is the same target.
        const written = text(state, "targetKeyId") ?? "";
        return {
          arn: found.AliasArn,
          name: id,
          region: regionOf(context, state),
          targetKeyArn: found.AliasArn?.replace(/:alias\/.*/, `:key/${found.TargetKeyId}`),
          targetKeyId: written.endsWith(found.TargetKeyId) ? written : found.TargetKeyId,
        };
      }
      if (!page.NextMarker) return undefined;
      Marker = page.NextMarker;
    }
  },
  update: async ({ id, inputs }, context) => {
    await (await kms(context, inputs)).updateAlias({
      AliasName: id,
      TargetKeyId: needed(inputs, "targetKeyId"),
    });
    return undefined;
  },
  delete: async (id, state, context) => {
    await unlessGone((await kms(context, state)).deleteAlias({ AliasName: id }));
  },
};
