// aws:ec2/keyPair:KeyPair.
import { needed } from "../../protocol/props.ts";
import type { Resource } from "../../protocol/resource.ts";
import { regionOf } from "../account.ts";
import { ec2, unlessGone } from "../client.ts";
import { tagOutputs } from "../tags.ts";
import { arnOf, tagSpecifications, updateTags } from "./shared.ts";

export const keyPair: Resource = {
  replaceOn: ["keyName", "keyNamePrefix", "publicKey", "region"],
  computed: ["arn", "fingerprint", "keyPairId", "keyType", "tagsAll"],
  generated: "keyName",
  create: async (inputs, context) => {
    const name = needed(inputs, "keyName");
    await (await ec2(context, inputs)).importKeyPair({
      KeyName: name,
      PublicKeyMaterial: Buffer.from(needed(inputs, "publicKey")),
      TagSpecifications: tagSpecifications("key-pair", inputs, context),
    });
    return { id: name };
  },
  read: async (id, state, context) => {
    const client = await ec2(context, state);
    const found = (await unlessGone(client.describeKeyPairs({ KeyNames: [id] })))?.KeyPairs?.[0];
    return (
      found && {
        arn: await arnOf("key-pair", id, state, context),
        fingerprint: found.KeyFingerprint,
        keyName: found.KeyName,
        keyPairId: found.KeyPairId,
        keyType: found.KeyType,
        region: regionOf(context, state),
        ...tagOutputs(found.Tags, state, context),
      }
    );
  },
  update: async (change, context) => {
    await updateTags({ ...change, id: String(change.state.keyPairId) }, context);
    return undefined;
  },
  delete: async (id, state, context) => {
    await unlessGone((await ec2(context, state)).deleteKeyPair({ KeyName: id }));
  },
};
