// aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock.
import { flag, needed } from "../../protocol/props.ts";
import type { Context, Resource } from "../../protocol/resource.ts";
import type { Props } from "../../protocol/values.ts";
import { s3, unlessGone } from "../client.ts";

const BLOCKS = ["blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"] as const;

export const bucketPublicAccessBlock: Resource = {
  replaceOn: ["bucket", "region"],
  defaults: () => Object.fromEntries(BLOCKS.map((key) => [key, false])),
  create: async (inputs, context) => {
    await block(inputs, context);
    return { id: needed(inputs, "bucket") };
  },
  read: async (id, state, context) => {
    const client = await s3(context, state);
    const found = (await unlessGone(client.getPublicAccessBlock({ Bucket: id })))
      ?.PublicAccessBlockConfiguration;
    return (
      found && {
        bucket: id,
        blockPublicAcls: found.BlockPublicAcls,
        blockPublicPolicy: found.BlockPublicPolicy,
        ignorePublicAcls: found.IgnorePublicAcls,
        restrictPublicBuckets: found.RestrictPublicBuckets,
      }
    );
  },
  update: async ({ inputs }, context) => {
    await block(inputs, context);
    return undefined;
  },
  delete: async (id, state, context) => {
    await unlessGone((await s3(context, state)).deletePublicAccessBlock({ Bucket: id }));
  },
};

async function block(inputs: Props, context: Context): Promise<void> {
  await (await s3(context, inputs)).putPublicAccessBlock({
    Bucket: needed(inputs, "bucket"),
    PublicAccessBlockConfiguration: {
      BlockPublicAcls: flag(inputs, "blockPublicAcls"),
      BlockPublicPolicy: flag(inputs, "blockPublicPolicy"),
      IgnorePublicAcls: flag(inputs, "ignorePublicAcls"),
      RestrictPublicBuckets: flag(inputs, "restrictPublicBuckets"),
    },
  });
}
